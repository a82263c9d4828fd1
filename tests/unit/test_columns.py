"""Columns of any file are read exactly as they are, and what is no such file is refused in one line that says why."""

import csv
import gzip
import io
import json
from itertools import product

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisy_feedback.data.columns import check_texts, has_no_text, read_content, read_table, select_columns
from noisy_feedback.errors import InputError
from tests.conftest import message_of

REVIEWS = [
    ("NA", 1),
    ("null", 2),
    ("12", 3),
    ('she said "lovely", twice', 4),
    ("two\nlines", 5),
    ("two lines\r\nof Windows", 5),
    ("tab\there; semicolon", 4),
    ("été, 漢字, 🛏", 4),
    ("line\u2028separator", 5),
    ("'single'", 1),
    (" spaces around ", 2),
    ("2020-01-01", 3),
]
TEXTS, STARS = (list(column) for column in zip(*REVIEWS, strict=True))


def as_csv(reviews, delimiter=",", line_end="\n", columns=("Review", "Rating")):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *reviews])
    return text.getvalue().encode()


def as_jsonl(reviews, columns=("Review", "Rating")):
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in reviews).encode()


def as_parquet(reviews):
    file = io.BytesIO()
    pd.DataFrame(reviews, columns=["Review", "Rating"]).to_parquet(file)
    return file.getvalue()


def unquoted(rows, separator="\t"):
    return "".join(f"{text}{separator}{stars}\n" for text, stars in [("Review", "Rating"), *rows]).encode()


CONTENTS = {
    ".csv": as_csv(REVIEWS),
    ".tsv": as_csv(REVIEWS, delimiter="\t"),
    ".jsonl": as_jsonl(REVIEWS),
    ".json": json.dumps([{"Review": text, "Rating": stars} for text, stars in REVIEWS], indent=2).encode(),
    ".parquet": as_parquet(REVIEWS),
}
CONTENTS |= {f"{suffix}.gz": gzip.compress(content) for suffix, content in CONTENTS.items()}


def read(folder, content, name="hotels.csv", wanted=("Review", "Rating"), row="review", **options):
    file = folder / name
    file.write_bytes(content)
    return select_columns(file, read_table(file, read_content(file), row), wanted, row=row, **options)


def texts_of(*given, **options):
    return read(*given, **options)["Review"].tolist()


def refused(folder, content, name="hotels.csv", **options):
    return message_of(folder, name, read, folder, content, name, **options)


@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_format_gives_the_same_columns(tmp_path, suffix):
    columns = read(tmp_path, CONTENTS[suffix], f"hotels{suffix}")
    assert columns["Review"].tolist() == TEXTS
    assert columns["Rating"].astype(int).tolist() == STARS


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_a_byte_order_mark_is_no_part_of_a_column_and_json_may_be_an_array_or_one_object_per_line(tmp_path, suffix):
    assert texts_of(tmp_path, b"\xef\xbb\xbf" + CONTENTS[suffix], f"hotels{suffix}") == TEXTS
    if suffix.startswith(".json"):
        assert texts_of(tmp_path, CONTENTS[suffix], {".json": "a.jsonl", ".jsonl": "a.json"}[suffix]) == TEXTS


def test_a_missing_column_is_named_with_those_that_there_are_unless_they_look_like_a_row(tmp_path):
    message = refused(tmp_path, as_csv(REVIEWS, columns=("A clean room, and near the station", "4")), row="comparison")
    assert message.endswith("its first line looks like a comparison; add a line of column names above it")
    message = refused(tmp_path, CONTENTS[".csv"], wanted=("Review", "Stars"), hint="a hint")
    assert message.endswith("no column 'Stars'; it has 'Review', 'Rating' (a hint)")
    for columns in (("A clean room, and near the station", "Stars"), ("Text", "4")):
        assert "no column 'Review'" in refused(tmp_path, as_csv(REVIEWS, columns=columns))
    assert "no column 'Review'" in refused(tmp_path, b"1\n2\n3\n", "hotels.jsonl")


