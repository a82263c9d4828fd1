"""A file of reviews -> texts, ratings and rating scale; the four parts of the study; warnings about the data."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import check_texts, has_no_text, read_columns, read_content
from noisy_feedback.errors import InputError

STUDY_FILE = "tripadvisor_hotel_reviews.csv"
SAMPLE_FILE = "sample_hotel_reviews.csv"
MAX_CLASSES = 100  # a column with more different values holds measurements or row numbers, not ratings
MIN_REVIEWS = 10  # with fewer, one of the four parts would be empty
MIN_PER_RATING = 10  # with fewer reviews of a rating in a part, its scores there are mostly chance
SORTED_FILE = 0.25  # parts of a file in random order hardly ever differ more than this in their ratings
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reviews:
    """Texts and their ratings, in file order.

    `ratings` (n,) holds classes 0..C-1, `scale` (C,) the stars that each class stands for. `dropped` counts the
    reviews that were left out, by reason: "empty", "duplicates". `groups` (n,) are numbers of what must stay in one
    part of the split, where the reviews have groups.
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
        return {
            "training": self.train,
            "validation": self.validation,
            "fine-tuning": self.fine_tuning,
            "test": self.test,
        }


# --- reading


def find_reviews(path: Path) -> Path:
    """The file to read: `path` itself, or in a folder the study's file, or else the bundled sample.

    Errors: InputError where there is none of them.
    """
    try:
        if path.is_file():
            return path
        if not path.is_dir():
            raise InputError(f"--path {path}: no such file or folder{other_place(path)}")
        for name in (STUDY_FILE, SAMPLE_FILE):
            if (path / name).is_file():
                return path / name
    except OSError as error:  # a name that is too long, a parent that may not be read
        raise InputError(f"--path {str(path)[:200]}: {error.strerror}") from None
    raise InputError(
        f"--path {path}: holds neither {STUDY_FILE} (see data/README.md) nor {SAMPLE_FILE}; name a file of reviews"
        f"{other_place(path)}"
    )


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
    drop_empty: bool = False,
    drop_duplicates: bool = False,
    group_column: str | None = None,
) -> Reviews:
    """Read a .csv, .tsv, .jsonl or .parquet file, gzipped or not, of any integer rating scale.

    `drop_empty` leaves out rows without text, `drop_duplicates` all but the first of rows with equal texts.
    Errors: InputError for what cannot be read, a missing column, a row without text, whole rating or group (all
    name the first such row), fewer than two rating values, too few rows to split.
    """
    if text_column == rating_column:
        raise InputError(f"--text-column and --rating-column both name {text_column!r}; they must be two columns")
    if group_column in (text_column, rating_column):
        raise InputError(f"--group-column {group_column}: is the column of texts or ratings; name another one")
    content = read_content(file)
    columns = read_columns(file, content, [text_column, rating_column, *([group_column] if group_column else [])])
    empty = np.array([has_no_text(value) for value in columns[text_column]], dtype=bool)
    if empty.any() and not drop_empty:
        raise InputError(
            f"{file}: no text in {empty.sum()} of {len(columns)} reviews (column {text_column!r}), the first is review "
            f"{empty.argmax() + 1}; --drop-empty leaves them out"
        )
    columns = columns[~empty]
    check_texts(file, columns[text_column])
    duplicates = columns[text_column].duplicated().to_numpy() & drop_duplicates
    columns = columns[~duplicates]
    if len(columns) < MIN_REVIEWS:
        raise InputError(f"{file}: {len(columns)} reviews are too few to split in four; {MIN_REVIEWS} are the least")
    ratings, scale = classes_of(file, columns[rating_column])
    dropped = {"empty": int(empty.sum()), "duplicates": int(duplicates.sum())}
    return Reviews(
        name=file.name,
        folder=file.parent,
        sha256=hashlib.sha256(content).hexdigest(),
        texts=columns[text_column].tolist(),
        ratings=ratings,
        scale=scale,
        dropped={reason: count for reason, count in dropped.items() if count},
        groups=groups_of(file, columns[group_column]) if group_column else None,
    )


def groups_of(file: Path, column: pd.Series) -> np.ndarray:
    """Numbers (n,) of the groups, in the order of their first rows. Errors: InputError naming the first row without."""
    missing = np.array([has_no_text(value) for value in column], dtype=bool)
    if missing.any():
        raise InputError(
            f"{file}: review {int(column.index[int(missing.argmax())]) + 1} has no group; every review needs one "
            f"(column {column.name!r})"
        )
    return pd.factorize(column.astype(str))[0].astype(np.int64)


def classes_of(file: Path, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ratings as classes (n,) and the scale (C,). Errors: InputError for ratings that are none, or no scale."""
    scale, ratings = np.unique(whole_numbers(file, column), return_inverse=True)
    if len(scale) < 2:
        raise InputError(f"{file}: every rating in column {column.name!r} is {scale[0]}; two values are the least")
    if len(scale) > MAX_CLASSES:
        raise InputError(
            f"{file}: column {column.name!r} has {len(scale)} different values; "
            f"a rating scale has at most {MAX_CLASSES}: name another with --rating-column"
        )
    return ratings.astype(np.int64), scale


def whole_numbers(file: Path, column: pd.Series) -> np.ndarray:
    """Ratings as integers (n,). Errors: InputError naming the first row whose rating is missing or not whole."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{file}: review {column.index[row] + 1} has the rating {repr(column.iloc[row])[:100]}; "
            f"every rating must be a whole number (column {column.name!r})"
        )
    return numbers.astype(np.int64)


