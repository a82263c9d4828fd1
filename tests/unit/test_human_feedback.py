"""Human judgements become exactly the comparisons that `labels`, `lists` and `ratio` say."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from noisy_feedback.config import LABELS, Config
from noisy_feedback.data.splits import FINE_TUNING, LEFT_OUT, TEST, VALIDATION, Splits, split_with_reviews
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import human
from tests import conftest

SPLITS = Splits(*map(np.array, ([0, 1], [2, 3], range(4, 12), [12, 13])))
RATINGS = np.arange(14) % 5  # of the 14 reviews; texts from 14 on are in none
UNKNOWN = np.nan


def parted(judgements):
    """The splits of the reviews and of these judgements."""
    return replace(SPLITS, judgements=split_with_reviews(judgements, SPLITS))


def judgements_of(*rows, texts=0, annotated=True, known=True):
    """Judgements from rows of (chosen, rejected, annotator, correct)."""
    who, correct = np.array([row[2] for row in rows]), np.array([row[3] for row in rows], dtype=float)
    names = {"annotators": who, "annotator_names": ["a", "b", "c"]} if annotated else {}
    given = {"texts": [f"text {n}" for n in range(texts)], "correct": correct if known else None, **names}
    return conftest.judgements_of([row[:2] for row in rows], **given)


# Of the fine-tuning part: pair 0 by three, whose majority is right; pair 1, of which every judgement is wrong; pair 2,
# a tie; pair 3, of which nobody knows the truth. Of the true orders 4, 6 and 8 are the better texts.
ROWS: list[tuple[int, int, int, float]] = [(4, 5, 0, 1), (5, 4, 1, 0), (4, 5, 2, 1), (7, 6, 0, 0), (7, 6, 1, 0)]
ROWS += [(8, 9, 0, 1), (9, 8, 1, 0), (10, 11, 2, UNKNOWN)]
SMALL = judgements_of(*ROWS)


def feedback_of(judgements=SMALL, **options):
    return human.feedback(Config("human", **{"ratio": 0.0, **options}), judgements, parted(judgements), RATINGS)


def rows_of(found):
    """Comparisons as (better, worse, annotator, right), as judgements_of takes them."""
    return list(zip(*found.lists.T.tolist(), found.annotators.tolist(), 1 - found.flipped[:, 0], strict=True))


def test_a_judgement_is_in_the_part_of_its_two_texts_and_left_out_where_they_are_in_two():
    expected = {(2, 3): VALIDATION, (3, 2): VALIDATION, (4, 11): FINE_TUNING, (13, 12): TEST}
    expected |= dict.fromkeys([(0, 1), (0, 2), (0, 4), (12, 1), (3, 4), (4, 3), (11, 12), (2, 13)], LEFT_OUT)
    expected |= {(14, 15): FINE_TUNING, (4, 14): FINE_TUNING, (2, 14): LEFT_OUT}  # 14 and 15 are in no review
    given = judgements_of(*((*pair, 2, 1) for pair in expected), texts=2)  # all by the third annotator
    assert split_with_reviews(given, SPLITS).tolist() == list(expected.values())
    fine_tuning = [list(pair) for pair, part in expected.items() if part == FINE_TUNING]
    assert feedback_of(given).lists.tolist() == fine_tuning
    assert feedback_of(given).annotators.tolist() == [2] * len(fine_tuning)


# --- labels


def test_all_are_the_judgements_as_they_are():
    found = feedback_of(labels="all")
    assert rows_of(found)[:-1] == ROWS[:-1]
    assert np.isnan([found.flipped[-1, 0], feedback_of(ratio=1.0).flipped[-1, 0]]).all()  # not known, also reversed
    assert found.pairs.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert (found.changed, found.total, found.ties) == (0, 8, 0)


def test_one_draws_every_judgement_of_a_pair_with_the_same_probability():
    drawn = []
    for seed in range(300):
        found = feedback_of(labels="one", seed=seed)
        assert found.pairs.tolist() == [0, 1, 2, 3]
        assert set(rows_of(found)[:-1]) <= set(ROWS)
        drawn.append(found.annotators[[0, 2]])
    first, third = np.array(drawn).T
    assert stats.chisquare(np.bincount(first, minlength=3)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(third, minlength=2)).pvalue > 1e-3


def test_the_majority_is_the_order_that_most_say_and_ties_are_counted():
    found = feedback_of(labels="majority")
    assert found.lists.tolist() == [[4, 5], [7, 6], [10, 11]]
    assert np.array_equal(found.flipped[:, 0], [0, 1, UNKNOWN], equal_nan=True)
    assert (found.ties, found.total, found.annotators) == (1, 3, None)
    assert found.pairs.tolist() == [0, 1, 3]


@pytest.mark.parametrize("labels", ["one", "majority"])
def test_behind_one_order_a_pair_are_all_its_judgements_but_where_some_are_reversed(labels):
    """The judgements would show each reversal, or hide it where they were reversed, too."""
    assert feedback_of(labels="all").judged is None
    assert feedback_of(labels=labels, ratio=0.5).judged is None
    found = feedback_of(labels=labels).judged
    np.testing.assert_array_equal(found.lists, np.stack([SMALL.chosen, SMALL.rejected], axis=1))
    np.testing.assert_array_equal(found.flipped[:, 0], 1 - SMALL.correct)
    np.testing.assert_array_equal(found.annotators, SMALL.annotators)
    np.testing.assert_array_equal(found.pairs, SMALL.pairs)


def test_judgements_without_truth_or_annotators_can_be_learned_from():
    judgements = judgements_of((4, 5, 0, 0), (5, 4, 0, 0), (4, 5, 0, 0), annotated=False, known=False)
    for labels in ("all", "one", "majority"):
        found = feedback_of(judgements, labels=labels)
        assert np.isnan(found.flipped).all()
        assert found.annotators is None


# --- ratings and ratio


def test_ratings_are_those_of_the_reviews_also_of_reversed_comparisons_and_none_of_other_texts():
    judgements = judgements_of((4, 14, 0, 1), (15, 5, 0, 0), texts=2)
    assert feedback_of(judgements).ratings.tolist() == [[RATINGS[4], -1], [-1, RATINGS[5]]]
    assert feedback_of(judgements, ratio=1.0).ratings.tolist() == [[-1, RATINGS[4]], [RATINGS[5], -1]]


# --- comparisons that predictions are scored against


def test_predictions_are_scored_by_the_truth_and_where_it_is_not_known_by_every_judgement():
    def scored(judgements, part=FINE_TUNING):
        return human.comparisons_to_score(judgements, parted(judgements), part).tolist()

    assert scored(SMALL) == [[4, 5], [6, 7], [8, 9], [10, 11]]
    assert scored(replace(SMALL, correct=None)) == [list(row[:2]) for row in ROWS]
    some_known = judgements_of((4, 5, 0, UNKNOWN), (5, 4, 1, 1), (6, 7, 0, UNKNOWN), (7, 6, 1, UNKNOWN))
    assert scored(some_known) == [[5, 4], [6, 7], [7, 6]]
    of_parts = judgements_of((3, 2, 0, 0), (4, 5, 0, 1), (13, 12, 0, 1), (2, 4, 0, 1))
    assert (scored(of_parts, VALIDATION), scored(of_parts, TEST)) == ([[2, 3]], [[13, 12]])


# --- what is refused


def test_judgements_outside_the_fine_tuning_part_or_all_ties_are_no_feedback_and_true_orders_need_the_truth():
    cases = [("majority", judgements_of((4, 5, 0, 1), (5, 4, 1, 0)), "every pair of the fine-tuning part is a tie")]
    cases += [(labels, judgements_of((2, 3, 0, 1), (4, 2, 0, 1)), "no comparison has both texts") for labels in LABELS]
    for labels, known in product(("gold", "flipped"), (True, False)):
        judgements = judgements_of((4, 5, 0, UNKNOWN), (2, 3, 0, 1), known=known)
        cases.append((labels, judgements, "its column 'correct' must say which judgements are right"))
    for labels, judgements, says in cases:
        with pytest.raises(InputError, match=rf"^--labels {labels}: judged\.csv: {says}"):
            feedback_of(judgements, labels=labels)
