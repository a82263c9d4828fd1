"""Which part of the study each review and each human comparison is in: training, validation, fine-tuning, test."""

from dataclasses import dataclass

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.data.preferences import MOST_IN_ONE_GROUP, Judgements
from noisy_feedback.errors import InputError
from noisy_feedback.rng import rng_for

LEFT_OUT = -1
TRAINING, VALIDATION, FINE_TUNING, TEST = range(4)
PARTS = {TRAINING: "training", FINE_TUNING: "fine-tuning", VALIDATION: "validation", TEST: "test"}


@dataclass(frozen=True)
class Splits:
    """Row numbers of the four parts."""

    train: np.ndarray
    validation: np.ndarray
    fine_tuning: np.ndarray
    test: np.ndarray
    judgements: np.ndarray | None = None  # (J,) the part of each human judgement, by number, or LEFT_OUT

    def part_of_rows(self) -> np.ndarray:
        """The part (n,) of each row."""
        parts = (self.train, self.validation, self.fine_tuning, self.test)
        return np.repeat(range(4), [len(rows) for rows in parts])[np.argsort(np.concatenate(parts))]


def split_dataset(n: int, rng: np.random.Generator | None = None) -> Splits:
    """40 % training, 10 % validation, 40 % fine-tuning, the rest test: in file order, or with `rng` in random order."""
    rows = np.arange(n) if rng is None else rng.permutation(n)
    return Splits(*np.split(rows, [n * 4 // 10, n * 5 // 10, n * 9 // 10]))


def split_groups(groups: np.ndarray, rng: np.random.Generator | None = None, what: str = "--group-column") -> Splits:
    """Parts that hold whole groups, of about the same shares: in the order of their numbers, or permuted by `rng`.

    `groups` (n,) are numbers 0..G-1. A group goes to the part that its middle row falls into. Errors: InputError where
    a part stays empty.
    """
    sizes = np.bincount(groups)
    order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    middle = np.empty(len(sizes))
    middle[order] = np.cumsum(sizes[order]) - sizes[order] / 2
    part_of_row = np.searchsorted(np.array([0.4, 0.5, 0.9]) * len(groups), middle, side="right")[groups]
    refuse_empty_parts(part_of_row, what, f"groups ({len(sizes)})")
    return Splits(*(np.flatnonzero(part_of_row == part) for part in range(4)))


def refuse_empty_parts(part_of_row: np.ndarray, what: str, rows: str) -> None:
    """Errors: InputError where a part is empty."""
    for part, name in PARTS.items():
        if not (part_of_row == part).any():
            way_out = "use more data, smaller groups where there are groups, or --shuffle with another --seed"
            raise InputError(f"{what}: too few {rows}: the {name} part is empty; {way_out}")


def split_with_reviews(judgements: Judgements, splits: Splits) -> np.ndarray:
    """The part (J,) of the reviews that both texts are in; LEFT_OUT where they are in two parts, or in training.

    Texts that are not among the reviews count as those of the fine-tuning part.
    """
    chosen, rejected = parts_of_texts(judgements, splits, len(judgements.texts))
    return np.where((chosen == rejected) & (chosen != TRAINING), chosen, LEFT_OUT)


def parts_of_texts(judgements: Judgements, splits: Splits, others: int = 0) -> np.ndarray:
    """The parts (2, J) of the chosen and the rejected texts; FINE_TUNING of `others` after those of the splits."""
    part_of_text = np.append(splits.part_of_rows(), np.full(others, FINE_TUNING))
    return part_of_text[np.stack([judgements.chosen, judgements.rejected])]


def split_alone(config: Config, judgements: Judgements) -> np.ndarray:
    """The part (J,) of each judgement where there are no rated reviews, in file order or shuffled by the seed.

    Which judgements stay in one part, `--split` says: see docs/human_feedback.md. Errors: InputError where a part is
    empty, or one group holds most comparisons.
    """
    rng = rng_for(config.seed, "split") if config.shuffle else None
    if config.split == "texts":
        parts = split_texts(judgements, rng)
        refuse_empty_parts(parts, judgements.name, f"comparisons ({len(parts)})")
        return parts
    groups = kept_together(config, judgements)
    largest = np.bincount(groups).max()
    if largest > MOST_IN_ONE_GROUP * len(groups):
        unused = (split_texts(judgements, rng) == LEFT_OUT).mean()
        raise InputError(
            f"{judgements.name}: {largest:,} of {len(groups):,} comparisons are in one group (a dialogue, a prompt, or "
            f"texts that comparisons connect); --split texts keeps texts apart and leaves out {unused:.0%} of the "
            "comparisons; --split comparisons uses all, but tests on texts that the model knows"
        )
    return split_groups(groups, rng, judgements.name).part_of_rows()


def kept_together(config: Config, judgements: Judgements) -> np.ndarray:
    """Numbers (J,) of what `--split` keeps together; with `texts` the pairs, since texts alone make no groups."""
    return judgements.groups if config.split == "groups" else judgements.pairs


def split_texts(judgements: Judgements, rng: np.random.Generator | None) -> np.ndarray:
    """The part (J,) of each judgement where the texts are split: `--split texts`.

    Pairs of a training and a fine-tuning text reveal nothing of the other parts: every other one is for training.
    """
    texts = max(judgements.chosen.max(), judgements.rejected.max()) + 1
    chosen, rejected = parts_of_texts(judgements, split_dataset(texts, rng))
    parts = np.where(chosen == rejected, chosen, LEFT_OUT)
    across = (chosen != rejected) & np.isin([chosen, rejected], [TRAINING, FINE_TUNING]).all(axis=0)
    parts[across] = np.where(judgements.pairs[across] % 2, TRAINING, FINE_TUNING)
    return parts
