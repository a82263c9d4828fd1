from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.dummy import DummyClassifier

from noisy_feedback.evaluation import metrics

SCALE = np.arange(1, 6)


def random_predictions(n, classes, seed):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.5), size=n), rng.integers(classes, size=n)


def nearest_on(scale, expected):
    """The stars (n,) on the scale that are nearest to the expected ratings; the lower of two as near."""
    return np.array([min(scale, key=lambda stars: abs(stars - rating)) for rating in expected])


def kappa_in_stars(true, predicted):
    """Quadratic weighted kappa of stars (n,): scikit-learn weights by places, so it gets every number of stars."""
    labels = range(min(*true, *predicted), max(*true, *predicted) + 1)
    return sklearn_metrics.cohen_kappa_score(true, predicted, weights="quadratic", labels=labels)


@settings(deadline=None)
@given(n=st.integers(2, 60), stars=st.sets(st.integers(0, 12), min_size=2, max_size=7), seed=st.integers(0, 2**32))
@example(n=60, stars={1, 2, 10}, seed=0)
def test_metrics_are_scikit_learns(n, stars, seed):
    classes, scale = len(stars), np.array(sorted(stars))
    probabilities, ratings = random_predictions(n, classes, seed)
    found = metrics.evaluate(probabilities, ratings, scale)
    predicted, expected = probabilities.argmax(1), probabilities @ scale
    macro = {"average": "macro", "zero_division": 0}
    assert found.accuracy == pytest.approx(sklearn_metrics.f1_score(ratings, predicted, average="micro"))
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(ratings, predicted, **macro))
    assert found.macro_precision == pytest.approx(sklearn_metrics.precision_score(ratings, predicted, **macro))
    assert found.macro_recall == pytest.approx(sklearn_metrics.recall_score(ratings, predicted, **macro))
    assert found.mean_absolute_error == pytest.approx(sklearn_metrics.mean_absolute_error(scale[ratings], expected))
    assert (
        found.confusion_matrix == sklearn_metrics.confusion_matrix(ratings, predicted, labels=range(classes)).tolist()
    )
    rounded = nearest_on(scale, expected)
    if len(np.unique([scale[ratings], rounded])) > 1:
        assert found.quadratic_weighted_kappa == pytest.approx(kappa_in_stars(scale[ratings], rounded))


@given(n=st.integers(2, 40), seed=st.integers(0, 2**32))
def test_pairwise_accuracy_counts_every_pair_with_different_ratings(n, seed):
    rng = np.random.default_rng(seed)
    scores, ratings = rng.integers(6, size=n).astype(float), rng.integers(4, size=n)
    pairs = [(i, j) for i in range(n) for j in range(n) if ratings[i] > ratings[j]]
    correct = sum(1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0 for i, j in pairs)
    found = metrics.pairwise_accuracy(scores, ratings)
    assert found == pytest.approx(correct / len(pairs)) if pairs else np.isnan(found)


def test_pairwise_accuracy_of_two_ratings_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(0)
    ratings = rng.integers(2, size=500)
    scores = ratings + rng.normal(size=500)
    assert metrics.pairwise_accuracy(scores, ratings) == pytest.approx(sklearn_metrics.roc_auc_score(ratings, scores))


def test_a_perfect_prediction_has_perfect_scores():
    ratings = np.arange(50) % 5
    found = metrics.evaluate(np.eye(5)[ratings], ratings, SCALE)
    assert (found.accuracy, found.macro_f1, found.quadratic_weighted_kappa, found.pairwise_accuracy) == (1, 1, 1, 1)
    assert found.mean_absolute_error == 0


def test_the_order_of_the_reviews_does_not_matter():
    probabilities, ratings = random_predictions(200, 5, seed=0)
    order = np.random.default_rng(1).permutation(200)
    one, other = (
        metrics.evaluate(probabilities, ratings, SCALE),
        metrics.evaluate(probabilities[order], ratings[order], SCALE),
    )
    assert one.pairwise_accuracy == other.pairwise_accuracy
    assert one.confusion_matrix == other.confusion_matrix


def test_turning_the_scale_upside_down_changes_no_score():
    probabilities, ratings = random_predictions(200, 5, seed=0)
    one = metrics.evaluate(probabilities, ratings, SCALE)
    other = metrics.evaluate(probabilities[:, ::-1], 4 - ratings, SCALE)
    for name in ("accuracy", "macro_f1", "mean_absolute_error", "quadratic_weighted_kappa", "pairwise_accuracy"):
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name


def test_errors_are_in_stars_where_the_scale_has_gaps():
    scale = np.array([1, 2, 10])
    found = metrics.evaluate(np.eye(3)[[2, 2]], np.array([1, 2]), scale)
    assert found.mean_absolute_error == 4  # 10 for 2, and 10 for 10


