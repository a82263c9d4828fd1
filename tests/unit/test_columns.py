"""Columns of any file are read exactly as they are, and what is no such file is refused in one line that says why."""

import csv
import gzip
import io
from itertools import product

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisy_feedback.data.columns import check_texts, read_table, select_columns
from noisy_feedback.errors import InputError
from tests.conftest import content_of, message_of

TEXTS = [
    "NA",
    "null",
    "12",
    'she said "lovely", twice',
    "two\nlines",
    "two lines\r\nof Windows",
    "tab\there; semicolon",
]
TEXTS += ["été, 漢字, 🛏", "line\u2028separator", "'single'", " spaces around ", "2020-01-01"]
STARS = [1, 2, 3, 4, 5, 5, 4, 4, 5, 1, 2, 3]
REVIEWS = list(zip(TEXTS, STARS, strict=True))


def as_csv(reviews, delimiter=",", line_end="\n", columns=("Review", "Rating")):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *reviews])
    return text.getvalue().encode()


def as_jsonl(reviews, columns=("Review", "Rating"), suffix=".jsonl"):
    return content_of([dict(zip(columns, row, strict=True)) for row in reviews], suffix)


def unquoted(rows, separator="\t"):
    return "".join(f"{text}{separator}{stars}\n" for text, stars in [("Review", "Rating"), *rows]).encode()


CONTENTS = {".csv": as_csv(REVIEWS), ".tsv": as_csv(REVIEWS, delimiter="\t")}
CONTENTS |= {suffix: as_jsonl(REVIEWS, suffix=suffix) for suffix in (".json", ".jsonl", ".parquet")}
CONTENTS |= {f"{suffix}.gz": gzip.compress(content) for suffix, content in CONTENTS.items()}


def read(folder, content, name="hotels.csv", wanted=("Review", "Rating"), row="review", **options):
    file = folder / name
    file.write_bytes(content)
    return select_columns(file, read_table(file, row), wanted, row=row, **options)


def texts_of(*given, **options):
    return read(*given, **options)["Review"].tolist()


BOM = b"\xef\xbb\xbf"


def refused(folder, content, name="hotels.csv", **options):
    return message_of(folder, name, read, folder, content, name, **options)


@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_format_gives_the_same_columns(tmp_path, suffix):
    columns = read(tmp_path, CONTENTS[suffix], f"hotels{suffix}")
    assert columns["Review"].tolist() == TEXTS
    assert columns["Rating"].astype(int).tolist() == STARS


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_a_byte_order_mark_is_no_part_of_a_column_and_json_may_be_an_array_or_one_object_per_line(tmp_path, suffix):
    assert texts_of(tmp_path, BOM + CONTENTS[suffix], f"hotels{suffix}") == TEXTS
    if suffix.startswith(".json"):
        assert texts_of(tmp_path, CONTENTS[suffix], {".json": "a.jsonl", ".jsonl": "a.json"}[suffix]) == TEXTS


def test_a_column_that_is_missing_or_there_twice_is_named_with_those_that_there_are(tmp_path):
    message = refused(tmp_path, CONTENTS[".csv"], wanted=("Review", "Stars"), hint="a hint")
    assert message == "no column 'Stars'; it has 'Review', 'Rating' (a hint)"
    assert "no column 'Review'" in refused(tmp_path, b"1\n2\n3\n", "hotels.jsonl")
    content = as_csv([(1, *row) for row in REVIEWS], columns=("Rating", "Review", "Rating"))
    assert "more than one column 'Rating'" in refused(tmp_path, content)


@given(st.lists(st.text().filter(str.strip), min_size=1, max_size=10))
def test_a_csv_file_gives_the_texts_that_were_written(tmp_path_factory, texts):
    for line_end in ("\n", "\r\n"):
        content = as_csv([(text, row % 5) for row, text in enumerate(texts)], line_end=line_end)
        assert texts_of(tmp_path_factory.getbasetemp(), content) == texts


def test_what_is_not_text_or_half_a_character_is_refused_with_its_row_and_column_if_it_is_used(tmp_path):
    for value in (7, None, ["a"], b"a", "\ud83d"):
        with pytest.raises(InputError) as error:
            check_texts("hotels", pd.Series(["good", value], name="Review", dtype=object), "opinion")
        assert str(error.value).startswith(f"hotels: opinion 2 is {value!r}; it must be text, without lone surrogates")
        assert str(error.value).endswith("(column 'Review')")
    content = as_jsonl([("good", 4), ("b\ude00d", 4), *REVIEWS])
    assert refused(tmp_path, content, "hotels.jsonl").startswith(r"review 2 is 'b\ude00d'; it must be text")
    assert read(tmp_path, content, "hotels.jsonl", wanted=["Rating"])["Rating"].tolist() == [4, 4, *STARS]


def test_an_empty_or_unknown_kind_of_file_is_refused_with_the_way_out(tmp_path):
    for suffix in (".csv", ".jsonl", ".parquet"):
        blank = [(b"", suffix), (b"\n", suffix), (BOM, ".csv"), (BOM + b"\n", ".jsonl")]
        for content, kind in (*blank, (gzip.compress(b""), f"{suffix}.gz")):
            assert refused(tmp_path, content, f"hotels{kind}") == "the file is empty"
    for name in ("hotels.xlsx", "hotels.csv.zip", "hotels.gz", "hotels"):
        says = "unknown kind of file; save it as CSV, or if it is an archive unzip it (readable: .csv, .tsv, .json, "
        assert refused(tmp_path, CONTENTS[".csv"], name).startswith(says)


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
        assert f"unreadable or cut short as {name.split('.')[1]}" in refused(tmp_path, content, name)
    assert "line 4 column 1 " in refused(tmp_path, b'\n{"Review": "a"}\n\n}\n', "hotels.jsonl")
    assert texts_of(tmp_path, b"\n \n" + CONTENTS[".jsonl"].replace(b"\n", b" \n\n"), "hotels.jsonl") == TEXTS


