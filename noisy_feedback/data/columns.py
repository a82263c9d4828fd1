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
SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}
BETWEEN_FIELDS = {",": re.compile(r"(?<![0-9]),(?! )|,(?! |[0-9]{3}\b)"), "\t": re.compile(r"\t")}  # not "1,000, or so"
LINE_BREAK = re.compile(r"\r\n|\r|\n")
INTEGER = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*")
HINT = "--text-column, --rating-column and --group-column name others"
LONG_TEXT = 20  # characters: the name of a column is hardly ever longer


def format_of(file: Path) -> str:
    """The suffix that names the format of a file, gzipped or not."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def check_local(option: str, path: Path) -> None:
    """Refuse the address of a web page as the value of an option. Errors: InputError."""
    if path.parts[:1] in (("http:",), ("https:",)):
        raise InputError(f"{option} {path}: a web address; download the file first")


def read_content(option: str, file: Path) -> bytes:
    """The bytes of the file that an option names. Errors: InputError where it cannot be read."""
    check_local(option, file)
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{option} {file}: {str(error.strerror).lower()} ({file.absolute()})") from None


def read_table(file: Path, content: bytes, row: str) -> pd.DataFrame:
    """All columns of a file with this content, as they are in it; messages call a row `row`.

    .csv and .tsv give texts, and no value is taken for a missing one. The index counts the rows of the file from 0.
    Errors: InputError for what cannot be read.
    """
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


def parse(suffix: str, content: bytes) -> pd.DataFrame:
    """All columns of a file, by its format."""
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(content))
    if suffix in SEPARATORS:
        file, separator = io.BytesIO(content), SEPARATORS[suffix]
        frame = pd.read_csv(file, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8")
        return frame.iloc[1:].set_axis(frame.iloc[0], axis=1)  # pandas would rename the second column of the same name
    text = content.decode("utf-8-sig")
    if not text.lstrip().startswith("["):  # as one array, so that the message of an error names the line
        lines = (f"{line}," if line.strip() else line for line in text.rstrip().split("\n"))
        text = "[" + "\n".join(lines).removesuffix(",") + "]"
    return pd.DataFrame(json.loads(text), dtype=object)  # pd.read_json takes half characters out of texts


def check_encoding(file: Path, content: bytes) -> None:
    """Refuse text that is not UTF-8. Errors: InputError naming the line and the way out."""
    start = content[:1000]
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or start.count(0) > len(start) // 3:
        raise InputError(f"{file}: UTF-16, not UTF-8 text; convert it, for example with iconv -f utf-16 -t utf-8")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = len(LINE_BREAK.split(content[: error.start].decode()))
        way_out = "convert the file, for example with iconv -f cp1252 -t utf-8"
        raise InputError(f"{file}: line {line} is not UTF-8 text; {way_out}") from None


def check_separator(file: Path, suffix: str, content: bytes) -> None:
    """Refuse columns that are separated by another character than the suffix says. Errors: InputError."""
    header, expected = LINE_BREAK.split(content.decode().lstrip(), maxsplit=1)[0], SEPARATORS[suffix]
    found = max(SEPARATOR_NAMES, key=header.count)
    if found in header and expected not in header:
        names = f"{SEPARATOR_NAMES[found]}, not by {SEPARATOR_NAMES[expected]}"
        way_out = "save it as .csv with commas, or as .tsv with tabs"
        raise InputError(f"{file}: its columns are separated by {names}; {way_out}")


def check_quotes(file: Path, frame: pd.DataFrame, separator: str, row_name: str) -> None:
    """Refuse a .csv or .tsv file in which a stray quote has joined rows to one. Errors: InputError naming the row.

    A quote that opens a field is closed by the next quote, rows later if need be.
    """
    for number, row in enumerate(frame.itertuples(index=False, name=None), start=1):
        for place, cell in enumerate(row):
            several_lines = isinstance(cell, str) and separator in cell and ("\n" in cell or "\r" in cell)
            if several_lines and joins_rows(row, place, separator):
                raise InputError(
                    f'{file}: a quote (") that opens in {row_name} {number} joins rows to one; remove it, or save the '
                    "file as .jsonl"
                )


def joins_rows(row: Sequence[Any], place: int, separator: str) -> bool:
    """Whether the field at `place` is joined rows, not one field of several lines.

    It is taken for joined rows if each of its lines completes a row: as many columns, and an integer wherever the row
    itself has one. A comma before a space, or within a number, is one of the text.
    """
    between = BETWEEN_FIELDS[separator]
    first, *middle, last = LINE_BREAK.split(row[place])
    rows = [
        [*row[:place], *between.split(first)],
        *(between.split(line) for line in middle if line),
        [*between.split(last), *row[place + 1 :]],
    ]
    numbers = [column for column, cell in enumerate(row) if column != place and is_integer(cell)]
    return all(len(cells) == len(row) and all(is_integer(cells[n]) for n in numbers) for cells in rows)


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