def test_a_metric_that_is_not_defined_is_nan():
    found = metrics.evaluate(np.eye(5)[[2, 2]], np.array([2, 2]), SCALE)
    assert np.isnan(found.pairwise_accuracy)
    assert np.isnan(found.quadratic_weighted_kappa)


def test_a_scalar_output_is_scored_by_its_distance_and_its_nearest_rating():
    found = metrics.evaluate(np.array([[0.2], [3.6], [5.0]]), np.array([0, 4, 4]), SCALE)
    assert found.accuracy == 1
    assert found.mean_absolute_error == pytest.approx((0.2 + 0.4 + 1.0) / 3)


def test_a_scalar_output_between_classes_is_between_their_stars():
    assert metrics.expected_rating(np.array([[1.5], [-1.0], [3.0]]), np.array([1, 2, 10])).tolist() == [6, 0, 11]


def test_a_scalar_output_below_the_second_class_is_between_the_first_two():
    assert metrics.expected_rating(np.array([[0.5]]), np.array([1, 5, 10])).tolist() == [3]


# --- the baseline and the score that chooses an epoch


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_the_majority_baseline_predicts_the_most_frequent_training_rating_as_scikit_learns_dummy_does(classes):
    rng = np.random.default_rng(classes)
    train_ratings, ratings = rng.integers(classes, size=101), rng.integers(classes, size=60)
    train_ratings[:40] = 1
    scale = np.arange(1, classes + 1)
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((101, 1)), train_ratings)
    predicted = dummy.predict(np.zeros((60, 1)))
    found = metrics.majority_baseline(train_ratings, ratings, scale)
    assert repr(found) == repr(metrics.evaluate(np.eye(classes)[predicted], ratings, scale))  # NaN differs from itself
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(ratings, predicted))
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(ratings, predicted, average="macro"))
    assert found.mean_absolute_error == pytest.approx(np.abs(ratings - predicted).mean())
    assert found.quadratic_weighted_kappa == pytest.approx(0)
    assert found.pairwise_accuracy == 0.5


def test_the_majority_baseline_may_predict_a_rating_that_is_not_tested():
    found = metrics.majority_baseline(np.array([4, 4, 0]), np.array([0, 0, 1]), SCALE)
    assert found.accuracy == 0
    assert found.confusion_matrix[0] == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("scale", [SCALE, np.array([1, 2, 10])])
def test_the_validation_score_is_the_metric_of_its_name(scale):
    probabilities, ratings = random_predictions(200, len(scale), seed=0)
    predicted, true, rounded = probabilities.argmax(1), scale[ratings], nearest_on(scale, probabilities @ scale)
    of_class, of_expected = (
        sklearn_metrics.confusion_matrix(true, stars, labels=scale) for stars in (scale[predicted], rounded)
    )
    for name, expected in (
        ("accuracy", sklearn_metrics.accuracy_score(ratings, predicted)),
        ("macro_f1", sklearn_metrics.f1_score(ratings, predicted, average="macro")),
        ("kappa", kappa_in_stars(true, rounded)),
    ):
        assert metrics.validation_score(name, of_class, of_expected, scale) == pytest.approx(expected), name


def test_an_undefined_kappa_is_the_lowest_validation_score():
    matrix = np.zeros((5, 5), dtype=int)
    matrix[2, 2] = 10
    assert metrics.validation_score("kappa", matrix, matrix, SCALE) == -np.inf


# --- comparisons that people made


@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0]), min_size=1))
def test_preference_accuracy_is_the_share_of_positive_margins_and_half_of_the_ties(margins):
    right, ties = sum(margin > 0 for margin in margins), sum(margin == 0 for margin in margins)
    assert metrics.preference_accuracy(np.array(margins)) == pytest.approx((right + ties / 2) / len(margins))


def test_without_comparisons_there_is_no_preference_accuracy():
    assert np.isnan(metrics.preference_accuracy(np.empty(0)))
    assert np.isnan(metrics.evaluate(np.eye(5)[[2, 3]], np.array([2, 3]), SCALE).preference_accuracy)


def test_margins_change_the_preference_accuracy_alone():
    probabilities, ratings = random_predictions(50, 5, seed=0)
    without = metrics.evaluate(probabilities, ratings, SCALE)
    found = metrics.evaluate(probabilities, ratings, SCALE, np.array([0.5, -0.1, 0.0, 2.0]))
    assert found.preference_accuracy == 2.5 / 4
    assert repr(replace(found, preference_accuracy=np.nan)) == repr(replace(without, preference_accuracy=np.nan))


def test_the_reward_is_the_expected_class_or_the_scalar_output():
    assert metrics.expected_class(np.array([[1, 0, 0], [0.25, 0.25, 0.5], [0, 0, 1]])).tolist() == [0, 1.25, 2]
    assert metrics.expected_class(np.array([[-3.5], [0.25]])).tolist() == [-3.5, 0.25]
