"""A file of reviews -> texts, ratings and rating scale; the four parts of the study; warnings about the data."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import (
    FORMATS,
    check_texts,
    format_of,
    has_no_text,
    read_content,
    read_table,
    select_columns,
)
from noisy_feedback.data.layouts import rated_texts
from noisy_feedback.errors import InputError

STUDY_FILE = "tripadvisor_hotel_reviews.csv"
SAMPLE_FILE = "sample_hotel_reviews.csv"
MAX_CLASSES = 100  # a column with more different values holds measurements or row numbers, not ratings
MIN_REVIEWS = 10  # with fewer, one of the four parts would be empty
RARE = 100  # with fewer reviews of a rating its scores in the test part, a tenth, are mostly chance
SORTED_FILE = 0.25  # parts of a file in random order hardly ever differ more than this in their ratings
WAYS_OUT = {  # patterns of ratings that are not integers; the first that matches counts
    r"-?[0-9]*\.50*": "double all of them (half stars)",
    r"-?[0-9]+,[0-9]+": "write a point instead of the comma",
    r"[0-9.,]+ ?/.*": "keep the number before the slash",
    r"\D*[0-9]+([.,][0-9]+)?\D+|\D+[0-9]+": "keep the number alone",
    r"(?i)nan?|n/a|null|none": "empty the cell, for --drop-unrated",
    r"\D+": "write integers for words, such as 1 and 2 for negative and positive",
    r"(?s).*": "round or correct it, or name another --rating-column",
}
PROJECT = Path(__file__).parents[2]


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


def find_reviews(path: Path) -> Path:
    """The file to read: `path` itself, or in a folder the study's file, else the bundled sample, else its only file.

    Errors: InputError where there is none of them.
    """
    if path.parts[:1] in (("http:",), ("https:",)):
        raise InputError(f"--path {path}: a web address; download the file first")
    try:
        if path.is_file():
            return path
        if not path.is_dir():
            raise InputError(f"--path {path}: no such file or folder{other_place(path)}")
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:  # a name that is too long, a parent that may not be read
        raise InputError(f"--path {str(path)[:200]}: {error.strerror}") from None
    files = [name for name in names if format_of(Path(name)) in FORMATS]
    for name in (STUDY_FILE, SAMPLE_FILE, files[0] if len(files) == 1 else ""):
        if name in files:
            return path / name
    raise InputError(f"--path {path}: holds {join_words(names)}; name a file of reviews{other_place(path)}")


def other_place(path: Path) -> str:
    """Where a relative path leads from the project's folders, for scripts that are started from another folder."""
    if not path.is_absolute():
        for start in (PROJECT / "multiclass", PROJECT):
            place = (start / path).resolve()
            if place.exists() and place != path.resolve():
                return f"; paths start in the current folder, did you mean {place}?"
    return ""


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
        raise InputError(f"--text-column, --rating-column, --group-column: {join_words(names)}; they must differ")
    content = read_content(file)
    frame = read_table(file, content, "review")
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
        raise InputError(f"{file}: {len(columns)} reviews are too few to split in four; {MIN_REVIEWS} are the least")
    ratings, scale = classes_of(file, columns[names[1]])
    groups = pd.factorize(columns[names[2]].astype(str))[0].astype(np.int64) if len(names) > 2 else None
    dropped = {reason: count for reason, count in dropped.items() if count}
    sha256 = hashlib.sha256(content).hexdigest()
    return Reviews(file.name, file.parent, sha256, columns[names[0]].tolist(), ratings, scale, dropped, groups)