def test_a_column_that_a_file_has_twice_is_refused(tmp_path):
    content = as_csv([(1, *row) for row in REVIEWS], columns=("Rating", "Review", "Rating"))
    assert "more than one column 'Rating'" in refused(tmp_path, content)


@given(st.lists(st.text().filter(str.strip), min_size=1, max_size=10))
def test_a_csv_file_gives_the_texts_that_were_written(tmp_path_factory, texts):
    content = as_csv([(text, row % 5) for row, text in enumerate(texts)])
    assert texts_of(tmp_path_factory.getbasetemp(), content) == texts
    windows = as_csv([(text, row % 5) for row, text in enumerate(texts)], line_end="\r\n")
    assert texts_of(tmp_path_factory.getbasetemp(), windows) == texts


def test_what_is_missing_or_blank_is_no_text():
    assert all(map(has_no_text, [None, float("nan"), pd.NA, "", " \n\t"]))
    assert not any(map(has_no_text, ["0", 0, False, [], [None]]))


def test_what_is_not_text_is_refused_with_its_row(tmp_path):
    says = r"(holds half a character|is .*; every opinion must be text \(column 'Review'\)$)"
    for value in (7, None, ["a"], b"a", "\ud83d"):
        with pytest.raises(InputError, match=rf"hotels: opinion 2 {says}"):
            check_texts(tmp_path / "hotels", pd.Series(["good", value], name="Review", dtype=object), "opinion")


def test_a_file_that_cannot_be_opened_or_is_empty_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: No such file or directory"):
        read_content(tmp_path / "nowhere.csv")
    assert refused(tmp_path, b"").endswith("the file is empty")


KINDS = {
    "hotels.xlsx": "save it as CSV",
    "hotels.csv.zip": "unzip it",
    "hotels.gz": "one of .csv, .tsv, .json, .jsonl, .parquet, or gzipped (.gz)",
    "hotels": "one of .csv, .tsv, .json, .jsonl, .parquet, or gzipped (.gz)",
}


def test_an_unknown_kind_of_file_is_refused_with_the_way_out(tmp_path):
    for name, way_out in KINDS.items():
        assert refused(tmp_path, CONTENTS[".csv"], name) == f"unknown kind of file; {way_out}"


LATIN1 = pa.array([b"\xe9t\xe9"] * 20).cast(pa.string(), safe=False)  # as programs write it that do not check
pyarrow.parquet.write_table(pa.table({"Review": LATIN1, "Rating": [4] * 20}), latin1 := io.BytesIO())
BROKEN = {
    "latin1.parquet": latin1.getvalue(),
    "cut.csv.gz": gzip.compress(CONTENTS[".csv"])[:-20],
    "not-zipped.csv.gz": CONTENTS[".csv"],
    "ragged.csv": CONTENTS[".csv"] + b"one,2,three\n",
    "cut.jsonl": CONTENTS[".jsonl"][:-20],
    "cut.json": CONTENTS[".json"][:-20],
    "cut.parquet": CONTENTS[".parquet"][:-20],
    "text.parquet": CONTENTS[".csv"],
}


def test_a_broken_file_is_refused_as_what_it_seems_to_be(tmp_path):
    for name, content in BROKEN.items():
        assert f"unreadable or cut short as {name.split('.')[1]}: " in refused(tmp_path, content, name)


SEPARATED = {
    ("csv", ";"): "separated by semicolons, and those of a .csv file by commas; save it with commas",
    ("csv", "\t"): "separated by tabs, and those of a .csv file by commas; rename it to .tsv",
    ("tsv", ","): "separated by commas, and those of a .tsv file by tabs; rename it to .csv",
}


def test_another_separator_is_named(tmp_path):
    for (suffix, separator), says in SEPARATED.items():
        content = unquoted([("good, but dear", 4)] * 20, separator)
        assert refused(tmp_path, content, f"hotels.{suffix}").endswith(says)
        assert refused(tmp_path, gzip.compress(content), f"hotels.{suffix}.gz").endswith(says)


