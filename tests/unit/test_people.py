"""Judgements of people become exactly the comparisons that `labels`, `lists` and `ratio` say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from noisy_feedback.config import LABELS, Config
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import Splits
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import people
from noisy_feedback.feedback.people import FINE_TUNING, LEFT_OUT, TEST, VALIDATION

TRAIN, VALIDATION_ROWS, FINE_TUNING_ROWS, TEST_ROWS = [0, 1], [2, 3], range(4, 12), [12, 13]
SPLITS = Splits(*map(np.array, (TRAIN, VALIDATION_ROWS, FINE_TUNING_ROWS, TEST_ROWS)))
RATINGS = np.arange(14) % 5  # of the 14 reviews; texts from 14 on are in none
UNKNOWN = np.nan


def judgements_of(*rows, texts=0, annotated=True, known=True):
    """Judgements from rows of (chosen, rejected, annotator, correct)."""
    chosen, rejected, annotators, correct = map(np.array, zip(*rows, strict=True))
    key = [tuple(sorted(pair)) for pair in zip(chosen, rejected, strict=True)]
    first = list(dict.fromkeys(key))
    return Judgements(
        name="judged.csv",
        folder=Path(),
        sha256="",
        texts=[f"text {n}" for n in range(texts)],
        chosen=chosen,
        rejected=rejected,
        pairs=np.array([first.index(pair) for pair in key]),
        annotators=annotators if annotated else None,
        annotator_names=["a", "b", "c"] if annotated else [],
        correct=correct.astype(float) if known else None,
    )


# Of the fine-tuning part: pair 0 by three, whose majority is right; pair 1, of which every judgement is wrong; pair 2,
# a tie; pair 3, of which nobody knows the truth. Of the true orders 4, 6 and 8 are the better texts.
SMALL = judgements_of(
    (4, 5, 0, 1),
    (5, 4, 1, 0),
    (4, 5, 2, 1),
    (7, 6, 0, 0),
    (7, 6, 1, 0),
    (8, 9, 0, 1),
    (9, 8, 1, 0),
    (10, 11, 2, UNKNOWN),
)
PAIR = SMALL.pairs


def feedback_of(judgements=SMALL, **options):
    return people.feedback(Config("human", **{"ratio": 0.0, **options}), judgements, SPLITS, RATINGS)


def many_pairs(seed=0, pairs=60, per_pair=3, rate=0.3):
    """Judgements of pairs of texts that are in no review, the first of each pair the better."""
    rng = np.random.default_rng(seed)
    rows = []
    for pair in range(pairs):
        for annotator in range(per_pair):
            better, worse = 14 + 2 * pair, 15 + 2 * pair
            wrong = rng.random() < rate
            rows.append((worse, better, annotator, 0) if wrong else (better, worse, annotator, 1))
    return judgements_of(*rows, texts=2 * pairs)


# --- parts


def part_of(*pair, texts=0):
    return people.part_of_judgements(judgements_of((*pair, 0, 1), texts=texts), SPLITS).tolist()[0]


@pytest.mark.parametrize(
    ("pair", "part"), [((2, 3), VALIDATION), ((3, 2), VALIDATION), ((4, 11), FINE_TUNING), ((13, 12), TEST)]
)
def test_a_judgement_is_in_the_part_of_its_two_texts(pair, part):
    assert part_of(*pair) == part


@pytest.mark.parametrize("pair", [(0, 2), (0, 4), (12, 1), (3, 4), (4, 3), (11, 12), (2, 13)])
def test_a_judgement_of_texts_in_two_parts_is_left_out(pair):
    assert part_of(*pair) == LEFT_OUT


def test_a_judgement_of_training_texts_is_left_out():
    assert part_of(0, 1) == LEFT_OUT


@pytest.mark.parametrize(("pair", "part"), [((14, 15), FINE_TUNING), ((4, 14), FINE_TUNING), ((2, 14), LEFT_OUT)])
def test_a_text_that_is_in_no_review_counts_as_fine_tuning(pair, part):
    assert part_of(*pair, texts=2) == part


def test_the_parts_may_be_any_rows():
    shuffled = Splits(*(np.array(rows) for rows in ([13, 5], [0, 12], [1, 2, 3, 4, 6, 7, 8, 9], [10, 11])))
    found = people.part_of_judgements(
        judgements_of((12, 0, 0, 1), (1, 9, 0, 1), (10, 11, 0, 1), (13, 5, 0, 1)), shuffled
    )
    assert found.tolist() == [VALIDATION, FINE_TUNING, TEST, LEFT_OUT]


def test_only_judgements_of_the_fine_tuning_part_are_learned_from():
    judgements = judgements_of((2, 3, 0, 1), (4, 5, 0, 1), (12, 13, 0, 1), (4, 2, 0, 1), (0, 1, 0, 1))
    assert feedback_of(judgements).lists.tolist() == [[4, 5]]


# --- labels


def test_all_are_the_judgements_as_they_are():
    found = feedback_of(labels="all")
    assert found.lists.tolist() == np.stack([SMALL.chosen, SMALL.rejected], axis=1).tolist()
    assert np.array_equal(found.wrong[:, 0], [0, 1, 0, 1, 1, 0, 1, UNKNOWN], equal_nan=True)
    assert found.pairs.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert found.annotators.tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert (found.changed, found.total, found.ties) == (0, 8, 0)


def test_one_is_a_judgement_of_every_pair():
    found = feedback_of(labels="one")
    assert found.pairs.tolist() == [0, 1, 2, 3]
    rows = {(*pair, annotator) for *pair, annotator in zip(SMALL.chosen, SMALL.rejected, SMALL.annotators, strict=True)}
    assert {(*pair, annotator) for pair, annotator in zip(found.lists.tolist(), found.annotators, strict=True)} <= rows


def test_one_draws_every_judgement_of_a_pair_with_the_same_probability():
    drawn = [feedback_of(labels="one", seed=seed).annotators[[0, 2]] for seed in range(300)]
    first, third = np.array(drawn).T
    assert stats.chisquare(np.bincount(first, minlength=3)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(third, minlength=2)).pvalue > 1e-3


def test_the_majority_is_the_order_that_most_say_and_ties_are_counted():
    found = feedback_of(labels="majority")
    assert found.lists.tolist() == [[4, 5], [7, 6], [10, 11]]
    assert np.array_equal(found.wrong[:, 0], [0, 1, UNKNOWN], equal_nan=True)
    assert (found.ties, found.total, found.annotators) == (1, 3, None)
    assert found.pairs.tolist() == [0, 1, 3]


def test_the_majority_is_against_the_first_judgement_where_most_are():
    found = feedback_of(judgements_of((5, 4, 0, 0), (4, 5, 1, 1), (4, 5, 2, 1)), labels="majority")
    assert (found.lists.tolist(), found.wrong.tolist()) == ([[4, 5]], [[0]])


def test_the_majority_of_many_pairs_is_that_of_a_count():
    judgements = many_pairs(per_pair=4, rate=0.4)
    found = feedback_of(judgements, labels="majority")
    right = np.bincount(judgements.pairs, judgements.correct)
    assert found.ties == (right == 2).sum() > 0
    assert found.pairs.tolist() == np.flatnonzero(right != 2).tolist()
    assert found.wrong[:, 0].tolist() == (right[right != 2] < 2).astype(float).tolist()


def test_gold_is_the_true_order_also_where_every_judgement_is_wrong():
    found = feedback_of(labels="gold")
    assert found.lists.tolist() == [[4, 5], [6, 7], [8, 9]]
    assert found.wrong.tolist() == [[0], [0], [0]]
    assert (found.pairs.tolist(), found.annotators) == ([0, 1, 2], None)


def test_gold_takes_the_truth_from_any_judgement_of_a_pair_that_knows_it():
    judgements = judgements_of((4, 5, 0, UNKNOWN), (4, 5, 1, 0))
    assert feedback_of(judgements, labels="gold").lists.tolist() == [[5, 4]]


@pytest.mark.parametrize("seed", range(5))
def test_flipped_has_exactly_as_many_wrong_pairs_as_one_of_the_same_seed(seed):
    judgements = many_pairs()
    one, flipped, gold = (feedback_of(judgements, labels=name, seed=seed) for name in ("one", "flipped", "gold"))
    assert flipped.wrong.sum() == one.wrong.sum() > 0
    assert sorted(flipped.pairs) == sorted(one.pairs)
    assert ((flipped.lists != gold.lists).all(axis=1) == flipped.wrong[:, 0]).all()


def test_flipped_reverses_every_pair_with_the_same_probability():
    judgements = many_pairs(pairs=6, per_pair=1, rate=0.0)
    judgements = replace(judgements, correct=np.array([0, 0, 1, 1, 1, 1.0]))  # 2 of 6, whichever the seed
    reversed_pairs = [np.flatnonzero(feedback_of(judgements, labels="flipped", seed=s).wrong[:, 0]) for s in range(300)]
    assert all(len(pairs) == 2 for pairs in reversed_pairs)
    assert stats.chisquare(np.bincount(np.concatenate(reversed_pairs), minlength=6)).pvalue > 1e-3


@pytest.mark.parametrize("labels", LABELS)
def test_wrong_says_which_orders_are_not_the_true_ones(labels):
    found = feedback_of(many_pairs(), labels=labels, ratio=0.4)
    assert (found.wrong[:, 0] == (found.lists[:, 0] > found.lists[:, 1])).all()


def test_judgements_without_truth_or_annotators_can_be_learned_from():
    judgements = judgements_of((4, 5, 0, 0), (5, 4, 0, 0), (4, 5, 0, 0), annotated=False, known=False)
    for labels in ("all", "one", "majority"):
        found = feedback_of(judgements, labels=labels)
        assert np.isnan(found.wrong).all()
        assert found.annotators is None


# --- ratings


def test_ratings_are_those_of_the_reviews_and_none_of_other_texts():
    judgements = judgements_of((4, 14, 0, 1), (15, 5, 0, 0), texts=2)
    assert feedback_of(judgements).ratings.tolist() == [[RATINGS[4], -1], [-1, RATINGS[5]]]


def test_a_reversed_comparison_has_the_ratings_of_its_texts():
    found = feedback_of(ratio=1.0)
    assert (found.ratings == RATINGS[found.lists]).all()


# --- ratio


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_the_ratio_reverses_exactly_that_share_and_what_was_right_is_wrong(labels, ratio):
    clean, noisy = (feedback_of(many_pairs(pairs=30), labels=labels, ratio=share) for share in (0.0, ratio))
    changed = (noisy.lists != clean.lists).any(axis=1)
    assert changed.sum() == noisy.changed == round(ratio * noisy.total)
    assert noisy.total == len(noisy.lists) == len(clean.lists)
    assert (noisy.lists[changed] == clean.lists[changed, ::-1]).all()
    assert (noisy.wrong[changed] == 1 - clean.wrong[changed]).all()
    assert (noisy.wrong[~changed] == clean.wrong[~changed]).all()


def test_what_is_not_known_to_be_right_is_not_known_to_be_wrong_when_it_is_reversed():
    assert np.isnan(feedback_of(ratio=1.0).wrong[-1, 0])


def test_which_comparisons_are_reversed_does_not_depend_on_how_they_were_drawn():
    found = {}
    for labels in ("one", "flipped", "gold"):
        clean, noisy = (feedback_of(many_pairs(), labels=labels, ratio=ratio, seed=3) for ratio in (0.0, 0.3))
        found[labels] = np.flatnonzero((noisy.lists != clean.lists).any(axis=1)).tolist()
    assert found["one"] == found["flipped"] == found["gold"]


def test_the_ratio_changes_neither_which_judgements_are_drawn_nor_who_made_them():
    clean, noisy = (feedback_of(many_pairs(), labels="one", ratio=ratio, lists=40) for ratio in (0.0, 0.5))
    assert (np.sort(clean.lists, axis=1) == np.sort(noisy.lists, axis=1)).all()
    assert (clean.annotators == noisy.annotators).all()


# --- lists and seeds


@pytest.mark.parametrize("labels", LABELS)
def test_at_most_as_many_comparisons_as_asked_for_are_drawn_from_all(labels):
    everything, some = (feedback_of(many_pairs(), labels=labels, lists=lists) for lists in (None, 7))
    assert len(some.lists) == len(some.wrong) == len(some.ratings) == len(some.pairs) == some.total == 7
    every = {(pair, *order) for pair, order in zip(everything.pairs, everything.lists.tolist(), strict=True)}
    assert {(pair, *order) for pair, order in zip(some.pairs, some.lists.tolist(), strict=True)} < every


def test_comparisons_that_are_drawn_keep_their_annotator_and_their_truth():
    found = feedback_of(many_pairs(), lists=50)
    judged = many_pairs()
    rows = zip(judged.chosen, judged.rejected, judged.annotators, 1 - judged.correct, strict=True)
    assert {*zip(*found.lists.T, found.annotators, found.wrong[:, 0], strict=True)} <= {*rows}


def test_a_limit_above_what_there_is_leaves_out_nothing():
    assert sorted(feedback_of(lists=100).lists.tolist()) == sorted(feedback_of().lists.tolist())


def test_a_limit_keeps_every_comparison_with_the_same_probability():
    drawn = [feedback_of(many_pairs(pairs=10, per_pair=1), lists=3, seed=seed).pairs for seed in range(300)]
    assert stats.chisquare(np.bincount(np.concatenate(drawn), minlength=10)).pvalue > 1e-3


@pytest.mark.parametrize("labels", ["one", "flipped"])
def test_the_same_seed_gives_the_same_feedback_and_another_seed_another(labels):
    first, same, other = (feedback_of(many_pairs(), labels=labels, ratio=0.3, seed=seed) for seed in (1, 1, 2))
    assert (first.lists == same.lists).all()
    assert (first.lists != other.lists).any()


@pytest.mark.parametrize("labels", LABELS)
def test_the_judgements_are_left_as_they_are(labels):
    judgements = many_pairs()
    feedback_of(judgements, labels=labels, ratio=1.0)
    for name in ("chosen", "rejected", "pairs", "annotators", "correct"):
        assert (getattr(judgements, name) == getattr(many_pairs(), name)).all()


# --- comparisons that predictions are scored against


def test_predictions_are_scored_by_the_truth_and_where_it_is_not_known_by_every_judgement():
    pairs = people.comparisons_to_score(SMALL, SPLITS, FINE_TUNING).tolist()
    assert sorted(pairs) == [[4, 5], [6, 7], [8, 9], [10, 11]]


def test_without_any_truth_every_judgement_is_scored_against():
    unknown = replace(SMALL, correct=None)
    pairs = people.comparisons_to_score(unknown, SPLITS, FINE_TUNING)
    assert pairs.tolist() == np.stack([SMALL.chosen, SMALL.rejected], axis=1).tolist()


def test_judgements_that_do_not_know_the_truth_of_a_known_pair_do_not_count():
    judgements = judgements_of((4, 5, 0, UNKNOWN), (5, 4, 1, 1), (6, 7, 0, UNKNOWN), (7, 6, 1, UNKNOWN))
    found = people.comparisons_to_score(judgements, SPLITS, FINE_TUNING)
    assert found.tolist() == [[5, 4], [6, 7], [7, 6]]


@pytest.mark.parametrize(("part", "pair"), [(VALIDATION, [2, 3]), (TEST, [13, 12])])
def test_predictions_are_scored_against_pairs_of_one_part(part, pair):
    judgements = judgements_of((3, 2, 0, 0), (4, 5, 0, 1), (13, 12, 0, 1), (2, 4, 0, 1))
    assert people.comparisons_to_score(judgements, SPLITS, part).tolist() == [pair]


@pytest.mark.parametrize("known", [True, False])
def test_a_part_without_judgements_has_no_comparisons(known):
    judgements = judgements_of((4, 5, 0, 1), known=known)
    assert people.comparisons_to_score(judgements, SPLITS, TEST).shape == (0, 2)


# --- what is refused


@pytest.mark.parametrize("labels", LABELS)
def test_judgements_outside_the_fine_tuning_part_are_no_feedback(labels):
    with pytest.raises(
        InputError, match=r"^judged\.csv: no comparison has both texts in the fine-tuning part; --group"
    ):
        feedback_of(judgements_of((2, 3, 0, 1), (4, 2, 0, 1)), labels=labels)


@pytest.mark.parametrize("labels", ["gold", "flipped"])
@pytest.mark.parametrize("known", [True, False])
def test_true_orders_need_the_truth(labels, known):
    judgements = judgements_of((4, 5, 0, UNKNOWN), (2, 3, 0, 1), known=known)
    with pytest.raises(InputError, match=f"^--labels {labels}: judged.csv does not say which judgements are right"):
        feedback_of(judgements, labels=labels)


def test_a_majority_needs_a_pair_that_is_no_tie():
    with pytest.raises(InputError, match=r"^judged\.csv: every pair of the fine-tuning part is a tie"):
        feedback_of(judgements_of((4, 5, 0, 1), (5, 4, 1, 0)), labels="majority")
