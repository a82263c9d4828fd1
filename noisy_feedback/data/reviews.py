"""A file of reviews -> texts, ratings and rating scale; warnings about the data."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from noisy_feedback.data.columns import (
    FORMATS,
    check_texts,
    first_missing,
    format_of,
    listed,
    read_table,
    select_columns,
    without_invalid,
)
from noisy_feedback.data.layouts import EMPTY, SIDES, find_columns, read_comparisons
from noisy_feedback.data.preferences import MOST_IN_ONE_GROUP, group_dialogues, number
from noisy_feedback.data.splits import Splits
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
    """Texts and their ratings, in file order."""

    name: str
    folder: Path
    sha256: str
    texts: list[str]
    ratings: np.ndarray  # (n,) classes 0..C-1
    scale: np.ndarray  # (C,) the stars that each class stands for
    dropped: dict[str, int] = field(default_factory=dict)  # reviews that were left out, by reason
    groups: np.ndarray | None = None  # (n,) numbers of what must stay in one part of the split, where there are groups


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
    rating or group, fewer than two rating values, too few rows to split.
    """
    frame = read_table(file, "review")
    table = None if text_column in frame.columns else rated_texts(file, frame, group_column)
    if table is None:
        names = [text_column, rating_column, *([group_column] if group_column else [])]
        if len(set(names)) < len(names):
            options = "--text-column, --rating-column and --group-column"
            raise InputError(f"{file}: {options} must differ, and are {listed(names)}")
        table = select_columns(file, frame, names).set_axis(["text", "rating", "group"][: len(names)], axis=1)
    invalid = [first_missing(cells) for cells in table.to_dict("records")]
    table = table.assign(invalid=pd.array(invalid, dtype=object))
    drop = [reason for reason, chosen in (("without text", drop_empty), ("without rating", drop_unrated)) if chosen]
    way_out = "--drop-empty leaves out those without text, --drop-unrated those without rating"
    way_out += "; a group cannot be missing" if group_column else ""
    table, dropped = without_invalid(file, table, drop, "review", way_out)
    check_texts(file, table["text"].rename(None))
    if drop_duplicates:
        dropped["duplicates"] = int(table["text"].duplicated().sum())
        table = table.drop_duplicates("text")
    if len(table) < MIN_REVIEWS:
        raise InputError(f"{file}: too few reviews to split in four: {len(table)}; {MIN_REVIEWS} are the least")
    column = rating_column if rating_column in frame.columns else "score_chosen, score_rejected"
    ratings, scale = classes_of(file, table["rating"].rename(column))
    groups = number(table["group"].astype(str)) if "group" in table else None
    return Reviews(file.name, file.parent, sha256_of(file), table["text"].tolist(), ratings, scale, dropped, groups)


def rated_texts(file: Path, frame: pd.DataFrame, group_column: str | None) -> pd.DataFrame | None:
    """Both texts of each comparison, with their scores as ratings: columns text, rating and group.

    The groups are those of `group_column`, else of group_dialogues; no column where one holds most texts. The index
    counts the rows of the file. None where a file has no scores of chosen and rejected texts. Errors: InputError.
    """
    columns = find_columns({}, set(frame.columns))
    if not {columns.get(role) for role in (*SIDES, "score_chosen", "score_rejected")} <= set(frame.columns):
        return None
    table, _ = read_comparisons(file, frame, {"group": group_column})
    if group_column is None:
        table["group"] = group_dialogues(table)
    sides = (table[[side, f"score_{side}", "group"]].mask(table["invalid"] == EMPTY) for side in SIDES)
    both = pd.concat([side.set_axis(["text", "rating", "group"], axis=1) for side in sides])
    both = both[~both.map(str).duplicated()].sort_index(kind="stable")
    grouped = group_column is not None or table["group"].value_counts().iloc[0] <= MOST_IN_ONE_GROUP * len(table)
    return both if grouped else both.drop(columns="group")


def classes_of(file: Path, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ratings as classes (n,) and the scale (C,). Errors: InputError for ratings that are not integers, or no scale."""
    numbers = pd.to_numeric(column.map(str), errors="coerce").to_numpy(dtype=float, na_value=np.nan)  # True is no 1
    wrong = ~((numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53))
    if wrong.any():
        raise InputError(
            f"{file}: review {column.index[wrong][0] + 1} has the rating {repr(column[wrong].iloc[0])[:100]} (column "
            f"{column.name!r}); ratings must be integers: multiply half stars by two; write '4 stars', '4/5' and '4,0' "
            "as 4, and words as 1, 2, ...; leave the cell empty where there is no rating, and add --drop-unrated; or "
            "name another --rating-column"
        )
    scale, ratings = np.unique(numbers.astype(np.int64), return_inverse=True)
    if not 2 <= len(scale) <= MAX_CLASSES:
        raise InputError(
            f"{file}: column {column.name!r} has too few or too many different values, {len(scale)} ("
            f"{listed(scale, most=3)}); a rating scale has 2 to {MAX_CLASSES}, --rating-column names another column"
        )
    return ratings.astype(np.int64), scale


def class_priors(ratings: np.ndarray, classes: int) -> np.ndarray:
    """Shares (C,) of the classes among ratings (n,)."""
    return np.bincount(ratings, minlength=classes) / len(ratings)


def warn_about(reviews: Reviews, splits: Splits, shuffled: bool) -> list[str]:
    """One line for each property of the data that can mislead a reader of the results; empty where all is well."""
    lines = [] if shuffled else warn_sorted(reviews, splits)
    lines += warn_shared_texts(reviews.texts, splits)
    counts = np.bincount(reviews.ratings)
    if len(rare := np.flatnonzero(counts < RARE)):  # one of a single review may be a typing error
        found = listed(f"{reviews.scale[place]} ({counts[place]})" for place in rare)
        lines.append(f"ratings with fewer than {RARE} reviews, of which a tenth is in the test part: {found}")
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
    parts = pd.Series(splits.part_of_rows()).groupby(np.array(texts, dtype=object), sort=False).nunique()
    shared = set(parts.index[parts > 1])
    if not shared:
        return []
    in_test = sum(texts[row] in shared for row in splits.test)
    return [
        f"texts in more than one part of the split, word for word: {len(shared):,}, also {in_test:,} of the "
        f"{len(splits.test):,} test reviews ({in_test / len(splits.test):.1%}); --drop-duplicates keeps each once"
    ]