def test_utf16_is_named_with_a_way_to_convert_it(tmp_path):
    for encoding, suffix in product(("utf-16", "utf-16-le", "utf-16-be"), (".csv", ".jsonl")):
        content = CONTENTS[suffix].decode().encode(encoding)
        assert refused(tmp_path, content, f"hotels{suffix}").endswith("for example with iconv -f utf-16 -t utf-8")


@pytest.mark.parametrize("text", [b"it\x92s", b"\x92", b'"\x92"', b'"two\n\nlines, ""it\x92s"""', b'a 5" bed\x92s'])
@pytest.mark.parametrize("rows", [20, 20_000])  # parsers read long files in pieces
def test_a_text_of_windows_is_named_by_its_line_with_a_way_to_convert_it(tmp_path, text, rows):
    before = unquoted([('"two\n\nlines"', 4), ("été", 4), *[("good", 5)] * (rows - 3)], ",")
    message = refused(tmp_path, before + text + b",3\n" + b"more,4\n" * rows)
    line = 1 + (before + text.partition(b"\x92")[0]).count(b"\n")
    assert f"line {line} is not UTF-8 text; convert the file, for example with iconv -f cp1252 -t utf-8" in message


def test_so_is_one_in_json_or_among_the_names_of_columns(tmp_path):
    lines = b'{"Review": "good", "Rating": 4}\n' * 20 + b'{"Review": "it\x92s", "Rating": 4}\n'
    assert "line 21 is not UTF-8 text" in refused(tmp_path, lines, "hotels.jsonl")
    assert "line 1 is not UTF-8 text" in refused(tmp_path, b"Review,Rat\x92ing\ngood,4\n")


separators = pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])


@separators
def test_a_stray_quote_is_found_in_whatever_column(tmp_path, suffix, separator):
    for place in range(4):
        rows = [[row, row % 5 + 1, "x"] for row in range(40)]
        for number, row in enumerate(rows):
            row.insert(place, {10: '"good', 12: '"bad'}.get(number, f"review {number}"))
        content = "\n".join(separator.join(map(str, row)) for row in [list("abcd"), *rows])
        assert "review 11 joins 3 rows" in refused(tmp_path, content.encode(), f"hotels{suffix}")


@separators
def test_a_stray_quote_is_found_wherever_it_is_closed_if_at_all(tmp_path, suffix, separator):
    rows = [("a", "b"), ('"good', "bad"), ("c", "d"), ('"fine"', "e")]
    assert "review 2 joins 3 rows" in refused(tmp_path, unquoted(rows, separator), f"hotels{suffix}")
    rows = [('"good', 4), ("fine", 3), ('not so good"', 2), *REVIEWS[:3] * 4]
    assert "review 1 joins 3 rows" in refused(tmp_path, unquoted(rows, separator), f"hotels{suffix}")
    rows = [("good", 4)] * 10 + [('"bad', 1)] + [("good", 5)] * 10
    says = 'a quote (") that opens in review 11 is not closed'
    assert says in refused(tmp_path, unquoted(rows, separator), f"hotels{suffix}")


LINES = ["lines\nand\ta tab", "a\tb\nc\td", "1\t2\n3", 'she said "good"\nand left', "two\nlines"]
COMMAS = ["one, two\nthree", "in May, 2023\n5, or 4\n", "we paid 1,000\nfor this", "nice,really\nand cheap", "a,b\nc,d"]


def test_a_quoted_field_of_several_lines_is_one_review(tmp_path):
    for text in LINES:
        rows = [(1, *row, "x") for row in [*REVIEWS, (text, 3)]]
        content = as_csv(rows, "\t", columns=("Stay", "Review", "Rating", "Else"))
        assert texts_of(tmp_path, content, "hotels.tsv") == [*TEXTS, text]
    for text in COMMAS:
        assert texts_of(tmp_path, as_csv([*REVIEWS, (text, 3)])) == [*TEXTS, text]


@separators
def test_quotes_within_a_field_are_part_of_the_review(tmp_path, suffix, separator):
    texts = ['it was 5" wide', 'a "good" stay', 'the end"'] * 4
    content = unquoted([(text, row % 2) for row, text in enumerate(texts)], separator)
    assert texts_of(tmp_path, content, f"hotels{suffix}") == texts
