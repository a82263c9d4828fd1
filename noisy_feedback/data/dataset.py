"""All data of one command: reviews, their embeddings, and where both come from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisy_feedback.config import Config
from noisy_feedback.data.embeddings import (
    Embeddings,
    EmbeddingsInfo,
    Progress,
    device_name,
    embed,
    find_embeddings,
    find_embeddings_by_sha256,
    read_embeddings_pt,
)
from noisy_feedback.data.encoder import Encoder, find_encoder
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import Reviews, class_priors
from noisy_feedback.data.splits import Splits, split_alone, split_dataset, split_groups, split_with_reviews
from noisy_feedback.data.summary import summarize
from noisy_feedback.errors import InputError
from noisy_feedback.rng import rng_for


@dataclass(frozen=True)
class ReviewsInfo:
    """Which reviews a result is of."""

    name: str
    rows: int
    scale: list[int]
    sha256: str


@dataclass(frozen=True)
class JudgementsInfo:
    """Which human comparisons a result is of; `check` is what is counted on the screen.

    `texts_sha256` is that of the file of texts whose ids are compared, if there is one.
    """

    name: str
    check: dict[str, Any]
    sha256: str
    texts_sha256: str | None = None


@dataclass(frozen=True)
class Provenance:
    """What a result was made from, and on what."""

    data: ReviewsInfo
    encoder: EmbeddingsInfo
    device: str  # "cpu", or the GPU's model
    judgements: JudgementsInfo | None = None


@dataclass(frozen=True)
class Dataset:
    """Embeddings (n, d) on the device, classes (n,) 0..C-1, the stars (C,) that these stand for, and the texts.

    `groups` (n,) stay together in a split. With `judgements` of m texts that are in no review, embeddings and texts
    are n + m.
    """

    embeddings: Tensor
    ratings: np.ndarray
    scale: np.ndarray
    texts: list[str]
    provenance: Provenance
    groups: np.ndarray | None = None
    judgements: Judgements | None = None

    def split(self, config: Config) -> Splits:
        """The four parts for one run."""
        return split_of(config, len(self.ratings), self.groups, self.judgements)

    @property
    def is_rated(self) -> bool:
        """Whether the texts have ratings: not where there are human comparisons alone."""
        return len(self.scale) > 0

    def class_priors(self, rows: np.ndarray) -> np.ndarray:
        """Shares (C,) of the classes among the ratings of these reviews."""
        return class_priors(self.ratings[rows], len(self.scale))


def split_of(config: Config, n: int, groups: np.ndarray | None = None, judgements: Judgements | None = None) -> Splits:
    """The four parts of n reviews for one run, in file order or shuffled by its seed, and those of the judgements.

    Groups (n,) stay together. Without a file of reviews only the judgements are split. Errors: InputError where a part
    is empty.
    """
    if config.path is None and judgements is not None:
        return replace(split_dataset(0), judgements=split_alone(config, judgements))
    rng = rng_for(config.seed, "split") if config.shuffle else None
    splits = split_dataset(n, rng) if groups is None else split_groups(groups, rng)
    if judgements is None:
        return splits
    return replace(splits, judgements=split_with_reviews(judgements, splits))


def choose_device(config: Config) -> str:
    """The device that computes. Errors: RuntimeError where --use-cuda finds a GPU that this torch cannot use."""
    if not config.use_cuda:
        return "cpu"
    if not torch.cuda.is_available():
        print("no GPU found: running on the CPU")
        return "cpu"
    torch.zeros(1, device="cuda").add_(1).cpu()  # what fails, fails before the work
    return "cuda"


def load_embeddings(
    config: Config, texts: list[str], place: Path, device: str, progress: Progress, sha256: str | None = None
) -> tuple[Embeddings, str]:
    """The embeddings of the texts of a data file in the folder `place`, and how they were obtained, for the screen.

    Stored ones, else with --pc those of `embeddings.pt`, else new ones for the texts that are not stored. With `sha256`
    exactly the vectors of an earlier result. Errors: InputError where --pc finds none.
    """
    folder, given = config.embeddings or place / "embeddings", place / "embeddings.pt"
    if sha256 is not None and (found := find_embeddings_by_sha256(texts, folder, given, sha256)):
        return found, "the recorded ones"
    encoder = encoder_of(config)
    if found := find_embeddings(texts, encoder, folder, device):
        ignored = f" (not {given.name}: remove {folder.name}/ to use it)" if config.pc and given.exists() else ""
        return found, f"stored {f'in {folder}' if config.embeddings else 'beside the data'}{ignored}"
    if not config.pc:
        found = embed(texts, encoder, folder, device, progress)
        part = "" if found.computed == len(texts) else f"{found.computed:,} of {len(texts):,} "
        return found, f"{part}computed now"
    if given.exists():
        return read_embeddings_pt(given, len(texts)), f"read from {given}"
    missing = f"no stored embeddings of the texts by {config.model_name} with these options and no {given}"
    raise InputError(f"--pc: {missing}; run once without --pc to compute them")


def encoder_of(config: Config) -> Encoder:
    """The encoder that the options name."""
    return replace(find_encoder(config.model_name, config.pooling), truncate=config.truncate or "right")


def make_dataset(
    reviews: Reviews, embeddings: Embeddings, device: str, judgements: Judgements | None = None
) -> Dataset:
    """Put reviews, judgements and the embeddings of the texts of both together, the vectors on the device."""
    data = ReviewsInfo(reviews.name, len(reviews.texts), reviews.scale.tolist(), reviews.sha256)
    judged = None
    if judgements is not None:
        check = summarize(judgements)
        judged = JudgementsInfo(judgements.name, check, judgements.sha256, judgements.texts_sha256)
    return Dataset(
        embeddings.vectors.to(device),
        reviews.ratings,
        reviews.scale,
        reviews.texts + (judgements.texts if judgements else []),
        Provenance(data, embeddings.info, device_name(device), judged),
        reviews.groups,
        judgements,
    )
