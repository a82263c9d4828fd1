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

from noisy_feedback.data import reviews as module
from noisy_feedback.data.reviews import (
    MIN_REVIEWS,
    SAMPLE_FILE,
    STUDY_FILE,
    Reviews,
    find_reviews,
    read_columns,
    read_reviews,
    shuffle_splits,
    split_dataset,
    warn_about,
)
from noisy_feedback.errors import InputError

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


def as_jsonl(reviews):
    return "".join(json.dumps({"Review": text, "Rating": stars}) + "\n" for text, stars in reviews).encode()


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
    ".parquet": as_parquet(REVIEWS),
}
CONTENTS |= {f"{suffix}.gz": gzip.compress(content) for suffix, content in CONTENTS.items()}


def write(folder, content, name="hotels.csv"):
    (folder / name).write_bytes(content)
    return folder / name


def read(folder, content, name="hotels.csv", **options):
    return read_reviews(write(folder, content, name), **options)


def refused(folder, content, name="hotels.csv", **options):
    """The message of the error, which names the file."""
    file = write(folder, content, name)
    with pytest.raises(InputError) as error:
        read_reviews(file, **options)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


# --- formats


@pytest.mark.parametrize("suffix", CONTENTS)
def test_every_format_gives_the_same_reviews(tmp_path, suffix):
    reviews = read(tmp_path, CONTENTS[suffix], f"hotels{suffix}")
    assert reviews.texts == TEXTS
    assert reviews.scale[reviews.ratings].tolist() == STARS


@pytest.mark.parametrize("scale", [range(1, 6), range(4), range(1, 11), (-1, 1), (10, 20, 50)], ids=str)
def test_any_scale_of_whole_numbers_becomes_classes_from_0(tmp_path, scale):
    stars = [scale[row % len(scale)] for row in range(20)]
    reviews = read(tmp_path, as_csv([("good", star) for star in stars]))
    assert reviews.scale.tolist() == list(scale)
    assert reviews.ratings.tolist() == [scale.index(star) for star in stars]


@pytest.mark.parametrize("form", ["{}", "{}.0", " {} "])
def test_a_whole_number_may_be_written_in_several_ways(tmp_path, form):
    reviews = read(tmp_path, as_csv([(text, form.format(stars)) for text, stars in REVIEWS]))
    assert reviews.scale[reviews.ratings].tolist() == STARS


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path, suffix):
    assert read(tmp_path, b"\xef\xbb\xbf" + CONTENTS[suffix], f"hotels{suffix}").texts == TEXTS


def test_windows_line_ends_are_not_part_of_a_review(tmp_path):
    assert read(tmp_path, as_csv(REVIEWS, line_end="\r\n")).texts == TEXTS


def test_columns_may_have_other_names_and_stand_among_others(tmp_path):
    rows = [(number, text, stars) for number, (text, stars) in enumerate(REVIEWS)]
    content = as_csv(rows, columns=("Unnamed", "what they wrote", "Stars"))
    reviews = read(tmp_path, content, text_column="what they wrote", rating_column="Stars")
    assert reviews.texts == TEXTS
    assert reviews.scale[reviews.ratings].tolist() == STARS


def test_any_column_can_be_read(tmp_path):
    rows = [(text, stars, f"hotel {row % 3}") for row, (text, stars) in enumerate(REVIEWS)]
    content = as_csv(rows, columns=("Review", "Rating", "Hotel"))
    columns = read_columns(tmp_path / "hotels.csv", content, ["Hotel"])
    assert columns["Hotel"].tolist() == [hotel for _, _, hotel in rows]


@given(st.lists(st.text().filter(str.strip), min_size=MIN_REVIEWS, max_size=MIN_REVIEWS))
def test_a_csv_file_gives_the_texts_that_were_written(tmp_path_factory, texts):
    content = as_csv([(text, row % 5) for row, text in enumerate(texts)])
    assert read(tmp_path_factory.getbasetemp(), content).texts == texts


def test_the_reviews_are_identified_by_the_content_of_their_file(tmp_path):
    first, same = (read(tmp_path, CONTENTS[".csv"], name) for name in ("first.csv", "same.csv"))
    other = read(tmp_path, CONTENTS[".csv"] + b"other,1\n", "other.csv")
    assert first.sha256 == same.sha256
    assert first.sha256 != other.sha256


# --- files of another format