# --- splitting


def class_priors(ratings: np.ndarray, classes: int) -> np.ndarray:
    """Shares (C,) of the classes among ratings (n,)."""
    return np.bincount(ratings, minlength=classes) / len(ratings)


def split_dataset(n: int) -> Splits:
    """Contiguous parts in file order: 40 % training, 10 % validation, 40 % fine-tuning, the rest test."""
    rows = np.arange(n)
    return Splits(*np.split(rows, [n * 4 // 10, n * 5 // 10, n * 9 // 10]))


def shuffle_splits(splits: Splits, rng: np.random.Generator) -> Splits:
    """Parts of the same sizes over the rows in random order, for files that are sorted."""
    parts = splits.by_name().values()
    rows = rng.permutation(np.concatenate(list(parts)))
    return Splits(*np.split(rows, np.cumsum([len(part) for part in parts])[:-1]))


def split_groups(
    groups: np.ndarray, rng: np.random.Generator | None = None, what: str = "--group-column: groups"
) -> Splits:
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
                f"{what}: {len(sizes)} leave the {name} part empty; use more or smaller groups"
                + ("" if rng is None else ", or another seed")
            )
    return splits


# --- warnings


def warn_about(reviews: Reviews, splits: Splits, shuffled: bool) -> list[str]:
    """One line for each property of the data that can mislead a reader of the results; empty where all is well."""
    found = [
        None if shuffled else warn_sorted(reviews, splits),
        warn_shared_texts(reviews.texts, splits),
        warn_single_ratings(reviews),
        warn_rare_ratings(reviews, splits),
        warn_uneven_scale(reviews.scale),
    ]
    return [line for line in found if line is not None]


def warn_sorted(reviews: Reviews, splits: Splits) -> str | None:
    """The training and the test part of a sorted file have other ratings."""
    counts = np.bincount(reviews.ratings)
    train_shares, test_shares = (
        np.bincount(reviews.ratings[rows], minlength=len(counts)) / len(rows) for rows in (splits.train, splits.test)
    )
    distance = np.abs(train_shares - test_shares).sum() / 2  # total variation distance
    shares = counts / counts.sum()
    variance = shares * (1 - shares) * (1 / len(splits.train) + 1 / len(splits.test))
    by_chance = np.sqrt(variance * 2 / np.pi).sum() / 2  # the expected distance of random parts
    if distance <= max(SORTED_FILE, 2 * by_chance):
        return None
    return (
        f"the ratings of the training and the test part differ by {distance:.0%}: the file seems sorted; "
        "--shuffle puts it in random order"
    )


def warn_shared_texts(texts: list[str], splits: Splits) -> str | None:
    """A text that is in two parts, word for word, is known before it is tested."""
    parts_of: dict[str, set[str]] = {}
    for part, rows in splits.by_name().items():
        for row in rows:
            parts_of.setdefault(texts[row], set()).add(part)
    shared = {text for text, parts in parts_of.items() if len(parts) > 1}
    if not shared:
        return None
    in_test = sum(texts[row] in shared for row in splits.test)
    texts_are = "text is" if len(shared) == 1 else "texts are"
    return (
        f"{len(shared):,} {texts_are} word for word in more than one part of the split, also {in_test:,} of the "
        f"{len(splits.test):,} test reviews ({in_test / len(splits.test):.1%}); "
        "--drop-duplicates keeps the first of each"
    )


def warn_single_ratings(reviews: Reviews) -> str | None:
    """A rating of one review only may be a typing error, and is one more class."""
    single = reviews.scale[np.bincount(reviews.ratings) == 1]
    if not len(single):
        return None
    reviews_have = "one review has the rating" if len(single) == 1 else "one review each has the ratings"
    return f"only {reviews_have} {in_words(single)}; if that is an error in the file, correct it"


def warn_rare_ratings(reviews: Reviews, splits: Splits) -> str | None:
    """Scores of a rating with few reviews in a part are uncertain, and so is macro F1."""
    counts = np.bincount(reviews.ratings)
    rare: dict[str, list[str]] = {}  # parts, by the ratings that are rare in them
    for part, rows in splits.by_name().items():
        in_part = np.bincount(reviews.ratings[rows], minlength=len(counts))
        ratings = reviews.scale[(in_part < MIN_PER_RATING) & (counts > 1)]
        if len(ratings):
            rare.setdefault(in_words(ratings), []).append(part)
    if not rare:
        return None
    places = ", ".join(f"{ratings} in {in_words(parts)}" for ratings, parts in rare.items())
    return f"fewer than {MIN_PER_RATING} reviews of a rating: {places}"


def warn_uneven_scale(scale: np.ndarray) -> str | None:
    """Half of the code counts stars and half places on the scale; on an even scale they agree."""
    if len(set(np.diff(scale).tolist())) == 1:
        return None
    return (
        f"the rating scale {in_words(scale)} has uneven steps: the reward and `adjacent` noise count places on "
        "the scale, the metrics count stars"
    )


def in_words(values: Iterable[Any], most: int = 10) -> str:
    """Values in one line: "1, 2 and 3"; only the first of many."""
    names = [str(value) for value in values]
    if len(names) > most:
        names[most:] = [f"{len(names) - most} others"]
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
