"""A file of reviews -> texts, ratings and rating scale; the four parts of the study; warnings about the data."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import (
    FORMATS,
    check_texts,
    format_of,
    has_no_text,
    listed,
    read_table,
    select_columns,
)
from noisy_feedback.data.layouts import rated_texts
from noisy_feedback.errors import InputError
from noisy_feedback.files import sha256_of

STUDY_FILE = "tripadvisor_hotel_reviews.csv"
SAMPLE_FILE = "sample_hotel_reviews.csv"
MAX_CLASSES = 100  # a column with more different values holds measurements or row numbers, not ratings
MIN_REVIEWS = 10  # with fewer, one of the four parts would be empty
RARE = 100  # with fewer reviews of a rating its scores in the test part, a tenth, are mostly chance
SORTED_FILE = 0.25  # parts of a file in random order hardly ever differ more than this in their ratings


@dataclass(frozen=True)
class Reviews:
    """Texts and their ratings, in file order.

    `ratings` (n,) holds classes 0..C-1, `scale` (C,) the stars that each class stands for. `dropped` counts the
    reviews that were left out, by reason: "empty", "unrated", "duplicates". `groups` (n,) are numbers of what must stay
    in one part of the split, where the reviews have groups.
    """

    name: str
    folder: Path
    sha256: str
    texts: list[str]
    ratings: np.ndarray
    scale: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Splits:
    """Row numbers of the four parts."""

    train: np.ndarray
    validation: np.ndarray
    fine_tuning: np.ndarray
    test: np.ndarray
    judgements: np.ndarray | None = None  # (J,) the part of each human judgement, by number; -1: none

    def by_name(self) -> dict[str, np.ndarray]:
        """The parts with their names in messages."""
        parts = self.train, self.validation, self.fine_tuning, self.test
        return dict(zip(("training", "validation", "fine-tuning", "test"), parts, strict=True))

    def part_of_rows(self) -> np.ndarray:
        """The part (n,) of each row: 0 to 3, in the order of `by_name`."""
        parts = list(self.by_name().values())
        return np.repeat(range(4), [len(rows) for rows in parts])[np.argsort(np.concatenate(parts))]


def find_reviews(path: Path) -> Path:
    """The file to read: `path` itself, or of a folder the study's file, else the bundled sample, else its only file.

    Errors: InputError where a folder has none of them.
    """
    if not path.is_dir():
        return path
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    files = [name for name in names if format_of(Path(name)) in FORMATS]
    for name in (STUDY_FILE, SAMPLE_FILE, files[0] if len(files) == 1 else ""):
        if name in files:
            return path / name
    raise InputError(f"--path {path.absolute()}: holds {listed(names) or 'nothing'}; name a file of reviews")


def read_reviews(
    file: Path,
    text_column: str = "Review",
    rating_column: str = "Rating",
    group_column: str | None = None,
    drop_empty: bool = False,
    drop_unrated: bool = False,
    drop_duplicates: bool = False,
) -> Reviews:
    """Read a .csv, .tsv, .json, .jsonl or .parquet file, gzipped or not, of any integer rating scale.

    A file of comparisons with scores, without the column of texts, gives both texts of each: see rated_texts.
    `drop_empty` leaves out rows without text, `drop_unrated` those without rating, `drop_duplicates` all but the first
    of rows with equal texts. Errors: InputError for what cannot be read, a missing column, rows without text, integer
    rating or group (all name the first such row), fewer than two rating values, too few rows to split.
    """
    names = [name for name in (text_column, rating_column, group_column) if name is not None]
    if len(set(names)) < len(names):
        raise InputError(f"--text-column, --rating-column, --group-column: {listed(names)}; they must differ")
    frame = read_table(file, "review")
    rated = None if text_column in frame.columns else rated_texts(file, frame, group_column)
    if rated is None:
        columns = select_columns(file, frame, names)
    else:
        columns, names = rated, list(rated.columns)
    dropped = {}
    required = [("text", drop_empty, "empty"), ("rating", drop_unrated, "unrated"), ("group", False, "")]
    for name, (what, drop, reason) in zip(names, required, strict=False):
        missing = columns[name].map(has_no_text).to_numpy(dtype=bool)
        if missing.any() and not drop:
            way_out = f"--drop-{reason} leaves them out" if reason else "every review needs one"
            raise InputError(
                f"{file}: no {what} in {missing.sum():,} of {len(columns):,} reviews (column {name!r}), first in "
                f"review {columns.index[missing][0] + 1}; {way_out}"
            )
        columns, dropped[reason] = columns[~missing], int(missing.sum())
    check_texts(file, columns[names[0]])
    duplicates = columns[names[0]].duplicated().to_numpy() & drop_duplicates
    columns, dropped["duplicates"] = columns[~duplicates], int(duplicates.sum())
    if len(columns) < MIN_REVIEWS:
        raise InputError(f"{file}: too few reviews to split in four: {len(columns)}; {MIN_REVIEWS} are the least")
    ratings, scale = classes_of(file, columns[names[1]])
    groups = pd.factorize(columns[names[2]].astype(str))[0].astype(np.int64) if len(names) > 2 else None
    dropped = {reason: count for reason, count in dropped.items() if count}
    return Reviews(file.name, file.parent, sha256_of(file), columns[names[0]].tolist(), ratings, scale, dropped, groups)


def classes_of(file: Path, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ratings as classes (n,) and the scale (C,). Errors: InputError for ratings that are not integers, or no scale."""
    numbers = pd.to_numeric(column.map(str), errors="coerce").to_numpy(dtype=float, na_value=np.nan)  # True is no 1
    wrong = ~((numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53))
    if wrong.any():
        raise InputError(
            f"{file}: review {column.index[wrong][0] + 1} has the rating {repr(column[wrong].iloc[0])[:100]}; ratings "
            "must be integers: double half stars, write '4 stars', '4/5' and '4,0' as 4, and words as 1, 2, ...; empty "
            f"what is no rating, for --drop-unrated, or name another --rating-column (column {column.name!r})"
        )
    scale, ratings = np.unique(numbers.astype(np.int64), return_inverse=True)
    if not 2 <= len(scale) <= MAX_CLASSES:
        raise InputError(
            f"{file}: different values in column {column.name!r}: {len(scale)} ({listed(scale, most=3)}); a rating "
            f"scale has 2 to {MAX_CLASSES}, --rating-column names another column"
        )
    return ratings.astype(np.int64), scale


