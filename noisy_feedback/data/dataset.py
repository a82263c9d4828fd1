"""All data of one command: reviews, their embeddings, and where both come from."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noisy_feedback.config import Config
from noisy_feedback.data.embeddings import (
    Embeddings,
    EmbeddingsInfo,
    Progress,
    embed,
    find_embeddings,
    find_embeddings_by_sha256,
    read_embeddings_pt,
)
from noisy_feedback.data.encoder import find_encoder
from noisy_feedback.data.reviews import Reviews, Splits, shuffle_splits, split_dataset
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
class Provenance:
    """What a result was made from, and on what."""

    data: ReviewsInfo
    encoder: EmbeddingsInfo
    device: str  # "cpu", or the GPU's model


@dataclass(frozen=True)
class Dataset:
    """Embeddings (n, d) on the device, classes (n,) 0..C-1, the stars (C,) that these stand for, and the texts."""

    embeddings: Tensor
    ratings: np.ndarray
    scale: np.ndarray
    texts: list[str]
    provenance: Provenance


def split_of(config: Config, n: int) -> Splits:
    """The four parts of n rows for one run: in file order, or shuffled by its seed."""
    splits = split_dataset(n)
    return shuffle_splits(splits, rng_for(config.seed, "split")) if config.shuffle else splits


def choose_device(config: Config) -> str:
    """The device that computes. Errors: InputError where --use-cuda finds no GPU that this torch can use."""
    if not config.use_cuda:
        return "cpu"
    if not torch.cuda.is_available():
        print("no GPU found: running on the CPU")
        return "cpu"
    card = "the GPU"
    try:
        card = torch.cuda.get_device_name()
        torch.zeros(1, device="cuda").add_(1).cpu()
    except RuntimeError as error:  # this torch has no kernels for the card, or the driver is broken
        raise InputError(
            f"--use-cuda: {card} cannot compute with torch {torch.__version__} ({str(error).splitlines()[0]}); "
            "install a torch that supports it, or leave out --use-cuda"
        ) from None
    return "cuda"


def load_embeddings(
    config: Config, reviews: Reviews, device: str, progress: Progress, sha256: str | None = None
) -> tuple[Embeddings, str]:
    """The embeddings of the reviews, and how they were obtained, for the screen.

    Stored ones that match, else with --pc those of `embeddings.pt`, else new ones, which are stored. With `sha256`
    exactly the vectors of an earlier result. Errors: InputError where --pc finds none.
    """
    if sha256 is not None:
        same = find_embeddings_by_sha256(reviews.folder, len(reviews.texts), sha256)
        if same is not None:
            return same, "the recorded ones"
    encoder = find_encoder(config.model_name, config.pooling)
    stored = find_embeddings(reviews.texts, encoder, reviews.folder)
    given = reviews.folder / "embeddings.pt"
    if stored is not None:
        ignored = f" (not {given.name}: remove embeddings/ to use it)" if config.pc and given.exists() else ""
        return stored, f"stored beside the data{ignored}"
    if not config.pc:
        return embed(
            reviews.texts,
            encoder,
            reviews.folder,
            stem=reviews.name.partition(".")[0],
            device=device,
            progress=progress,
        ), "computed now"
    if not given.exists():
        raise InputError(
            f"--pc: no stored embeddings of {reviews.name} by {config.model_name} (pooling {config.pooling}) and no "
            f"{given}; run once without --pc to compute them"
        )
    return read_embeddings_pt(given, len(reviews.texts)), f"read from {given}"


def make_dataset(reviews: Reviews, embeddings: Embeddings, device: str) -> Dataset:
    """Put reviews and embeddings together, the vectors on the device."""
    data = ReviewsInfo(reviews.name, len(reviews.texts), reviews.scale.tolist(), reviews.sha256)
    computes = torch.cuda.get_device_name() if device == "cuda" else device
    return Dataset(
        embeddings.vectors.to(device),
        reviews.ratings,
        reviews.scale,
        reviews.texts,
        Provenance(data, embeddings.info, computes),
    )
