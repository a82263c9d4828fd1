import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisy_feedback import report
from noisy_feedback.reviews import (
    FEWEST_ROWS,
    SAMPLE_FILE,
    STUDY_FILE,
    Reviews,
    find_reviews,
    read_reviews,
    shuffled,
    split,
)

REVIEWS = [
    ("NA", 1),
    ("null", 2),
    ("12", 3),
    ('she said "lovely", twice', 4),
    ("two\nlines", 5),
    ("two lines\r\nfrom elsewhere", 5),
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


def as_jsonl(reviews):
    return "".join(json.dumps({"Review": text, "Rating": stars}) + "\n" for text, stars in reviews).encode()


def as_parquet(reviews):
    file = io.BytesIO()
    pd.DataFrame(reviews, columns=["Review", "Rating"]).to_parquet(file)
    return file.getvalue()


CONTENTS = {
    ".csv": as_csv(REVIEWS),
    ".tsv": as_csv(REVIEWS, delimiter="\t"),
    ".jsonl": as_jsonl(REVIEWS),
    ".parquet": as_parquet(REVIEWS),
}
CONTENTS |= {f"{suffix}.gz": gzip.compress(content) for suffix, content in CONTENTS.items()}


def read(folder, content, name="hotels.csv", **columns):
    file = folder / name
    file.write_bytes(content)
    return read_reviews(file, **columns)


@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_format_gives_the_same_reviews(tmp_path, suffix):
    reviews = read(tmp_path, CONTENTS[suffix], f"hotels{suffix}")
    assert reviews.texts == TEXTS
    assert reviews.labels[reviews.ratings].tolist() == STARS


@pytest.mark.parametrize("scale", [range(1, 6), range(4), range(1, 11), (-1, 1), (10, 20, 50)], ids=str)
def test_any_scale_of_whole_numbers_is_counted_from_0(tmp_path, scale):
    stars = [scale[row % len(scale)] for row in range(20)]
    reviews = read(tmp_path, as_csv([("good", star) for star in stars]))
    assert reviews.labels.tolist() == list(scale)
    assert reviews.ratings.tolist() == [scale.index(star) for star in stars]


@pytest.mark.parametrize("form", ["{}", "{}.0", " {} "])
def test_a_whole_number_may_be_written_in_any_way(tmp_path, form):
    reviews = read(tmp_path, as_csv([(text, form.format(stars)) for text, stars in REVIEWS]))
    assert reviews.labels[reviews.ratings].tolist() == STARS


@pytest.mark.parametrize("content", [CONTENTS[".csv"], CONTENTS[".jsonl"]], ids=["csv", "jsonl"])
def test_a_byte_order_mark_belongs_to_no_column(tmp_path, content):
    name = "hotels.csv" if content == CONTENTS[".csv"] else "hotels.jsonl"
    assert read(tmp_path, b"\xef\xbb\xbf" + content, name).texts == TEXTS


def test_windows_line_ends_belong_to_no_review(tmp_path):
    assert read(tmp_path, as_csv(REVIEWS, line_end="\r\n")).texts == TEXTS


def test_a_file_may_hold_other_columns_under_other_names(tmp_path):
    rows = [(number, text, stars) for number, (text, stars) in enumerate(REVIEWS)]
    content = as_csv(rows, columns=("Unnamed", "what they wrote", "Stars"))
    reviews = read(tmp_path, content, text_column="what they wrote", rating_column="Stars")
    assert reviews.texts == TEXTS
    assert reviews.labels[reviews.ratings].tolist() == STARS


@given(st.lists(st.text().filter(str.strip), min_size=FEWEST_ROWS, max_size=FEWEST_ROWS))
def test_a_csv_file_gives_back_whatever_was_written(tmp_path_factory, texts):
    content = as_csv([(text, row % 5) for row, text in enumerate(texts)])
    assert read(tmp_path_factory.getbasetemp(), content).texts == texts


def test_a_folder_stands_for_the_studys_file(tmp_path):
    for name in (STUDY_FILE, SAMPLE_FILE):
        (tmp_path / name).touch()
    assert find_reviews(tmp_path) == tmp_path / STUDY_FILE


def test_a_folder_without_the_studys_file_stands_for_the_sample(tmp_path):
    (tmp_path / SAMPLE_FILE).touch()
    assert find_reviews(tmp_path) == tmp_path / SAMPLE_FILE


def rows_of(parts):
    return [parts.train, parts.validation, parts.fine_tuning, parts.test]


def test_the_studys_file_is_split_as_in_the_study():
    assert [len(rows) for rows in rows_of(split(20491))] == [8196, 2049, 8196, 2050]


@given(st.integers(FEWEST_ROWS, 50_000))
def test_the_parts_follow_one_another_and_leave_no_row_out(n):
    assert np.array_equal(np.concatenate(rows_of(split(n))), np.arange(n))


@given(st.integers(FEWEST_ROWS, 50_000))
def test_no_part_is_empty(n):
    assert all(len(rows) for rows in rows_of(split(n)))


def test_shuffling_keeps_the_sizes_of_the_parts():
    parts = split(1234)
    mixed = shuffled(parts, np.random.default_rng(1))
    assert [len(rows) for rows in rows_of(mixed)] == [len(rows) for rows in rows_of(parts)]


def test_shuffling_is_a_permutation():
    mixed = np.concatenate(rows_of(shuffled(split(1234), np.random.default_rng(1))))
    assert not np.array_equal(mixed, np.arange(1234))
    assert np.array_equal(np.sort(mixed), np.arange(1234))


def test_shuffling_depends_on_its_generator_alone():
    first, again, other = (shuffled(split(100), np.random.default_rng(seed)).train for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# --- files that are sorted


def told(ratings, is_shuffled=False):
    """What the screen says of a file with these ratings."""
    labels, classes = np.unique(ratings, return_inverse=True)
    found = Reviews("hotels.csv", Path(), "", ["good"] * len(ratings), classes, labels)
    return report.parts(found, split(len(ratings)), is_shuffled)


def test_a_sorted_file_is_warned_of():
    assert "the file seems sorted; --shuffle mixes it" in told(np.repeat([1, 2, 3, 4, 5], 100))


def test_a_sorted_file_that_is_shuffled_is_not():
    assert "sorted" not in told(np.repeat([1, 2, 3, 4, 5], 100), is_shuffled=True)


@pytest.mark.parametrize(("n", "classes"), [(40, 5), (200, 11), (2000, 5)])
def test_a_mixed_file_is_hardly_ever_taken_for_a_sorted_one_however_small(n, classes):
    generator = np.random.default_rng(0)
    assert sum("sorted" in told(generator.integers(classes, size=n)) for _ in range(200)) <= 4
