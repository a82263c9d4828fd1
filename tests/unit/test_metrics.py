import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as known

from noisy_feedback import metrics

SCALE = np.arange(1, 6)


@settings(deadline=None)
@given(n=st.integers(2, 60), stars=st.sets(st.integers(0, 12), min_size=2, max_size=7), seed=st.integers(0, 2**32))
@example(n=60, stars={1, 2, 10}, seed=0)
def test_metrics_are_scikit_learns(n, stars, seed):
    rng, scale = np.random.default_rng(seed), np.array(sorted(stars))
    probabilities, ratings = rng.dirichlet(np.full(len(stars), 0.5), size=n), rng.integers(len(stars), size=n)
    found = metrics.evaluate(probabilities, ratings, scale)
    predicted, expected = probabilities.argmax(1), probabilities @ scale
    macro = {"average": "macro", "zero_division": 0}
    assert found.accuracy == pytest.approx(known.f1_score(ratings, predicted, average="micro"))
    assert found.macro_f1 == pytest.approx(known.f1_score(ratings, predicted, **macro))
    assert found.macro_precision == pytest.approx(known.precision_score(ratings, predicted, **macro))
    assert found.macro_recall == pytest.approx(known.recall_score(ratings, predicted, **macro))
    assert found.mean_absolute_error == pytest.approx(known.mean_absolute_error(scale[ratings], expected))
    assert metrics.expected_class(probabilities) == pytest.approx((probabilities * range(len(stars))).sum(1))
    table = known.confusion_matrix(ratings, predicted, labels=range(len(stars)))
    assert found.confusion_matrix == table.tolist()
    true, nearest = scale[ratings], [min(scale, key=lambda star: abs(star - rating)) for rating in expected]
    if len(np.unique([true, nearest])) > 1:
        every_star = range(13)  # scikit-learn weights by places in this list: so by stars
        kappa = known.cohen_kappa_score(true, nearest, weights="quadratic", labels=every_star)
        assert found.quadratic_weighted_kappa == pytest.approx(kappa)


@given(n=st.integers(2, 40), classes=st.integers(2, 4), seed=st.integers(0, 2**32))
def test_pairwise_accuracy_counts_every_pair_with_different_ratings_and_half_of_the_ties(n, classes, seed):
    rng = np.random.default_rng(seed)
    scores, ratings = rng.integers(6, size=n).astype(float), rng.integers(classes, size=n)
    pairs = [(i, j) for i in range(n) for j in range(n) if ratings[i] > ratings[j]]
    correct = sum(1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0 for i, j in pairs)
    found = metrics.pairwise_accuracy(scores, ratings)
    assert found == pytest.approx(correct / len(pairs)) if pairs else np.isnan(found)
    if pairs and ratings.max() == 1:
        assert found == pytest.approx(known.roc_auc_score(ratings, scores))


def test_a_metric_that_is_not_defined_is_nan():
    found = metrics.evaluate(np.eye(5)[[2, 2]], np.array([2, 2]), SCALE)
    assert np.isnan([found.pairwise_accuracy, found.quadratic_weighted_kappa, found.preference_accuracy]).all()
    assert np.isnan(metrics.preference_accuracy(np.empty(0)))


def test_a_scalar_output_between_classes_is_between_their_stars_and_beyond_the_ends_a_class_is_a_star():
    output, scale = np.array([[0.4], [1.5], [-1.0], [3.0]]), np.array([1, 3, 10])  # in stars 1.8, 6.5, 0 and 11
    assert metrics.expected_rating(output, scale).tolist() == pytest.approx([1.8, 6.5, 0, 11])
    found = metrics.evaluate(output, np.array([0, 1, 0, 2]), scale)
    assert (found.accuracy, found.mean_absolute_error) == (1, pytest.approx((0.8 + 3.5 + 1 + 1) / 4))


@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0]), min_size=1))
def test_preference_accuracy_is_the_share_of_positive_margins_and_half_of_the_ties(margins):
    right, ties = sum(margin > 0 for margin in margins), sum(margin == 0 for margin in margins)
    assert metrics.preference_accuracy(np.array(margins)) == pytest.approx((right + ties / 2) / len(margins))
