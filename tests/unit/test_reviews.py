import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noisy_feedback.data import reviews as module
from noisy_feedback.data.reviews import (
    MIN_REVIEWS,
    SAMPLE_FILE,
    STUDY_FILE,
    Reviews,
    class_priors,
    find_reviews,
    read_reviews,
    shuffle_splits,
    split_dataset,
    split_groups,
    warn_about,
)
from noisy_feedback.errors import InputError
from tests.unit.test_columns import CONTENTS, REVIEWS, STARS, TEXTS, as_csv, as_jsonl, as_parquet


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


def test_columns_may_have_other_names_and_stand_among_others(tmp_path):
    rows = [(number, text, stars) for number, (text, stars) in enumerate(REVIEWS)]
    content = as_csv(rows, columns=("Unnamed", "what they wrote", "Stars"))
    reviews = read(tmp_path, content, text_column="what they wrote", rating_column="Stars")
    assert reviews.texts == TEXTS
    assert reviews.scale[reviews.ratings].tolist() == STARS


def test_the_reviews_are_identified_by_the_content_of_their_file(tmp_path):
    first, same = (read(tmp_path, CONTENTS[".csv"], name) for name in ("first.csv", "same.csv"))
    other = read(tmp_path, CONTENTS[".csv"] + b"other,1\n", "other.csv")
    assert first.sha256 == same.sha256 == hashlib.sha256(CONTENTS[".csv"]).hexdigest()
    assert first.sha256 != other.sha256


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
    assert "review 2 is 7; every review must be text" in refused(
        tmp_path, as_jsonl([("", 1), (7, 3), *REVIEWS]), "hotels.jsonl", drop_empty=True
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


def test_priors_are_the_shares_of_all_classes():
    assert class_priors(np.array([0, 3, 3, 0, 3]), 5).tolist() == [0.4, 0, 0, 0.6, 0]


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


# --- groups


def with_groups(groups, **more):
    rows = [(text, stars, group) for (text, stars), group in zip(REVIEWS, groups, strict=True)]
    return as_csv(rows, columns=("Review", "Rating", "Hotel"), **more)


HOTELS = ["b", "a", "b", "c", "a", "c", "b", "b", "d", "e", "f", "g"]


def test_groups_are_numbered_in_the_order_of_their_first_reviews(tmp_path):
    reviews = read(tmp_path, with_groups(HOTELS), group_column="Hotel")
    assert reviews.groups.tolist() == [0, 1, 0, 2, 1, 2, 0, 0, 3, 4, 5, 6]


def test_without_a_column_of_groups_there_are_none(tmp_path):
    assert read(tmp_path, with_groups(HOTELS)).groups is None


def test_reviews_that_are_dropped_leave_the_groups_of_the_others(tmp_path):
    rows = [("", 1, "z"), *((*row, hotel) for row, hotel in zip(REVIEWS, HOTELS, strict=True))]
    content = as_csv(rows, columns=("Review", "Rating", "Hotel"))
    found = read(tmp_path, content, group_column="Hotel", drop_empty=True)
    assert found.groups.tolist() == [0, 1, 0, 2, 1, 2, 0, 0, 3, 4, 5, 6]


def test_a_review_without_a_group_is_named(tmp_path):
    content = with_groups([*HOTELS[:4], " ", *HOTELS[5:]]).replace(TEXTS[0].encode(), b"")
    message = refused(tmp_path, content, group_column="Hotel", drop_empty=True)
    assert "review 5 has no group; every review needs one (column 'Hotel')" in message


@pytest.mark.parametrize("column", ["Review", "Rating"])
def test_groups_are_a_column_of_their_own(tmp_path, column):
    with pytest.raises(InputError, match=f"--group-column {column}: is the column of texts or ratings"):
        read(tmp_path, CONTENTS[".csv"], group_column=column)


def some_groups(seed, groups=200, largest=9):
    """Numbers of groups of 1 to `largest` rows, whose rows are mixed; in the order of their first rows."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, largest + 1, size=groups)))
    _, first, own = np.unique(rows, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[own]


def generator(seed):
    return None if seed is None else np.random.default_rng(seed)


@pytest.mark.parametrize("shuffled_by", [None, 1])
@given(seed=st.integers(0, 1000))
def test_every_row_is_in_one_part_and_no_group_in_two(shuffled_by, seed):
    groups = some_groups(seed)
    parts = parts_of(split_groups(groups, generator(shuffled_by)))
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    assert sum(len(set(groups[rows])) for rows in parts) == 200


@pytest.mark.parametrize("shuffled_by", [None, 1])
@given(seed=st.integers(0, 1000))
def test_the_shares_of_parts_of_groups_are_those_of_the_study_but_for_half_a_group_at_either_end(shuffled_by, seed):
    groups = some_groups(seed)
    parts = parts_of(split_groups(groups, generator(shuffled_by)))
    half = np.bincount(groups).max() / 2
    ends = np.cumsum([len(rows) for rows in parts])[:3]
    assert np.abs(ends - np.array([0.4, 0.5, 0.9]) * len(groups)).max() <= half


def test_groups_follow_each_other_in_the_order_of_the_file():
    groups = some_groups(0)
    parts = [groups[rows] for rows in parts_of(split_groups(groups))]
    for earlier, later in pairwise(parts):
        assert earlier.max() < later.min()


@pytest.mark.parametrize("n", [10, 11, 100, 1234])
@pytest.mark.parametrize("shuffled_by", [None, 1])
def test_groups_of_one_row_are_split_as_rows_are(n, shuffled_by):
    rng = generator(shuffled_by)
    ours, rows = split_groups(np.arange(n), rng), split_dataset(n)
    sizes = np.array([[len(part) for part in parts_of(splits)] for splits in (ours, rows)])
    assert np.abs(np.diff(sizes, axis=0)).max() <= 1
    if n % 10 == 0:
        assert (sizes[0] == sizes[1]).all()


def test_without_a_generator_groups_of_one_row_stay_in_the_order_of_the_file():
    for ours, rows in zip(parts_of(split_groups(np.arange(100))), parts_of(split_dataset(100)), strict=True):
        assert (ours == rows).all()


def test_shuffling_permutes_groups_by_its_generator():
    groups = some_groups(0)
    first, same, other, in_order = (set(split_groups(groups, generator(seed)).train) for seed in (1, 1, 2, None))
    assert first == same
    assert len({frozenset(rows) for rows in (first, other, in_order)}) == 3


def test_every_group_is_as_likely_in_the_training_part_when_they_are_shuffled():
    drawn = [split_groups(np.arange(20), generator(seed)).train for seed in range(300)]
    assert stats.chisquare(np.bincount(np.concatenate(drawn), minlength=20)).pvalue > 1e-3


EMPTY_PARTS = {"training": [9, 1], "validation": [1, 98, 1], "fine-tuning": [1, 7, 2], "test": [4, 1, 5]}


@pytest.mark.parametrize("part", EMPTY_PARTS)
def test_groups_that_leave_a_part_empty_are_refused_with_its_name(part):
    sizes = EMPTY_PARTS[part]
    says = f"^--group-column: {len(sizes)} groups leave the {part} part empty; use more or smaller groups$"
    with pytest.raises(InputError, match=says):
        split_groups(np.repeat(np.arange(len(sizes)), sizes))


def test_of_groups_that_are_shuffled_another_seed_may_do():
    with pytest.raises(InputError, match=r"use more or smaller groups, or another seed$"):
        split_groups(np.array([0, 1, 2]), generator(1))


# --- warnings


def warnings_of(stars, texts=None, shuffled=False):
    scale, classes = np.unique(stars, return_inverse=True)
    texts = texts or [f"review {row}" for row in range(len(stars))]
    reviews = Reviews("hotels.csv", Path(), "", texts, classes, scale)
    return warn_about(reviews, split_dataset(len(stars)), shuffled)


MIXED = [1, 2, 3, 4, 5] * 100  # 500 reviews: 200 training, 50 validation, 200 fine-tuning, 50 test


def test_good_data_give_no_warning():
    assert warnings_of(MIXED) == []


@pytest.mark.parametrize(("stars", "share"), [(np.sort(MIXED), "100%"), (MIXED[:450] + [5] * 50, "80%")])
def test_a_file_whose_last_ratings_are_others_is_warned_about(stars, share):
    says = f"ratings of the training and the test part differ by {share}: the file seems sorted; --shuffle"
    assert any(says in line for line in warnings_of(stars))


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