def test_a_file_that_cannot_be_opened_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: No such file or directory"):
        read_reviews(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("name", "separator", "hint"),
    [
        ("hotels.csv", ";", "separated by semicolons, and those of a .csv file by commas; save it with commas"),
        ("hotels.csv", "\t", "separated by tabs, and those of a .csv file by commas; rename it to .tsv"),
        ("hotels.tsv", ",", "separated by commas, and those of a .tsv file by tabs; rename it to .csv"),
        ("hotels.csv.gz", ";", "separated by semicolons, and those of a .csv file by commas"),
    ],
)
def test_another_separator_is_named(tmp_path, name, separator, hint):
    content = unquoted([("good, but dear", 4)] * 20, separator)
    assert hint in refused(tmp_path, gzip.compress(content) if name.endswith(".gz") else content, name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_utf16_is_named_with_a_way_to_convert_it(tmp_path, suffix, encoding):
    content = CONTENTS[suffix].decode().encode(encoding)
    assert "UTF-16, not UTF-8 text; convert it" in refused(tmp_path, content, f"hotels{suffix}")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_named_with_a_way_to_convert_it(tmp_path, indent):
    rows = [{"Review": text, "Rating": stars} for text, stars in REVIEWS]
    message = refused(tmp_path, json.dumps(rows, indent=indent).encode(), "hotels.jsonl")
    assert "a JSON array, not one object per line; convert it" in message


def test_a_jsonl_file_without_objects_has_no_column(tmp_path):
    assert "no column 'Review'" in refused(tmp_path, b"1\n2\n3\n", "hotels.jsonl")


# --- quotes in .tsv


def test_a_stray_quote_that_joins_rows_is_refused_with_its_row(tmp_path):
    rows = [(f"review {row}", row % 5 + 1) for row in range(400)]
    rows[100] = ('"great" is not the word', 3)
    rows[154] = ('"good', 4)
    rows[208] = ('"fine', 2)
    message = refused(tmp_path, unquoted(rows), "hotels.tsv")
    assert 'a quote (") that opens in review 155 joins 55 rows to one' in message


def test_a_stray_quote_is_found_whatever_the_order_of_the_columns(tmp_path):
    rows = [(row, row % 5 + 1, f"review {row}", "x") for row in range(40)]
    rows[10] = (10, 4, '"good', "x")
    rows[12] = (12, 3, '"bad', "x")
    lines = ["\t".join(map(str, row)) for row in [("Number", "Rating", "Review", "Else"), *rows]]
    assert "review 11 joins 3 rows" in refused(tmp_path, "\n".join(lines).encode(), "hotels.tsv")


def test_a_stray_quote_that_is_closed_at_the_end_of_a_field_is_found(tmp_path):
    rows = [('"good', 4), ("fine", 3), ('not so good"', 2), *REVIEWS[:3] * 4]
    assert "review 1 joins 3 rows" in refused(tmp_path, unquoted(rows), "hotels.tsv")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_quote_that_is_never_closed_is_named_with_its_row(tmp_path, suffix):
    rows = [("good", 4)] * 10 + [('"bad', 1)] + [("good", 5)] * 10
    content = unquoted(rows, "\t" if suffix == ".tsv" else ",")
    assert 'a quote (") that opens in review 11 is not closed' in refused(tmp_path, content, f"hotels{suffix}")


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        "a tab\tand\nlines",
        "lines\nand\ta tab",
        "a\tb\nc\td",
        "1\t2\n3",
        'she said "good"\nand left',
    ],
)
def test_a_quoted_field_of_several_lines_is_one_review(tmp_path, text):
    rows = [*REVIEWS, (text, 3)]
    content = as_csv([(1, *row, "x") for row in rows], "\t", columns=("Stay", "Review", "Rating", "Else"))
    assert read(tmp_path, content, "hotels.tsv").texts == [*TEXTS, text]


def test_quotes_within_a_field_are_part_of_the_review(tmp_path):
    texts = ['it was 5" wide', 'a "good" stay', 'the end"'] * 4
    reviews = read(tmp_path, unquoted([(text, row % 2) for row, text in enumerate(texts)]), "hotels.tsv")
    assert reviews.texts == texts


# --- rows that are left out

WITH_EMPTY = [*REVIEWS[:3], ("", 5), (" \n", "none"), *REVIEWS[3:]]


def test_reviews_without_text_are_counted_and_the_option_is_named(tmp_path):
    message = refused(tmp_path, as_csv(WITH_EMPTY))
    assert "no text in 2 of 14 reviews (column 'Review'), the first is review 4; --drop-empty" in message


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_missing_text_is_an_empty_one(tmp_path, suffix):
    rows = [(None, 3), *REVIEWS]
    content = as_jsonl(rows) if suffix == ".jsonl" else as_parquet(rows)
    assert read(tmp_path, content, f"hotels{suffix}", drop_empty=True).texts == TEXTS


