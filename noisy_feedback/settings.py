"""What a user can set. Light on purpose: it is read before anything heavy is imported."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

LOSSES = (
    "study",
    "bradley-terry",
    "plackett-luce",
    "hinge",
    "conservative",
    "unbiased",
    "sigmoid",
    "dr-dpo",
)
DEPARTURES = ("labels", "noise", "order")
HEADS = ("categorical", "scalar")
NOISES = ("uniform", "adjacent", "pairs", "hard")
# What a sweep combines beside seeds and ratios: columns of its tables, and the settings that they show.
COMBINATION = {"preference_loss": "loss", "anchor": "anchor", "noise": "noise"}
SEEDS_AT_ONCE = 10  # per stack or task: what a kill or a lost worker can cost, and what bounds the memory


@dataclass(frozen=True)
class Study:
    """What is particular to one script: how comparisons are built, and its defaults."""

    name: str
    gap: int | None  # None: lists of k+1 different ratings; a number: pairs exactly so many stars apart
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
    head: str
    noise: str
    loss: str
    anchor: float
    flip_rate: float | None  # None: as the noise implies
    as_published: Sequence[str]  # departures of the published code, switched on to be seen
    epochs_t: int
    epochs_f: int
    lr_f: float
    batch_f: int
    seed: int
    shuffle: bool
    text_column: str
    rating_column: str
    output: Path


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in seed, loss, anchor, noise and ratio alone; `run` holds what they share."""

    run: Settings
    seeds: Sequence[int]
    losses: Sequence[str]
    anchors: Sequence[float]
    noises: Sequence[str]
    ratios: Sequence[float]
    dask: str | None

    def runs(self) -> list[Settings]:
        """Every run, seed by seed, all rising: the files are the same in whatever order they were asked for."""
        return [
            replace(self.run, seed=seed, loss=loss, anchor=anchor, noise=noise, ratio=ratio)
            for seed in sorted(set(self.seeds))
            for loss in sorted(set(self.losses), key=LOSSES.index)
            for anchor in sorted(set(self.anchors))
            for noise in sorted(set(self.noises), key=NOISES.index)
            for ratio in sorted(set(self.ratios))
        ]


def groups_of_seeds(runs: Sequence[Settings], size: int) -> list[list[Settings]]:
    """The runs in groups of at most `size` seeds."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    groups = [set(seeds[start : start + size]) for start in range(0, len(seeds), size)]
    return [[run for run in runs if run.seed in group] for group in groups]