def classes_of(file: Path, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ratings as classes (n,) and the scale (C,). Errors: InputError for ratings that are not integers, or no scale."""
    numbers = pd.to_numeric(column.map(str), errors="coerce").to_numpy(dtype=float, na_value=np.nan)  # True is no 1
    wrong = ~((numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53))
    if wrong.any():
        row, value = column.index[wrong][0], column[wrong].iloc[0]
        way_out = next(words for pattern, words in WAYS_OUT.items() if re.fullmatch(pattern, str(value).strip()))
        raise InputError(
            f"{file}: review {row + 1} has the rating {repr(value)[:100]}; ratings must be integers: {way_out} "
            f"(column {column.name!r})"
        )
    scale, ratings = np.unique(numbers.astype(np.int64), return_inverse=True)
    if not 2 <= len(scale) <= MAX_CLASSES:
        raise InputError(
            f"{file}: different values in column {column.name!r}: {len(scale)} ({join_words(scale, most=3)}); a rating "
            f"scale has 2 to {MAX_CLASSES}, --rating-column names another column"
        )
    return ratings.astype(np.int64), scale


def class_priors(ratings: np.ndarray, classes: int) -> np.ndarray:
    """Shares (C,) of the classes among ratings (n,)."""
    return np.bincount(ratings, minlength=classes) / len(ratings)


def split_dataset(n: int) -> Splits:
    """Contiguous parts in file order: 40 % training, 10 % validation, 40 % fine-tuning, the rest test."""
    return Splits(*np.split(np.arange(n), [n * 4 // 10, n * 5 // 10, n * 9 // 10]))


def shuffle_splits(splits: Splits, rng: np.random.Generator) -> Splits:
    """Parts of the same sizes over the rows in random order, for files that are sorted."""
    parts = splits.by_name().values()
    rows = rng.permutation(np.concatenate(list(parts)))
    return Splits(*np.split(rows, np.cumsum([len(part) for part in parts])[:-1]))


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
                f"{what}: {len(sizes)} groups leave the {name} part empty; use more or smaller groups"
                + ("" if rng is None else ", or another seed")
            )
    return splits


def warn_about(reviews: Reviews, splits: Splits, shuffled: bool) -> list[str]:
    """One line for each property of the data that can mislead a reader of the results; empty where all is well."""
    lines = (
        "" if shuffled else warn_sorted(reviews, splits),
        warn_shared_texts(reviews.texts, splits),
        *warn_rare_ratings(reviews),
        warn_uneven_scale(reviews.scale),
    )
    return [line for line in lines if line]


def warn_sorted(reviews: Reviews, splits: Splits) -> str:
    """The training and the test part of a sorted file have other ratings."""
    parts, classes = (splits.train, splits.test), len(reviews.scale)
    train, test = (class_priors(reviews.ratings[rows], classes) for rows in parts)
    distance = np.abs(train - test).sum() / 2  # total variation distance
    shares = class_priors(reviews.ratings, classes)
    variance = shares * (1 - shares) * sum(1 / len(rows) for rows in parts)
    by_chance = np.sqrt(variance * 2 / np.pi).sum() / 2  # the expected distance of random parts
    if distance <= max(SORTED_FILE, 2 * by_chance):
        return ""
    return (
        f"the ratings of the training and the test part differ by {distance:.0%}: the file seems sorted; "
        "--shuffle puts it in random order"
    )


def warn_shared_texts(texts: list[str], splits: Splits) -> str:
    """A text that is in two parts, word for word, is known before it is tested."""
    parts = ({texts[row] for row in rows} for rows in splits.by_name().values())
    shared = {text for text, count in Counter(chain(*parts)).items() if count > 1}
    if not shared:
        return ""
    in_test = sum(texts[row] in shared for row in splits.test)
    return (
        f"texts in more than one part of the split, word for word: {len(shared):,}, also {in_test:,} of the "
        f"{len(splits.test):,} test reviews ({in_test / len(splits.test):.1%}); --drop-duplicates keeps each once"
    )


def warn_rare_ratings(reviews: Reviews) -> tuple[str, str]:
    """A rating of one review may be a typing error, and is one more class; scores of a rare rating are uncertain."""
    counts = np.bincount(reviews.ratings)
    single, rare = (reviews.scale[which] for which in (counts == 1, (counts > 1) & (counts < RARE)))
    return (
        f"ratings of one review only: {join_words(single)}; correct those that are errors" if len(single) else "",
        f"fewer than {RARE} reviews of a rating, a tenth of them in the test part: {join_words(rare)}"
        if len(rare)
        else "",
    )


def warn_uneven_scale(scale: np.ndarray) -> str:
    """Half of the code counts stars and half places on the scale; on an even scale they agree."""
    if len(set(np.diff(scale).tolist())) == 1:
        return ""
    return (
        f"the rating scale {join_words(scale)} has uneven steps: the reward and `adjacent` noise count places on "
        "the scale, the metrics count stars"
    )


def join_words(values: Iterable[Any], most: int = 10) -> str:
    """Values in one line: "1, 2 and 3"; only the first of many."""
    names = [str(value) for value in values] or ["nothing"]
    if len(names) > most:
        names[most:] = [f"{len(names) - most} others"]
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
