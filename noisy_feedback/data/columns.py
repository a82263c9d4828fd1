"""Columns of a .csv, .tsv, .json, .jsonl or .parquet file, gzipped or not, exactly as they are in the file."""

import codecs
import gzip
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from noisy_feedback.errors import InputError

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
COMMA_BETWEEN_FIELDS = r"(?<![0-9]),(?! )|,(?! |[0-9]{3}\b)"  # not those of "1,000, or so"
INTEGER = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*")
LINE_BREAK = re.compile(r"\r\n|\r|\n")  # str.splitlines has more
LONG_TEXT = 20  # characters: no usual name of a column
HINT = "--text-column, --rating-column and --group-column name others"


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
        if not content or content.isspace():
            raise InputError(f"{file}: the file is empty")
        if suffix == ".parquet":
            frame = pd.read_parquet(io.BytesIO(content))
        elif suffix in SEPARATORS:
            frame = parse_separated(file, content, SEPARATORS[suffix], row)
        else:
            frame = parse_json(decode(file, content))
        # As Python objects, at once: Arrow checks that texts are UTF-8 only when they are used.
        return frame.astype(object).reset_index(drop=True)
    except InputError:
        raise
    except Exception as error:  # a broken file makes the parsers raise many kinds; for the user they are one
        quote = re.search(r"EOF inside string starting at row (\d+)", str(error))
        reason = f'a quote (") that opens in {row} {quote[1]} is not closed' if quote else str(error).strip()[:200]
        raise InputError(f"{file}: unreadable or cut short as {suffix[1:]}: {reason}") from None


def select_columns(
    file: Path, frame: pd.DataFrame, wanted: Sequence[str], hint: str = HINT, row: str = "review"
) -> pd.DataFrame:
    """The wanted columns. Errors: InputError, which ends with `hint`, unless each is there once; for broken texts."""
    for column in wanted:
        if list(frame.columns).count(column) != 1:
            found = "no column" if column not in frame.columns else "more than one column"
            names = [str(name) for name in frame.columns]
            has_rating, has_text = any(map(INTEGER.fullmatch, names)), any(len(name) > LONG_TEXT for name in names)
            if format_of(file) in SEPARATORS and has_rating and has_text:
                hint = f"its first line looks like a {row}; add a line of column names above it"
            raise InputError(f"{file}: {found} {column!r}; it has {listed(map(repr, frame.columns))[:300]} ({hint})")
        cells = frame[column]
        check_texts(file, cells[[isinstance(cell, str) for cell in cells]], row)
    return frame[list(wanted)]


def without_invalid(
    file: Path, table: pd.DataFrame, drop: Collection[str], row: str, way_out: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that can be used, and the numbers of the others by the reason in the column `invalid`.

    Errors: InputError with all reasons that are not in `drop`, their counts and first rows.
    """
    reasons = table["invalid"].dropna()
    refused = reasons[~reasons.isin(drop)]
    if len(refused):
        first = refused.drop_duplicates()
        found = ", ".join(
            f"{(refused == reason).sum():,} {reason} (the first is {row} {number})"
            for number, reason in zip(first.index + 1, first, strict=True)
        )
        raise InputError(f"{file}: {len(refused):,} of {len(table):,} {row}s cannot be used: {found}; {way_out}")
    return table[table["invalid"].isna()], {reason: int((reasons == reason).sum()) for reason in reasons.unique()}


def first_missing(cells: Mapping[Any, Any]) -> str | None:
    """Why a row of these named cells cannot be used: the first that is missing."""
    return next((f"without {name}" for name, cell in cells.items() if has_no_text(cell)), None)


def decode(file: Path, content: bytes) -> str:
    """The text of a file. Errors: InputError where there is none, or it is not UTF-8, with the line and the way out."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(LINE_BREAK.split(error.object[: error.start].decode(errors="ignore")))
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "cp1252"
        way_out = f"convert the file, for example with iconv -f {encoding} -t utf-8"
        raise InputError(f"{file}: line {line} is not UTF-8 text; {way_out}") from None
    if not text or text.isspace():
        raise InputError(f"{file}: the file is empty")
    return text


def parse_json(text: str) -> pd.DataFrame:
    """The columns of an array of objects, or of an object in each line."""
    if not text.lstrip().startswith("["):  # as one array, so that the message of an error names the line
        lines = (f"{line}," if line.strip() else line for line in text.rstrip().split("\n"))
        text = "[" + "\n".join(lines).removesuffix(",") + "]"
    return pd.DataFrame(json.loads(text), dtype=object)  # pd.read_json takes half characters out of texts


def parse_separated(file: Path, content: bytes, separator: str, row: str) -> pd.DataFrame:
    """The columns of a .csv or .tsv file. Errors: InputError where a stray quote has joined rows to one.

    They are separated by `separator`, or where the first line lacks it by the tabs, commas or semicolons that it has.
    """
    header = LINE_BREAK.split(decode(file, content).lstrip()[:10_000], maxsplit=1)[0]
    if separator not in header:
        separator = max(f"{separator},\t;", key=header.count)
    frame = pd.read_csv(io.BytesIO(content), sep=separator, header=None, dtype=str, keep_default_na=False)
    frame = frame.iloc[1:].set_axis(frame.iloc[0], axis=1)  # pandas would rename the second column of the same name
    between = re.compile(f"\0|{COMMA_BETWEEN_FIELDS if separator == ',' else separator}")
    for number, cells in enumerate(frame.itertuples(index=False, name=None), start=1):
        if joins_rows([str(cell) for cell in cells], between):
            way_out = "remove it, or save the file as .jsonl"
            raise InputError(f'{file}: a quote (") that opens in {row} {number} joins rows to one; {way_out}')
    return frame


def joins_rows(cells: Sequence[str], between: re.Pattern[str]) -> bool:
    """Whether each line of a row is a row itself: as many columns, and an integer wherever the row has one.

    Then a stray quote has joined them: it is closed by the next quote, rows later if need be.
    """
    text = "\0".join(cells)
    if len(cells) == 1 or not ("\n" in text or "\r" in text):
        return False
    lines = [line for line in LINE_BREAK.split(text) if line]
    rows = [between.split(line) for line in lines]
    integers = [place for place, cell in enumerate(cells) if INTEGER.fullmatch(cell)]
    return len(rows) > 1 and all(
        len(row) == len(cells) and all(INTEGER.fullmatch(row[n]) for n in integers) for row in rows
    )


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
