"""What a user can set. Light on purpose: it is read before anything heavy is imported."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Study:
    """What is particular to one script: how comparisons are built, and its defaults."""

    name: str
    gap: int | None  # None: lists of k+1 different ratings; a number: pairs that differ by exactly so many stars
    epochs_t: int
    epochs_f: int
    lr_f: float
    batch_f: int


@dataclass(frozen=True)
class Settings:
    """One run: the study it belongs to and the arguments it was started with."""

    study: str
    gap: int | None
    path: Path
    model_name: str
    pooling: str
    pc: bool
    use_cuda: bool
    ratio: float
    k: int
    epochs_t: int
    epochs_f: int
    lr_f: float
    batch_f: int
    seed: int
    shuffle: bool
    text_column: str
    rating_column: str
    output: Path