def test_reviews_without_text_are_dropped_on_request_whatever_their_rating(tmp_path):
    reviews = read(tmp_path, as_csv(WITH_EMPTY), drop_empty=True)
    assert (reviews.texts, reviews.scale[reviews.ratings].tolist()) == (TEXTS, STARS)


def test_values_that_are_not_text_are_not_dropped(tmp_path):
    assert "review 1 is 7; every review must be text" in refused(
        tmp_path, as_jsonl([(7, 3), *REVIEWS]), "hotels.jsonl", drop_empty=True
    )


def test_duplicates_are_kept_by_default(tmp_path):
    assert len(read(tmp_path, as_csv(REVIEWS * 2)).texts) == 24


def test_of_duplicates_the_first_is_kept_on_request(tmp_path):
    rows = [*REVIEWS, *((text, 1) for text in TEXTS), (TEXTS[0] + ".", 1)]
    reviews = read(tmp_path, as_csv(rows), drop_duplicates=True)
    assert reviews.texts == [*TEXTS, TEXTS[0] + "."]
    assert reviews.scale[reviews.ratings].tolist() == [*STARS, 1]


def test_dropped_reviews_are_counted_by_reason(tmp_path):
    content = as_csv([*WITH_EMPTY, *REVIEWS])
    assert read(tmp_path, content, drop_empty=True, drop_duplicates=True).dropped == {"empty": 2, "duplicates": 12}


def test_reasons_without_reviews_are_not_counted(tmp_path):
    assert read(tmp_path, as_csv(REVIEWS), drop_empty=True, drop_duplicates=True).dropped == {}


def test_rows_are_counted_as_in_the_file_after_dropping(tmp_path):
    rows = [("", 1), ("good", 1), ("good", 1), ("bad", "five"), *REVIEWS]
    message = refused(tmp_path, as_csv(rows), drop_empty=True, drop_duplicates=True)
    assert "review 4 has the rating 'five'" in message


def test_too_few_reviews_after_dropping_are_refused(tmp_path):
    message = refused(tmp_path, as_csv([("good", row % 2) for row in range(40)]), drop_duplicates=True)
    assert "1 reviews are too few to split in four; 10 are the least" in message


# --- finding the file


def test_a_folder_stands_for_the_studys_file(tmp_path):
    for name in (STUDY_FILE, SAMPLE_FILE):
        (tmp_path / name).touch()
    assert find_reviews(tmp_path) == tmp_path / STUDY_FILE