def class_priors(ratings: np.ndarray, classes: int) -> np.ndarray:
    """Shares (C,) of the classes among ratings (n,)."""
    return np.bincount(ratings, minlength=classes) / len(ratings)


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
    part = np.searchsorted(np.array([0.4, 0.5, 0.9]) * len(groups), middle, side="right")[groups]
    splits = Splits(*(np.flatnonzero(part == number) for number in range(4)))
    for name, rows in splits.by_name().items():
        if not len(rows):
            raise InputError(
                f"{what}: {len(sizes)} groups leave the {name} part empty; use more or smaller groups, or --shuffle "
                "with another --seed"
            )
    return splits


def warn_about(reviews: Reviews, splits: Splits, shuffled: bool) -> list[str]:
    """One line for each property of the data that can mislead a reader of the results; empty where all is well."""
    lines = [] if shuffled else warn_sorted(reviews, splits)
    lines += warn_shared_texts(reviews.texts, splits)
    counts = np.bincount(reviews.ratings)
    if len(single := reviews.scale[counts == 1]):  # each may be a typing error, and is one more class
        lines.append(f"ratings of one review only: {listed(single)}; correct those that are errors")
    if len(rare := reviews.scale[(counts > 1) & (counts < RARE)]):
        lines.append(f"fewer than {RARE} reviews of a rating, a tenth of them in the test part: {listed(rare)}")
    if len(np.unique(np.diff(reviews.scale))) > 1:
        lines.append(
            f"the rating scale {listed(reviews.scale)} has uneven steps: the reward and `adjacent` noise count places "
            "on the scale, the metrics count stars"
        )
    return lines


def warn_sorted(reviews: Reviews, splits: Splits) -> list[str]:
    """The training and the test part of a sorted file have other ratings."""
    parts, classes = (splits.train, splits.test), len(reviews.scale)
    train, test = (class_priors(reviews.ratings[rows], classes) for rows in parts)
    distance = np.abs(train - test).sum() / 2  # total variation distance
    shares = class_priors(reviews.ratings, classes)
    variance = shares * (1 - shares) * sum(1 / len(rows) for rows in parts)
    by_chance = np.sqrt(variance * 2 / np.pi).sum() / 2  # the expected distance of random parts
    if distance <= max(SORTED_FILE, 2 * by_chance):
        return []
    differ = f"the ratings of the training and the test part differ by {distance:.0%}"
    return [f"{differ}: the file seems sorted; --shuffle puts it in random order"]


def warn_shared_texts(texts: list[str], splits: Splits) -> list[str]:
    """A text that is in two parts, word for word, is known before it is tested."""
    parts = ({texts[row] for row in rows} for rows in splits.by_name().values())
    shared = {text for text, count in Counter(chain(*parts)).items() if count > 1}
    if not shared:
        return []
    in_test = sum(texts[row] in shared for row in splits.test)
    return [
        f"texts in more than one part of the split, word for word: {len(shared):,}, also {in_test:,} of the "
        f"{len(splits.test):,} test reviews ({in_test / len(splits.test):.1%}); --drop-duplicates keeps each once"
    ]
