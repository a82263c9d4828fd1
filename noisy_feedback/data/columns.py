"""Columns of a .csv, .tsv, .json, .jsonl or .parquet file, gzipped or not, exactly as they are in the file."""

import codecs
import gzip
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.errors import InputError

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
COMMA_BETWEEN_FIELDS = r"(?<![0-9]),(?! )|,(?! |[0-9]{3}\b)"  # not those of "1,000, or so"
LINE_BREAK = re.compile(r"\r\n|\r|\n")
INTEGER = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*")
HINT = "--text-column, --rating-column and --group-column name others"
LONG_TEXT = 20  # characters: the name of a column is hardly ever longer


def format_of(file: Path) -> str:
    """The suffix that names the format of a file, gzipped or not."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def read_table(file: Path, row: str) -> pd.DataFrame:
    """All columns of a file, as they are in it; messages call a row `row`.

    .csv and .tsv give texts, and no value is taken for a missing one. The index counts the rows of the file from 0.
    Errors: InputError for what cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {str(error.strerror).lower()} ({file.absolute()})") from None
    suffix = format_of(file)
    if suffix not in FORMATS:
        readable = f"readable: {', '.join(FORMATS)}, gzipped (.gz) or not"
        raise InputError(f"{file}: unknown kind of file; save it as CSV, or if it is an archive unzip it ({readable})")
    try:
        if file.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        if not content.strip():
            raise InputError(f"{file}: the file is empty")
        if suffix != ".parquet":
            check_encoding(file, content)
        separator = separator_of(suffix, content)
        # As Python objects, at once: Arrow checks that texts are UTF-8 only when they are used.
        frame = parse(suffix, content, separator).astype(object).reset_index(drop=True)
    except InputError:
        raise
    except Exception as error:  # a broken file makes the parsers raise many kinds; for the user they are one
        quote = re.search(r"EOF inside string starting at row (\d+)", str(error))
        reason = f'a quote (") that opens in {row} {quote[1]} is not closed' if quote else str(error).strip()[:200]
        raise InputError(f"{file}: unreadable or cut short as {suffix[1:]}: {reason}") from None
    if suffix in SEPARATORS:
        check_quotes(file, frame, separator, row)
    return frame


def select_columns(
    file: Path, frame: pd.DataFrame, wanted: Sequence[str], hint: str = HINT, row: str = "review"
) -> pd.DataFrame:
    """The wanted columns. Errors: InputError, which ends with `hint`, unless each is there once; for broken texts."""
    for column in wanted:
        if list(frame.columns).count(column) != 1:
            found = "no column" if column not in frame.columns else "more than one column"
            is_rating, is_text = map(is_integer, frame.columns), (len(str(name)) > LONG_TEXT for name in frame.columns)
            if format_of(file) in SEPARATORS and any(is_rating) and any(is_text):
                hint = f"its first line looks like a {row}; add a line of column names above it"
            raise InputError(f"{file}: {found} {column!r}; it has {listed(map(repr, frame.columns))[:300]} ({hint})")
        cells = frame[column]
        check_texts(file, cells[[isinstance(cell, str) for cell in cells]], row)
    return frame[list(wanted)]


def separator_of(suffix: str, content: bytes) -> str:
    """What separates columns: what the suffix says, unless the first line has only tabs, commas or semicolons."""
    header = LINE_BREAK.split(content[:10_000].decode(errors="ignore").lstrip(), maxsplit=1)[0]
    expected = SEPARATORS.get(suffix, "")
    return expected if expected in header else max(f"{expected},\t;", key=header.count)


def parse(suffix: str, content: bytes, separator: str) -> pd.DataFrame:
    """All columns of a file, by its format."""
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(content))
    if suffix in SEPARATORS:
        frame = pd.read_csv(io.BytesIO(content), sep=separator, header=None, dtype=str, keep_default_na=False)
        return frame.iloc[1:].set_axis(frame.iloc[0], axis=1)  # pandas would rename the second column of the same name
    text = content.decode("utf-8-sig")
    if not text.lstrip().startswith("["):  # as one array, so that the message of an error names the line
        lines = (f"{line}," if line.strip() else line for line in text.rstrip().split("\n"))
        text = "[" + "\n".join(lines).removesuffix(",") + "]"
    return pd.DataFrame(json.loads(text), dtype=object)  # pd.read_json takes half characters out of texts


def check_encoding(file: Path, content: bytes) -> None:
    """Refuse text that is not UTF-8. Errors: InputError naming the line and the way out."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = len(LINE_BREAK.split(content[: error.start].decode()))
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "cp1252"
        way_out = f"convert the file, for example with iconv -f {encoding} -t utf-8"
        raise InputError(f"{file}: line {line} is not UTF-8 text; {way_out}") from None


def check_quotes(file: Path, frame: pd.DataFrame, separator: str, row_name: str) -> None:
    """Refuse a .csv or .tsv file in which a stray quote has joined rows to one. Errors: InputError naming the row.

    A quote that opens a field is closed by the next quote, rows later if need be. So a row is taken for several if each
    of its lines is one: as many columns, and an integer wherever the row itself has one.
    """
    between = re.compile(f"\0|{COMMA_BETWEEN_FIELDS if separator == ',' else separator}")
    for number, row in enumerate(frame.itertuples(index=False, name=None), start=1):
        text = "\0".join(map(str, row))
        if "\n" in text or "\r" in text:
            rows = [between.split(line) for line in LINE_BREAK.split(text) if line]
            integers = [place for place, cell in enumerate(row) if is_integer(cell)]
            complete = (len(cells) == len(row) and all(is_integer(cells[n]) for n in integers) for cells in rows)
            if len(row) > 1 and len(rows) > 1 and all(complete):
                way_out = "remove it, or save the file as .jsonl"
                raise InputError(f'{file}: a quote (") that opens in {row_name} {number} joins rows to one; {way_out}')


def is_integer(cell: Any) -> bool:
    """Whether a cell of a text file reads as a rating."""
    return isinstance(cell, str) and INTEGER.fullmatch(cell) is not None


def has_no_text(value: Any) -> bool:
    """Whether a cell is missing, or nothing but white space."""
    return not value.strip() if isinstance(value, str) else bool(pd.api.types.is_scalar(value) and pd.isna(value))


def check_texts(source: Path | str, texts: pd.Series, row: str = "review") -> None:
    """Refuse what is no text, or holds half a character (a lone surrogate). Errors: InputError naming the first row."""
    for number, text in zip(texts.index + 1, texts, strict=True):
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError):
            column = "" if texts.name is None else f" (column {texts.name!r})"
            must = f"it must be text, without lone surrogates, which are half characters{column}"
            raise InputError(f"{source}: {row} {number} is {repr(text)[:100]}; {must}") from None


def listed(values: Iterable[Any], most: int = 10) -> str:
    """Values in one line; only the first of many."""
    names = [str(value) for value in values]
    return ", ".join([*names[:most], "..."] if len(names) > most else names)