def test_a_file_that_cannot_be_opened_is_refused_with_its_name(tmp_path):
    for file, says in ((tmp_path / "none.csv", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(InputError, match=rf"^{file}: {says} \({file}\)$"):
            read_table(file, "review")


def test_columns_are_separated_by_what_the_first_line_has_where_it_lacks_what_the_suffix_says(tmp_path):
    for suffix, separator in ((".csv", ";"), (".csv", "\t"), (".tsv", ","), (".tsv", ";")):
        for text, line_end in product(("good", '"good, but dear; a\tlot"'), (b"\n", b"\r\n", b"\r")):
            content = unquoted([(text, 4)] * 20, separator).replace(b"\n", line_end)
            assert texts_of(tmp_path, content, f"hotels{suffix}") == [text.strip('"')] * 20


def test_a_first_line_that_looks_like_a_row_is_named_so(tmp_path):
    long = "A text of more than twenty characters"
    for first in ((long, 4), ("1", long)):
        message = refused(tmp_path, as_csv(REVIEWS, columns=first), row="text")
        assert message.endswith("(its first line looks like a text; add a line of column names above it)")
    for columns in ((long, long), ("1", "2")):  # the questions of a survey, numbered columns
        assert refused(tmp_path, as_csv(REVIEWS, columns=columns), hint="a hint").endswith("(a hint)")
    named = ("A text of more than twenty characters", "4")
    assert refused(tmp_path, as_jsonl(REVIEWS, named), "hotels.jsonl", hint="a hint").endswith("(a hint)")


def test_text_that_is_not_utf8_is_named_by_its_line_with_a_way_to_convert_it(tmp_path):
    for text in (b"it\x92s", b'"two\n\nlines, ""it\x92s"""'):
        before = unquoted([('"two\n\nlines"', 4), ("été", 4), *[("good", 5)] * 20], ",")
        line = 1 + (before + text.partition(b"\x92")[0]).count(b"\n")
        content = before + text + b",3\n" + b"more,4\n" * 20
        for line_end in (b"\n", b"\r"):
            assert f"line {line} is not UTF-8 text; " in refused(tmp_path, content.replace(b"\n", line_end))
    lines = b'{"Review": "good", "Rating": 4}\n' * 20 + b'{"Review": "it\x92s", "Rating": 4}\n'
    assert "line 21 is not UTF-8 text" in refused(tmp_path, lines, "hotels.jsonl")
    for content in (b"Review,Rat\x92ing\ngood,4\n", CONTENTS[".csv"].decode().encode("utf-16")):
        encoding = "cp1252" if content.startswith(b"Review") else "utf-16"
        message = f"line 1 is not UTF-8 text; convert the file, for example with iconv -f {encoding} -t utf-8"
        assert refused(tmp_path, content) == message


separators = pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])


@separators
def test_a_stray_quote_is_found_in_whatever_column_and_wherever_it_is_closed_if_at_all(tmp_path, suffix, separator):
    for place in range(4):
        rows = [[row, row % 5 + 1, "x"] for row in range(40)]
        for number, row in enumerate(rows):
            row.insert(place, {10: '"good', 11: "so\u2028so", 12: '"bad'}.get(number, "fine"))
        content = "\n".join(separator.join(map(str, row)) for row in ["abcd", *rows])
        assert "review 11 joins rows" in refused(tmp_path, content.encode(), f"hotels{suffix}")
    rows = [('"good', 4), ("fine", 3), ('not so good"', 2), *REVIEWS[:3] * 4]
    assert "review 1 joins rows" in refused(tmp_path, unquoted(rows, separator), f"hotels{suffix}")
    rows = [("good", 4)] * 10 + [('"bad', 1)] + [("good", 5)] * 10
    message = refused(tmp_path, unquoted(rows, separator), f"hotels{suffix}")
    assert 'a quote (") that opens in review 11 is not closed' in message


LINES = ["lines\nand\ta tab", "a\tb\nc\td", "1\t2\n3", 'she said "good"\nand left', "two\nlines"]
COMMAS = ["one, two\nthree", "in May, 2023\n5, or 4\n", "we paid 1,000\nfor this", "nice,really\nand cheap", "a,b\nc,d"]


def test_a_quoted_field_of_several_lines_is_one_review(tmp_path):
    for text in LINES:
        rows = [(1, *row, "x") for row in [*REVIEWS, (text, 3)]]
        content = as_csv(rows, "\t", columns=("Stay", "Review", "Rating", "Else"))
        assert texts_of(tmp_path, content, "hotels.tsv") == [*TEXTS, text]
    for text in COMMAS:
        assert texts_of(tmp_path, as_csv([*REVIEWS, (text, 3)])) == [*TEXTS, text]
    content = as_csv([("two\nlines",), ("one",)], columns=["Review"])
    assert texts_of(tmp_path, content, wanted=["Review"]) == ["two\nlines", "one"]


@separators
def test_quotes_within_a_field_are_part_of_the_review(tmp_path, suffix, separator):
    texts = ['it was 5" wide', 'a "good" stay', 'the end"'] * 4
    content = unquoted([(text, row % 2) for row, text in enumerate(texts)], separator)
    assert texts_of(tmp_path, content, f"hotels{suffix}") == texts
