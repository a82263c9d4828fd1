"""A file of reviews -> texts, ratings, rating scale; and the four parts of the study."""

import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from noisy_feedback.errors import InputError

STUDY_FILE = "tripadvisor_hotel_reviews.csv"
SAMPLE_FILE = "sample_hotel_reviews.csv"
DEFAULT_PATH = Path("../data/")
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
MOST_CLASSES = 100  # more different values than this are measurements or row numbers, not ratings
FEWEST_ROWS = 10  # with fewer, one of the four parts would be empty


@dataclass(frozen=True)
class Reviews:
    """Texts and their ratings, in file order.

    `ratings` (n,) holds classes 0..C-1; `labels` (C,) the rating, in stars, that each class stands for.
    """

    name: str
    folder: Path
    sha256: str
    texts: list[str]
    ratings: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Parts:
    """Row numbers of the four parts."""

    train: np.ndarray
    validation: np.ndarray
    fine_tuning: np.ndarray
    test: np.ndarray


def find_reviews(path: Path) -> Path:
    """The file to read: `path` itself, or in a folder the study's file, or else the bundled sample.

    Errors: InputError where there is none of them.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        hint = "; start the script inside its own folder" if path == DEFAULT_PATH else ""
        raise InputError(f"--path {path}: no such file or folder{hint}")
    for name in (STUDY_FILE, SAMPLE_FILE):
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"--path {path}: holds neither {STUDY_FILE} (see data/README.md) nor {SAMPLE_FILE}; name a file of reviews"
    )


def read_reviews(file: Path, text_column: str = "Review", rating_column: str = "Rating") -> Reviews:
    """Read a .csv, .tsv, .jsonl or .parquet file, gzipped or not, of any integer rating scale.

    Errors: InputError for what cannot be read, a missing column, a row without text or whole rating (all
    name the first such row), fewer than two rating values, too few rows to split.
    """
    if text_column == rating_column:
        raise InputError(f"--text-column and --rating-column both name {text_column!r}; they must be two columns")
    content = file.read_bytes()
    if not content:
        raise InputError(f"{file}: the file is empty")
    columns = read_columns(file, content, [text_column, rating_column])
    if len(columns) < FEWEST_ROWS:
        raise InputError(f"{file}: {len(columns)} reviews are too few to split in four; {FEWEST_ROWS} are the least")
    stars = whole_numbers(file, columns[rating_column])
    labels, ratings = np.unique(stars, return_inverse=True)
    if len(labels) < 2:
        raise InputError(f"{file}: every rating in column {rating_column!r} is {labels[0]}; two values are the least")
    if len(labels) > MOST_CLASSES:
        raise InputError(
            f"{file}: column {rating_column!r} has {len(labels)} different values; "
            f"a rating scale has at most {MOST_CLASSES}: name another with --rating-column"
        )
    return Reviews(
        name=file.name,
        folder=file.parent,
        sha256=hashlib.sha256(content).hexdigest(),
        texts=texts_of(file, columns[text_column]),
        ratings=ratings.astype(np.int64),
        labels=labels,
    )


def split(n: int) -> Parts:
    """Contiguous parts in file order: 40 % train, 10 % validation, 40 % fine-tuning, the rest test."""
    rows = np.arange(n)
    return Parts(*np.split(rows, [n * 4 // 10, n * 5 // 10, n * 9 // 10]))


def shuffled(parts: Parts, generator: np.random.Generator) -> Parts:
    """Parts of the same sizes over the rows in random order, for files that are sorted."""
    rows = generator.permutation(np.concatenate([parts.train, parts.validation, parts.fine_tuning, parts.test]))
    ends = np.cumsum([len(parts.train), len(parts.validation), len(parts.fine_tuning)])
    return Parts(*np.split(rows, ends))


def read_columns(file: Path, content: bytes, wanted: list[str]) -> pd.DataFrame:
    """The wanted columns as they stand in the file; text formats as text, nothing taken for a missing value."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    if suffix not in FORMATS:
        raise InputError(f"{file}: unknown kind of file; one of {', '.join(FORMATS)}, or gzipped (.gz)")
    try:
        if zipped:
            content = gzip.decompress(content)
        # As objects, at once: Arrow looks at texts only when they are used.
        frame = parse(suffix, io.BytesIO(content)).astype(object)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: not UTF-8 text (byte {error.start}); convert it, say with iconv -f latin1 -t utf-8"
        ) from None
    except Exception as error:  # a broken file makes the parsers raise many kinds; to the user they are one
        raise InputError(f"{file}: unreadable or cut short as {suffix[1:]}: {str(error)[:200]}") from None
    for column in wanted:
        if list(frame.columns).count(column) != 1:
            found = "no column" if column not in frame.columns else "more than one column"
            raise InputError(
                f"{file}: {found} {column!r}; it has {', '.join(map(repr, frame.columns[:20]))[:300]} "
                "(--text-column and --rating-column name others)"
            )
    return frame[wanted]


def parse(suffix: str, file: IO[bytes]) -> pd.DataFrame:
    if suffix == ".parquet":
        return pd.read_parquet(file)
    if suffix == ".jsonl":
        return pd.read_json(file, lines=True, dtype=False, encoding="utf-8-sig")
    frame = pd.read_csv(
        file, sep="\t" if suffix == ".tsv" else ",", header=None, dtype=str, keep_default_na=False, encoding="utf-8"
    )
    return frame.iloc[1:].set_axis(frame.iloc[0], axis=1)  # read so, a column named twice keeps its name


def whole_numbers(file: Path, column: pd.Series) -> np.ndarray:
    """Ratings as integers (n,); InputError names the first row whose rating is missing or not whole."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**53))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{file}: review {row + 1} has the rating {repr(column.iloc[row])[:100]}; "
            f"every rating must be a whole number (column {column.name!r})"
        )
    return numbers.astype(np.int64)


def texts_of(file: Path, column: pd.Series) -> list[str]:
    """Reviews as a list of texts; InputError names the first row that holds none."""
    texts = column.tolist()
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"{file}: review {row + 1} is {'empty' if isinstance(text, str) else repr(text)[:100]}; "
                f"every review must be text (column {column.name!r})"
            )
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(f"{file}: review {row + 1} holds half a character (a lone surrogate); mend or drop it")
    return texts
