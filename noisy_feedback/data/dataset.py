"""All data of one command: reviews, their embeddings, and where both come from."""

from dataclasses import dataclass, replace
from pathlib import Path

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
from noisy_feedback.data.reviews import Reviews, Splits, class_priors, split_dataset, split_groups
from noisy_feedback.data.splits import split_alone, split_with_reviews
from noisy_feedback.data.summary import Summary, summarize
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
    """Which human comparisons a result is of, and the SHA-256 of the embeddings of texts that are in no review.

    `texts_sha256` is that of the file of texts whose ids are compared, if there is one. `check` is what is
    counted on the screen.
    """

    name: str
    check: Summary
    sha256: str
    embeddings_sha256: str | None
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
    config: Config, reviews: Reviews, device: str, progress: Progress, sha256: str | None = None
) -> tuple[Embeddings, str]:
    """The embeddings of the reviews, and how they were obtained, for the screen.

    Stored ones, else with --pc those of `embeddings.pt`, else new ones for the texts that are not stored. With `sha256`
    exactly the vectors of an earlier result. Errors: InputError where --pc finds none.
    """
    folder, given = config.embeddings or reviews.folder / "embeddings", reviews.folder / "embeddings.pt"
    if sha256 is not None and (same := find_embeddings_by_sha256(reviews.texts, folder, given, sha256)):
        return same, "the recorded ones"
    found = find_or_embed(config, reviews.texts, folder, device, progress)
    if found is None and given.exists():
        return read_embeddings_pt(given, len(reviews.texts)), f"read from {given}"
    if found is None:
        missing = f"no stored embeddings of {reviews.name} by {config.model_name} with these options and no {given}"
        raise InputError(f"--pc: {missing}; run once without --pc to compute them")
    if found.computed:
        part = "" if found.computed == len(reviews.texts) else f"{found.computed:,} of {len(reviews.texts):,} "
        return found, f"{part}computed now"
    ignored = f" (not {given.name}: remove {folder.name}/ to use it)" if config.pc and given.exists() else ""
    return found, f"stored {f'in {folder}' if config.embeddings else 'beside the data'}{ignored}"


def find_or_embed(config: Config, texts: list[str], folder: Path, device: str, progress: Progress) -> Embeddings | None:
    """Embeddings of the texts, of which those that are not stored are computed; None where --pc forbids that."""
    encoder = encoder_of(config)
    found = find_embeddings(texts, encoder, folder, device)
    return found if found is not None or config.pc else embed(texts, encoder, folder, device, progress)


def encoder_of(config: Config) -> Encoder:
    """The encoder that the options name."""
    return replace(find_encoder(config.model_name, config.pooling), truncate=config.truncate or "right")


def load_text_embeddings(
    config: Config, judgements: Judgements, reviews: EmbeddingsInfo, device: str, progress: Progress
) -> Embeddings | None:
    """Embeddings of the texts that are in no review, stored beside the comparisons; None where there are none.

    Errors: InputError where the vectors of the reviews were given, or by --pc these are not stored.
    """
    if not judgements.texts:
        return None
    count = f"{len(judgements.texts):,} texts of {judgements.name} are not among the reviews"
    if reviews.pooling is None:
        raise InputError(f"--pc: {count}, and {reviews.model} does not name the encoder to embed them; leave it out")
    folder = config.embeddings or judgements.folder / "embeddings"
    if (found := find_or_embed(config, judgements.texts, folder, device, progress)) is None:
        raise InputError(f"--pc: {count}, and have no stored embeddings; run once without --pc to compute them")
    return found


def make_dataset(
    reviews: Reviews,
    embeddings: Embeddings,
    device: str,
    judgements: Judgements | None = None,
    others: Embeddings | None = None,
) -> Dataset:
    """Put reviews, judgements and embeddings together, the vectors on the device; `others` are of further texts."""
    data = ReviewsInfo(reviews.name, len(reviews.texts), reviews.scale.tolist(), reviews.sha256)
    vectors = embeddings.vectors if others is None else torch.cat([embeddings.vectors, others.vectors])
    info = None
    if judgements is not None:
        sha256 = None if others is None else others.info.sha256
        check = summarize(judgements)
        info = JudgementsInfo(judgements.name, check, judgements.sha256, sha256, judgements.texts_sha256)
    return Dataset(
        vectors.to(device),
        reviews.ratings,
        reviews.scale,
        reviews.texts + (judgements.texts if judgements else []),
        Provenance(data, embeddings.info, device_name(device), info),
        reviews.groups,
        judgements,
    )
