import hashlib
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisy_feedback.data.preferences import read_judgements
from noisy_feedback.data.reviews import (
    MIN_REVIEWS,
    SAMPLE_FILE,
    STUDY_FILE,
    Reviews,
    find_reviews,
    read_reviews,
    warn_about,
)
from noisy_feedback.data.splits import split_dataset, split_groups
from noisy_feedback.errors import InputError
from tests.conftest import content_of, message_of
from tests.unit.test_columns import REVIEWS, STARS, TEXTS, as_csv, as_jsonl


def read(folder, content, name="hotels.csv", **options):
    (folder / name).write_bytes(content)
    return read_reviews(folder / name, **options)


def refused(folder, content, name="hotels.csv", **options):
    return message_of(folder, name, read, folder, content, name, **options)


def test_columns_of_texts_ratings_and_groups_differ(tmp_path):
    for columns in ({"rating_column": "Review"}, {"group_column": "Rating"}):
        assert "must differ, and are Review, R" in refused(tmp_path, as_csv(REVIEWS), **columns)


def test_any_scale_of_integers_however_written_becomes_classes_from_0(tmp_path):
    for scale, form in product((range(4), (-1, 1), (10, 20, 50)), ("{}", "{}.0", " {} ")):
        stars = [scale[row % len(scale)] for row in range(20)]
        reviews = read(tmp_path, as_csv([("good", form.format(star)) for star in stars]))
        assert reviews.scale.tolist() == list(scale)
        assert reviews.ratings.tolist() == [scale.index(star) for star in stars]


def test_columns_may_have_other_names_and_the_content_of_the_file_identifies_the_reviews(tmp_path):
    rows = [(number, text, stars) for number, (text, stars) in enumerate(REVIEWS)]
    content = as_csv(rows, columns=("Unnamed", "what they wrote", "Stars"))
    reviews = read(tmp_path, content, text_column="what they wrote", rating_column="Stars")
    assert (reviews.texts, reviews.scale[reviews.ratings].tolist()) == (TEXTS, STARS)
    assert reviews.sha256 == hashlib.sha256(content).hexdigest()


def test_a_rating_that_is_no_integer_is_named_with_its_row_and_what_to_do(tmp_path):
    for rating in ("4 stars", "4/5", "4,0", "4.5", "True", "nan", "1e300", 4.5, [5], {"stars": 5}, True, "inf"):
        message = refused(tmp_path, as_jsonl([*REVIEWS[:3], ("good", rating), *REVIEWS]), "hotels.jsonl")
        assert message.startswith(f"review 4 has the rating {rating!r} (column 'Rating'); ratings must be integers: ")


def test_a_scale_has_2_to_100_ratings(tmp_path):
    for stars, values in (([4] * 40, "1 (4)"), (range(101), "101 (0, 1, 2, ...)")):
        message = refused(tmp_path, as_csv([("good", star) for star in stars]))
        assert message.startswith(f"column 'Rating' has too few or too many different values, {values}; ")


WITH_EMPTY = [*REVIEWS[:3], ("", 5), (" \n", "none"), *REVIEWS[3:]]
UNRATED = [*REVIEWS[:3], ("good", ""), ("", ""), ("bad", " "), *REVIEWS[3:]]


def test_reviews_without_text_or_rating_are_all_counted_and_the_option_is_named(tmp_path):
    says = "2 without rating (the first is review 4), 1 without text (the first is review 5)"
    assert refused(tmp_path, as_csv(UNRATED)).startswith(f"3 of 15 reviews cannot be used: {says}; --drop-empty")
    says = "; --drop-empty leaves out those without text, --drop-unrated those without rating"
    message = refused(tmp_path, as_csv(UNRATED), drop_empty=True)
    assert message == f"2 of 15 reviews cannot be used: 2 without rating (the first is review 4){says}"