def test_a_folder_without_the_studys_file_stands_for_the_sample(tmp_path):
    (tmp_path / SAMPLE_FILE).touch()
    assert find_reviews(tmp_path) == tmp_path / SAMPLE_FILE


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The project in another folder than the current one."""
    folder = tmp_path / "project"
    (folder / "multiclass").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "data" / "hotels.csv").touch()
    monkeypatch.setattr(module, "PROJECT", folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


@pytest.mark.parametrize("path", ["../data/hotels.csv", "data/hotels.csv"])
def test_a_path_that_is_right_in_the_projects_folders_is_proposed(project, path):
    with pytest.raises(InputError, match=r"no such file or folder; .* did you mean") as error:
        find_reviews(Path(path))
    assert str(error.value).endswith(f"did you mean {project / 'data' / 'hotels.csv'}?")


def test_a_folder_of_the_same_name_without_reviews_is_not_mistaken_for_the_projects(project, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=f"holds neither .* did you mean {project / 'data'}"):
        find_reviews(Path("../data/"))


def test_a_path_that_is_nowhere_is_named_alone(project):
    with pytest.raises(InputError, match=r"^--path nowhere\.csv: no such file or folder$"):
        find_reviews(Path("nowhere.csv"))


def test_a_path_that_the_system_refuses_is_an_input_error():
    with pytest.raises(InputError, match=r"--path x+: "):
        find_reviews(Path("x" * 5000))


# --- splits


def parts_of(splits):
    return [splits.train, splits.validation, splits.fine_tuning, splits.test]


def test_the_studys_file_is_split_as_in_the_study():
    assert [len(rows) for rows in parts_of(split_dataset(20491))] == [8196, 2049, 8196, 2050]


@given(st.integers(MIN_REVIEWS, 50_000))
def test_the_parts_follow_each_other_and_cover_every_row(n):
    assert np.array_equal(np.concatenate(parts_of(split_dataset(n))), np.arange(n))


@given(st.integers(MIN_REVIEWS, 50_000))
def test_no_part_is_empty(n):
    assert all(len(rows) for rows in parts_of(split_dataset(n)))


def test_shuffling_keeps_the_sizes_of_the_parts():
    splits = split_dataset(1234)
    shuffled = shuffle_splits(splits, np.random.default_rng(1))
    assert [len(rows) for rows in parts_of(shuffled)] == [len(rows) for rows in parts_of(splits)]


def test_shuffling_is_a_permutation():
    rows = np.concatenate(parts_of(shuffle_splits(split_dataset(1234), np.random.default_rng(1))))
    assert not np.array_equal(rows, np.arange(1234))
    assert np.array_equal(np.sort(rows), np.arange(1234))


def test_shuffling_depends_on_its_generator_alone():
    first, same, other = (shuffle_splits(split_dataset(100), np.random.default_rng(seed)).train for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


# --- warnings


def warnings_of(stars, texts=None, shuffled=False):
    scale, classes = np.unique(stars, return_inverse=True)
    texts = texts or [f"review {row}" for row in range(len(stars))]
    reviews = Reviews("hotels.csv", Path(), "", texts, classes, scale)
    return warn_about(reviews, split_dataset(len(stars)), shuffled)


MIXED = [1, 2, 3, 4, 5] * 100  # 500 reviews: 200 training, 50 validation, 200 fine-tuning, 50 test


def test_good_data_give_no_warning():
    assert warnings_of(MIXED) == []


def test_a_sorted_file_is_warned_about():
    lines = warnings_of(np.sort(MIXED))
    assert any("the file seems sorted; --shuffle" in line for line in lines)


def test_a_sorted_file_that_is_shuffled_is_not():
    assert not any("sorted" in line for line in warnings_of(np.sort(MIXED), shuffled=True))


@pytest.mark.parametrize(("n", "classes"), [(40, 5), (200, 11), (2000, 5)])
def test_a_mixed_file_of_any_size_is_hardly_ever_taken_for_a_sorted_one(n, classes):
    rng = np.random.default_rng(0)
    assert sum("sorted" in " ".join(warnings_of(rng.integers(classes, size=n))) for _ in range(200)) <= 4


def texts_with(*copies):
    """Texts of 500 reviews in which the second row of each pair has the text of the first."""
    texts = [f"review {row}" for row in range(500)]
    for row, copy in copies:
        texts[copy] = texts[row]
    return texts


def test_texts_in_two_parts_are_counted_with_their_share_of_the_test_part():
    (line,) = warnings_of(MIXED, texts_with((0, 460), (1, 461), (1, 462), (2, 300)))
    assert line == (
        "3 texts are word for word in more than one part of the split, also 3 of the 50 test reviews (6.0%); "
        "--drop-duplicates keeps the first of each"
    )


def test_equal_texts_in_one_part_are_no_reason_for_a_warning():
    assert warnings_of(MIXED, texts_with((0, 1), (460, 461))) == []


def test_a_rating_of_one_review_only_is_warned_about_once():
    lines = warnings_of([6, *MIXED[1:]])
    assert lines == ["only one review has the rating 6; if that is an error in the file, correct it"]


def test_ratings_of_one_review_each_share_a_line():
    lines = warnings_of([6, 7, *MIXED[2:]])
    assert lines == ["only one review each has the ratings 6 and 7; if that is an error in the file, correct it"]


def test_ratings_with_few_reviews_in_a_part_share_a_line():
    stars = [1, 2, 3, 3, 4, 4, 5, 5, 5, 5] * 50
    assert warnings_of(stars) == ["fewer than 10 reviews of a rating: 1 and 2 in validation and test"]


def test_parts_with_other_rare_ratings_are_named_apart():
    stars = [1, 2, 3, 3, 4, 4, 5, 5, 5, 5] * 50
    stars[200:250] = [1, 2, 3, 4, 5] * 10
    stars[450:] = [2, 3, 4, 5, 5] * 10
    assert warnings_of(stars) == ["fewer than 10 reviews of a rating: 1 in test"]


def test_of_many_rare_ratings_only_the_first_are_named():
    (line,) = warnings_of(list(range(100)) * 4)
    assert line.startswith("fewer than 10 reviews of a rating: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 others in training")


def test_an_uneven_scale_is_warned_about():
    assert warnings_of([1, 2, 3, 9] * 100) == [
        "the rating scale 1, 2, 3 and 9 has uneven steps: the reward and `adjacent` noise count places on the scale, "
        "the metrics count stars"
    ]


@pytest.mark.parametrize("scale", [(1, 2, 3, 4), (10, 20, 30, 40), (-1, 1)], ids=str)
def test_an_even_scale_is_not(scale):
    assert warnings_of(list(scale) * 100) == []
