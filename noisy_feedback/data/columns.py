"""Columns of a .csv, .tsv, .json, .jsonl or .parquet file, gzipped or not, exactly as they are in the file."""

import codecs
import gzip
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.errors import InputError

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
WAYS_OUT = {".xlsx": "save it as CSV", ".xls": "save it as CSV", ".zip": "unzip it"}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
BETWEEN_FIELDS = {",": re.compile(r"(?<![0-9]),(?! )|,(?! |[0-9]{3}\b)"), "\t": re.compile(r"\t")}  # not "1,000, or so"
SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}
LINE_BREAK = re.compile(r"\r\n|\r|\n")
INTEGER = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*")
HINT = "--text-column, --rating-column and --group-column name others"
LONG_TEXT = 20  # characters: the name of a column is hardly ever longer


def format_of(file: Path) -> str:
    """The suffix that names the format of a file, gzipped or not."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def read_content(file: Path) -> bytes:
    """The bytes of a file. Errors: InputError where it cannot be read, or is empty."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    if not content:
        raise InputError(f"{file}: the file is empty")
    return content


def read_table(file: Path, content: bytes, row: str) -> pd.DataFrame:
    """All columns, as they are in the file; messages call a row `row`.

    .csv and .tsv give texts, and no value is taken for a missing one. The index counts the rows of the file from 0.
    Errors: InputError for a file that cannot be read.
    """
    suffix = format_of(file)
    if suffix not in FORMATS:
        way_out = WAYS_OUT.get(suffix, f"one of {', '.join(FORMATS)}, or gzipped (.gz)")
        raise InputError(f"{file}: unknown kind of file; {way_out}")
    try:
        if file.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        if suffix != ".parquet":
            check_encoding(file, content)
        if suffix in SEPARATORS:
            check_separator(file, suffix, content)
        # As Python objects, at once: Arrow checks that texts are UTF-8 only when they are used.
        frame = parse(suffix, content).astype(object).reset_index(drop=True)
    except InputError:
        raise
    except Exception as error:  # a broken file makes the parsers raise many kinds; for the user they are one
        quote = re.search(r"EOF inside string starting at row (\d+)", str(error))
        reason = f'a quote (") that opens in {row} {quote[1]} is not closed' if quote else str(error).strip()[:200]
        raise InputError(f"{file}: unreadable or cut short as {suffix[1:]}: {reason}") from None
    if suffix in SEPARATORS:
        check_quotes(file, frame, SEPARATORS[suffix], row)
    return frame


def select_columns(
    file: Path, frame: pd.DataFrame, wanted: Sequence[str], hint: str = HINT, row: str = "review"
) -> pd.DataFrame:
    """The wanted columns. Errors: InputError, which ends with `hint`, unless each is there once."""
    for column in wanted:
        if list(frame.columns).count(column) != 1:
            if any(map(is_integer, frame.columns)) and any(len(str(name)) > LONG_TEXT for name in frame.columns):
                raise InputError(f"{file}: its first line looks like a {row}; add a line of column names above it")
            found = "no column" if column not in frame.columns else "more than one column"
            names = ", ".join(map(repr, frame.columns[:20]))[:300]
            raise InputError(f"{file}: {found} {column!r}; it has {names} ({hint})")
    return frame[list(wanted)]


def parse(suffix: str, content: bytes) -> pd.DataFrame:
    """All columns of a file, by its format."""
    file = io.BytesIO(content)
    if suffix == ".parquet":
        return pd.read_parquet(file)
    if suffix not in SEPARATORS:
        is_array = content[:1000].removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
        return pd.read_json(file, lines=not is_array, dtype=False, encoding="utf-8-sig")
    frame = pd.read_csv(file, sep=SEPARATORS[suffix], header=None, dtype=str, keep_default_na=False, encoding="utf-8")
    return frame.iloc[1:].set_axis(frame.iloc[0], axis=1)  # pandas would rename the second column of the same name