MISSING = [{"Review": text, "Rating": stars} for text, stars in [(None, 3), ("good", None), *REVIEWS]]
DROPPED = {
    "hotels.csv": (as_csv(UNRATED), {"without rating": 2, "without text": 1}),
    "hotels.jsonl": (content_of(MISSING, ".jsonl"), {"without rating": 1, "without text": 1}),
    "hotels.parquet": (content_of(MISSING, ".parquet"), {"without rating": 1, "without text": 1}),
    "copies.csv": (
        as_csv([("NA", ""), *WITH_EMPTY, *((text, 1) for text in TEXTS)]),
        {"without rating": 1, "without text": 2, "duplicates": 12},
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_rows_are_dropped_on_request_of_equal_texts_all_but_the_first_with_a_rating(tmp_path, name):
    content, dropped = DROPPED[name]
    reviews = read(tmp_path, content, name, drop_empty=True, drop_unrated=True, drop_duplicates="duplicates" in dropped)
    assert (reviews.texts, reviews.scale[reviews.ratings].tolist(), reviews.dropped) == (TEXTS, STARS, dropped)


def test_what_is_wrong_in_the_rows_that_stay_is_named_as_in_the_file(tmp_path):
    options = {"drop_empty": True, "drop_duplicates": True}
    rows = [("", 1), ("good", 1), ("good", 1), ("bad", "five"), *REVIEWS]
    assert "review 4 has the rating 'five'" in refused(tmp_path, as_csv(rows), **options)
    assert refused(tmp_path, as_jsonl([("", 1), (7, 3)]), "a.jsonl", **options).startswith("review 2 is 7; it must be")
    message = refused(tmp_path, as_csv([("good", row % 2) for row in range(40)]), **options)
    assert message.endswith("too few reviews to split in four: 1; 10 are the least")


def test_a_folder_stands_for_the_studys_file_or_the_sample_or_its_only_file_of_data(tmp_path):
    for number, name in enumerate(("stays.csv", "stays.json.gz", "STAYS.PARQUET")):
        folder = tmp_path / str(number)
        folder.mkdir()
        for other in (name, "notes.txt", ".stays.csv", "embeddings.pt"):
            (folder / other).touch()
        assert find_reviews(folder) == folder / name
    (folder / "a.xlsx").touch()
    (folder / "b.jsonl").touch()
    with pytest.raises(InputError, match=f"^--path {folder}: holds STAYS.PARQUET, a.xlsx, b.jsonl, .*; name a file of"):
        find_reviews(folder)
    for name in (SAMPLE_FILE, STUDY_FILE):
        (folder / name).touch()
        assert find_reviews(folder) == folder / name
    with pytest.raises(InputError, match=f"^--path {tmp_path / 'empty'}: holds nothing; name a file of reviews"):
        (tmp_path / "empty").mkdir()
        find_reviews(tmp_path / "empty")


def parts_of(splits):
    return [splits.train, splits.validation, splits.fine_tuning, splits.test]


@given(st.integers(MIN_REVIEWS, 50_000))
def test_the_parts_follow_each_other_cover_every_row_and_none_is_empty(n):
    parts = parts_of(split_dataset(n))
    assert np.array_equal(np.concatenate(parts), np.arange(n))
    assert all(len(rows) for rows in parts)
    assert [len(rows) for rows in parts_of(split_dataset(20491))] == [8196, 2049, 8196, 2050]  # the study's


HOTELS = ["z", "b", "a", "b", "c", "a", "c", "b", "b", "d", "e", "f", "g"]


def with_groups(hotels):
    rows = [(*row, hotel) for row, hotel in zip([("", 1), *REVIEWS], hotels, strict=True)]
    return as_csv(rows, columns=("Review", "Rating", "Hotel"))


def test_groups_are_numbered_in_the_order_of_their_first_reviews_without_those_that_are_dropped(tmp_path):
    found = read(tmp_path, with_groups(HOTELS), group_column="Hotel", drop_empty=True)
    assert found.groups.tolist() == [0, 1, 0, 2, 1, 2, 0, 0, 3, 4, 5, 6]
    assert read(tmp_path, with_groups(HOTELS), drop_empty=True).groups is None
    content = with_groups(["", *HOTELS[1:4], " ", *HOTELS[5:]])
    message = refused(tmp_path, content, group_column="Hotel", drop_empty=True)
    assert message.startswith("1 of 13 reviews cannot be used: 1 without group (the first is review 5)")


def some_groups(seed, groups=200, largest=9):
    """Numbers of groups of 1 to `largest` rows, whose rows are mixed; in the order of their first rows."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, largest + 1, size=groups)))
    _, first, own = np.unique(rows, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[own]


@pytest.mark.parametrize("shuffled_by", [None, 1])
@given(seed=st.integers(0, 1000))
def test_no_group_is_in_two_parts_whose_shares_are_the_studys_but_for_half_a_group_at_either_end(shuffled_by, seed):
    groups = some_groups(seed)
    parts = parts_of(split_groups(groups, shuffled_by and np.random.default_rng(shuffled_by)))
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    assert sum(len(set(groups[rows])) for rows in parts) == 200
    in_order = all(groups[earlier].max() < groups[later].min() for earlier, later in pairwise(parts))
    assert in_order == (shuffled_by is None)  # in the order of the file
    ends = np.cumsum([len(rows) for rows in parts])[:3]
    assert np.abs(ends - np.array([0.4, 0.5, 0.9]) * len(groups)).max() <= np.bincount(groups).max() / 2


EMPTY_PARTS = {"training": [9, 1], "validation": [1, 98, 1], "fine-tuning": [1, 7, 2], "test": [4, 1, 5]}


def test_groups_that_leave_a_part_empty_are_refused_with_its_name():
    for part, sizes in EMPTY_PARTS.items():
        with pytest.raises(InputError, match=rf"^--group-column: .* \({len(sizes)}\): the {part} part is empty"):
            split_groups(np.repeat(np.arange(len(sizes)), sizes))


def warnings_of(stars, texts=None, shuffled=False):
    scale, classes = np.unique(stars, return_inverse=True)
    texts = texts or [f"review {row}" for row in range(len(stars))]
    reviews = Reviews("hotels.csv", Path(), "", texts, classes, scale)
    return warn_about(reviews, split_dataset(len(stars)), shuffled)


MIXED = [1, 2, 3, 4, 5] * 100  # 500 reviews: 200 training, 50 validation, 200 fine-tuning, 50 test


def test_a_file_whose_last_ratings_are_others_is_warned_about_unless_it_is_shuffled():
    for stars, share in ((np.sort(MIXED), "100%"), (MIXED[:450] + [5] * 50, "80%")):
        says = f"ratings of the training and the test part differ by {share}: the file seems sorted; --shuffle"
        assert any(says in line for line in warnings_of(stars))
        assert not any("sorted" in line for line in warnings_of(stars, shuffled=True))


def test_texts_in_two_parts_are_counted_with_their_share_of_the_test_part_and_those_in_one_are_not():
    texts = [f"review {row}" for row in range(500)]
    for row, copy in ((0, 460), (1, 461), (1, 462), (2, 300), (3, 4), (470, 471)):
        texts[copy] = texts[row]
    assert warnings_of(MIXED, texts) == [
        "texts in more than one part of the split, word for word: 3, also 3 of the 50 test reviews (6.0%); "
        "--drop-duplicates keeps each once"
    ]


def test_ratings_that_are_rare_are_named():
    says = "ratings with fewer than 100 reviews, of which a tenth is in the test part: "
    assert warnings_of([6, 7, *MIXED[2:]]) == [f"{says}1 (99), 2 (99), 6 (1), 7 (1)"]
    (line,) = warnings_of(list(range(100)) * 4)
    assert line == says + ", ".join(f"{star} (4)" for star in range(10)) + ", ..."


def test_an_uneven_scale_is_warned_about():
    assert warnings_of([1, 2, 3, 9] * 100) == [
        "the rating scale 1, 2, 3, 9 has uneven steps: the reward and `adjacent` noise count places on the scale, "
        "the metrics count stars"
    ]
    for scale in ([1, 2, 3, 4], [10, 20, 30, 40], [-1, 1]):
        assert warnings_of(scale * 100) == []


# --- comparisons with scores


def scored(folder, rows, **options):
    """Of a file of comparisons whose texts have scores: (prompt, chosen, rejected, score, score)."""
    columns = ("prompt", "chosen", "rejected", "score_chosen", "score_rejected")
    return read(folder, as_jsonl(rows, columns), "judged.jsonl", **options)


SCORED = [(f"q{n // 2}", f"good {n}", f"bad {n // 2}", 4 + n % 2, n % 3 + 1) for n in range(12)]


def test_both_texts_of_a_comparison_are_reviews_whose_ratings_are_the_scores(tmp_path):
    reviews = scored(tmp_path, SCORED)
    expected = {
        (f"{q}\n{text}", score) for q, *sides in SCORED for text, score in zip(sides[:2], sides[2:], strict=True)
    }
    found = list(zip(reviews.texts, reviews.scale[reviews.ratings].tolist(), strict=True))
    assert len(found) == len(expected)  # a text with the same score once
    assert set(found) == expected
    assert read_judgements(tmp_path / "judged.jsonl", reviews.texts).texts == []  # the same texts, word for word
    prompts = [text.split("\n")[0] for text in reviews.texts]
    assert [f"q{group}" for group in reviews.groups] == prompts
    without = [(None, *row[1:]) for row in SCORED]
    assert scored(tmp_path, [(None, "one", f"{n}", 5, n % 3) for n in range(12)]).groups is None  # one text is in all
    assert scored(tmp_path, without).groups.tolist() == reviews.groups.tolist()  # texts that share a rejected one


def test_comparisons_are_rated_only_where_they_have_scores_and_no_column_of_texts_is_named(tmp_path):
    content = as_jsonl([("a", "b")] * 12, columns=("chosen", "rejected"))
    assert "no column 'Review'; it has 'chosen', 'rejected'" in refused(tmp_path, content, "judged.jsonl")
    rows = [(f"q{n}", f"good {n}", "b", n % 3, 1) for n in range(12)]
    one_side = scored(tmp_path, rows, text_column="chosen", rating_column="score_chosen")
    assert one_side.texts == [f"good {n}" for n in range(12)]


def test_scores_must_be_integers_and_those_that_are_missing_can_be_left_out(tmp_path):
    with pytest.raises(InputError, match=r"review 3 has the rating 7\.5 \(column 'score_chosen, score_rejected'\); "):
        scored(tmp_path, [*SCORED[:2], ("q", "a", "b", 8, 7.5), *SCORED[3:]])
    rows = [*SCORED[:10], ("q", "a", "b", 4, None), ("q", "", "c", 4, 1)]
    says = r"1 without rating \(the first is review 11\), 1 without text \(the first is review 12\)"
    with pytest.raises(InputError, match=says):
        scored(tmp_path, rows)
    found = scored(tmp_path, rows, drop_empty=True, drop_unrated=True)
    assert (found.dropped, found.texts[-1]) == ({"without rating": 1, "without text": 1}, "q\na")
