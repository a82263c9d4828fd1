"""A file of comparisons gives exactly its judgements, or one line that names the file, the row and the way out."""

import hashlib
from itertools import product

import numpy as np
import pytest

from noisy_feedback.data.preferences import read_judgements
from tests.conftest import content_of, message_of

GOOD, BAD, FINE, NEW = "a good stay", "two\nlines, bad", "fine", 'she said "new"'
REVIEWS = [GOOD, BAD, FINE, GOOD]  # the first and the last are the same text
ROWS = [  # of texts 0 to 2, the reviews, and 4 to 5, others
    {"chosen": GOOD, "rejected": BAD, "annotator": "zoe", "correct": "true"},
    {"chosen": NEW, "rejected": FINE, "annotator": "al", "correct": ""},
    {"chosen": BAD, "rejected": GOOD, "annotator": "zoe", "correct": "false"},
    {"chosen": FINE, "rejected": "été", "annotator": "bo", "correct": "true"},
]
SUFFIXES = (".csv", ".jsonl", ".parquet")


@pytest.fixture
def read(tmp_path):
    def read(rows, suffix=".jsonl", reviews=REVIEWS):
        (tmp_path / f"judged{suffix}").write_bytes(content_of(rows, suffix))
        return read_judgements(tmp_path / f"judged{suffix}", reviews)

    return read


@pytest.fixture
def refused(tmp_path, read):
    """The message of the error, without the file's name."""
    return lambda rows, suffix=".jsonl": message_of(tmp_path, f"judged{suffix}", read, rows, suffix)


def judged(chosen, rejected, **more):
    """One row for each of the texts in `chosen`, with lists of further columns."""
    columns = {"chosen": chosen, "rejected": rejected, **more}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


# --- texts


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_judgements_known_by_name_folder_and_content(read, tmp_path, suffix):
    found = read(ROWS, suffix)
    assert (found.name, found.folder) == (f"judged{suffix}", tmp_path)
    assert found.sha256 == hashlib.sha256((tmp_path / f"judged{suffix}").read_bytes()).hexdigest()
    assert found.texts == [NEW, "été"]
    assert found.chosen.tolist() == [0, 4, 1, 2]
    assert found.rejected.tolist() == [1, 2, 0, 5]
    assert found.pairs.tolist() == [0, 1, 0, 2]
    assert found.annotator_names == ["al", "bo", "zoe"]
    assert found.annotators.tolist() == [2, 0, 2, 1]
    assert np.array_equal(found.correct, [1, np.nan, 0, 1], equal_nan=True)


def test_a_text_takes_the_first_review_that_has_it_or_a_number_after_the_reviews(read):
    assert read(judged([FINE, BAD], ["x", "x"]), reviews=[BAD, FINE, BAD, FINE]).chosen.tolist() == [1, 0]
    found = read(judged(["b", "a", "a"], ["a", "b", GOOD]))
    assert (found.annotators, found.annotator_names, found.correct) == (None, [], None)  # texts are all that is needed
    numbers = {text: number for number, text in enumerate([*REVIEWS[:3], "", *found.texts])}
    assert found.chosen.tolist() == [numbers[text] for text in "baa"]
    assert found.rejected.tolist() == [numbers["a"], numbers["b"], 0]
    assert sorted(found.texts) == ["a", "b"]


def test_a_conversation_of_one_message_can_be_a_review(read):
    found = read(judged(*([[{"role": "assistant", "content": text}]] for text in (GOOD, FINE))))
    assert (found.chosen.tolist(), found.rejected.tolist(), found.texts) == ([0], [2], [])


def test_a_conversation_of_another_shape_is_refused_with_its_row(refused):
    cut = '[{"role": "user", "content": "x"'
    shapes = (
        ["a"],
        [{"content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [7],
        {"a": "b"},
        7,
        cut,
    )
    for shape, side in product(shapes, ("chosen", "rejected", "prompt")):
        rows = judged([GOOD, GOOD], [BAD, FINE], prompt=["", ""])
        rows[1][side] = shape
        message = refused(rows)
        assert message.startswith("comparison 2 is ")
        assert message.endswith(f"a list of messages with role and content (column {side!r})")


# --- pairs


def test_judgements_of_the_same_two_texts_are_of_one_pair_whatever_their_order_unless_pairs_have_names(read):
    found = read(judged([GOOD, "x", BAD, GOOD, GOOD, "y", BAD], [BAD, GOOD, GOOD, FINE, "x", GOOD, "x"]))
    assert found.pairs.tolist() == [0, 1, 0, 2, 1, 3, 4]
    for names, suffix in product((["q", "p", "q"], [7, 3, 7]), SUFFIXES):
        assert read(judged([GOOD, GOOD, BAD], [BAD, FINE, GOOD], pair=names), suffix).pairs.tolist() == [0, 1, 0]
    assert read(judged([GOOD, GOOD], [BAD, BAD], pair=["p", "q"])).pairs.tolist() == [0, 1]


def test_a_pair_that_is_missing_or_has_other_texts_is_refused_with_its_row(refused):
    assert refused(judged([GOOD, GOOD, BAD], [BAD, FINE, FINE], pair=["p", "q", "p"])) == (
        "comparison 3 has other texts than the first of its pair 'p'; correct or remove the column 'pair'"
    )


# --- the truth

WRITTEN = [[True, False], ["true", "false"], ["True", "FALSE"], [1, 0], ["1", "0"], [1.0, 0.0], [" true ", "0.0"]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_truth_may_be_written_in_several_ways_or_be_missing(read, suffix):
    for written in WRITTEN:
        found = read(judged([GOOD, GOOD], [BAD, FINE], correct=written), suffix)
        assert found.correct.tolist() == [1, 0], written
    found = read(judged([GOOD, GOOD, FINE], [BAD, FINE, BAD], correct=[True, None, False]), suffix)
    assert np.array_equal(found.correct, [1, np.nan, 0], equal_nan=True)


def test_a_truth_that_is_none_is_refused_with_its_row(refused):
    for wrong in ("yes", 2, -1, 0.5, [1], "text_1"):
        message = refused(judged([GOOD] * 2, [BAD] * 2, correct=[True, wrong]))
        assert message == f"'correct' of comparison 2 is {str(wrong)!r}; it must be one of true, false, 1, 0, or empty"


@pytest.mark.parametrize(("chosen", "rejected", "correct"), [(GOOD, BAD, False), (BAD, GOOD, True)])
def test_judgements_of_a_pair_that_cannot_all_be_as_said_are_refused_with_both_rows(refused, chosen, rejected, correct):
    rows = judged([GOOD, FINE, chosen], [BAD, "x", rejected], correct=[True, False, correct])
    assert refused(rows).startswith("'correct' of comparison 3 contradicts an earlier comparison of the same pair")
    wrong = judged([GOOD, FINE, chosen], [BAD, "x", rejected], wrong=[True, False, correct])
    assert refused(wrong).startswith("'wrong' of comparison 3 contradicts an earlier comparison of the same pair")


def test_the_truth_of_one_judgement_is_that_of_its_pair_and_wrong_is_the_opposite_of_correct(read):
    rows = judged([GOOD, BAD, GOOD, BAD, FINE], [BAD, GOOD, BAD, GOOD, BAD], correct=[None, False, True, None, None])
    np.testing.assert_array_equal(read(rows).correct, [1, 0, 1, 0, np.nan])
    exported = judged("aab", "bcc", wrong=[True, False, None])
    np.testing.assert_array_equal(read(exported, ".csv").correct, [0, 1, np.nan])


def test_a_file_without_rows_is_refused(refused):
    assert refused([], ".json") == "holds no comparison"
