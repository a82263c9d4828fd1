"""How a protocol makes comparisons from ratings: small classes with the same methods."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.feedback import comparisons


class ComparisonProtocol(Protocol):
    """What every protocol provides. `ratings` (n,) are classes 0..C-1, `scale` (C,) their stars."""

    def build(self, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Lists (L, k+1) of positions in `ratings`, best first. Errors: InputError where there is none."""

    def is_possible(self, ratings: np.ndarray, scale: np.ndarray) -> bool:
        """Can one comparison at least be made? Much faster than `build`."""

    def describe(self) -> str:
        """The kind of comparison, for the screen."""

    def file_name_part(self) -> str:
        """What it adds to the name of a results folder."""


@dataclass(frozen=True)
class DifferentRatings:
    """`multiclass`: lists of k + 1 reviews whose ratings are all different."""

    k: int

    def build(self, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return comparisons.build_lists(ratings, self.k, len(scale), rng)

    def is_possible(self, ratings: np.ndarray, scale: np.ndarray) -> bool:
        counts = np.bincount(ratings, minlength=len(scale))
        return self.k < len(scale) and comparisons.max_lists(counts, self.k + 1) > 0

    def describe(self) -> str:
        return f"lists of {self.k + 1} different ratings"

    def file_name_part(self) -> str:
        return f"multiclass_k{self.k}"


@dataclass(frozen=True)
class StarGap:
    """`binary`, the study's *selective* pairs: ratings exactly `gap` stars apart, so 1 against 4 and 2 against 5."""

    gap: int = 3

    def build(self, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return comparisons.build_pairs(scale[ratings], scale, self.gap, rng)

    def is_possible(self, ratings: np.ndarray, scale: np.ndarray) -> bool:
        stars = np.unique(scale[ratings])
        return bool(np.isin(stars + self.gap, stars).any())

    def describe(self) -> str:
        return f"pairs {self.gap} stars apart"

    def file_name_part(self) -> str:
        return "binary"


@dataclass(frozen=True)
class Judged(DifferentRatings):
    """`human`: pairs that people judged (feedback/people.py). Where ratings are known, pairs of different ones."""

    k: int = 1
    labels: str = "all"

    def describe(self) -> str:
        return f"comparisons that people made ({self.labels})"

    def file_name_part(self) -> str:
        return "human"


def protocol_of(config: Config) -> ComparisonProtocol:
    """The protocol that a configuration names."""
    protocols: dict[str, ComparisonProtocol] = {
        "multiclass": DifferentRatings(config.k),
        "binary": StarGap(),
        "human": Judged(labels=config.labels),
    }
    return protocols[config.protocol]