def check_encoding(file: Path, content: bytes) -> None:
    """Refuse text that is not UTF-8. Errors: InputError naming the line and the way out."""
    start = content[:1000]
    zeros = [start[::2].count(0), start[1::2].count(0)]  # one of the two bytes of a Latin letter in UTF-16
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or (min(zeros) == 0 and max(zeros) > len(start) // 3):
        raise InputError(f"{file}: UTF-16, not UTF-8 text; convert it, for example with iconv -f utf-16 -t utf-8")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        place = f"line {len(LINE_BREAK.split(content[: error.start].decode()))}"
        raise InputError(
            f"{file}: {place} is not UTF-8 text; convert the file, for example with iconv -f cp1252 -t utf-8"
        ) from None


def check_separator(file: Path, suffix: str, content: bytes) -> None:
    """Refuse columns that are separated by another character than the suffix says. Errors: InputError."""
    expected, header = SEPARATORS[suffix], LINE_BREAK.split(content[:1000].decode(errors="replace").lstrip())[0]
    found = max(SEPARATOR_NAMES, key=header.count)
    if header.count(found) and not header.count(expected):
        way_out = f"rename it to {'.csv' if found == ',' else '.tsv'}" if found != ";" else "save it with commas"
        raise InputError(
            f"{file}: its columns are separated by {SEPARATOR_NAMES[found]}, and those of a {suffix} file by "
            f"{SEPARATOR_NAMES[expected]}; {way_out}"
        )


def check_quotes(file: Path, frame: pd.DataFrame, separator: str, row_name: str) -> None:
    """Refuse a .csv or .tsv file in which a stray quote has joined rows to one. Errors: InputError naming the row.

    A quote that opens a field is closed by the next quote, rows later if need be.
    """
    for place in range(frame.shape[1]):
        for row, cell in enumerate(frame.iloc[:, place]):
            if isinstance(cell, str) and separator in cell and ("\n" in cell or "\r" in cell):
                joined = rows_joined(frame.iloc[row].tolist(), place, separator)
                if joined > 1:
                    raise InputError(
                        f'{file}: a quote (") that opens in {row_name} {row + 1} joins {joined} rows to one; remove '
                        "it, or save the file as .jsonl"
                    )


def rows_joined(row: list[Any], place: int, separator: str) -> int:
    """How many rows a quote has joined in the field at `place`; 1 where it is a field of several lines.

    The field is taken for joined rows if each of its lines completes a row: as many columns, and an integer wherever
    the row itself has one. A comma before a space, or within a number, is one of the text.
    """
    between = BETWEEN_FIELDS[separator]
    first, *middle, last = LINE_BREAK.split(row[place])
    rows = [
        [*row[:place], *between.split(first)],
        *(between.split(line) for line in middle if line),
        [*between.split(last), *row[place + 1 :]],
    ]
    numbers = [column for column, cell in enumerate(row) if column != place and is_integer(cell)]
    complete = all(len(cells) == len(row) and all(is_integer(cells[n]) for n in numbers) for cells in rows)
    return len(rows) if complete else 1


def is_integer(cell: Any) -> bool:
    """Whether a cell of a text file reads as a rating."""
    return isinstance(cell, str) and INTEGER.fullmatch(cell) is not None


def has_no_text(value: Any) -> bool:
    """Whether a cell is missing, or nothing but white space."""
    return not value.strip() if isinstance(value, str) else bool(pd.api.types.is_scalar(value) and pd.isna(value))


def has_lone_surrogate(text: str) -> bool:
    """Whether a text holds half a character, which UTF-8 cannot write and no tokenizer takes."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def check_texts(file: Path, column: pd.Series, row: str = "review") -> None:
    """Refuse rows that are not text. Errors: InputError naming the first."""
    for number, text in zip(column.index + 1, column, strict=True):
        if not isinstance(text, str):
            raise InputError(
                f"{file}: {row} {number} is {repr(text)[:100]}; every {row} must be text (column {column.name!r})"
            )
        if has_lone_surrogate(text):
            raise InputError(f"{file}: {row} {number} holds half a character (a lone surrogate); correct or remove it")
