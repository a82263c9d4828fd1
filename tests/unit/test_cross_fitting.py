"""Margins of models that have not seen a comparison: by a `fit` that learns nothing and remembers what it was given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.splits import TRAINING, VALIDATION, split_dataset
from noisy_feedback.experiment import train_model
from noisy_feedback.learning import cross_fitting, examples
from noisy_feedback.learning.model import RatingMLP
from noisy_feedback.learning.training import FitResult

J = 60  # judgements of two texts each
GROUPS = np.random.default_rng(0).permutation(J) % 12
CHOSEN = np.random.default_rng(1).permutation(2 * J).reshape(2, J)[0]
REJECTED = np.random.default_rng(1).permutation(2 * J).reshape(2, J)[1]
JUDGEMENTS = Judgements("", Path(), "", [], CHOSEN, REJECTED, np.arange(J), None, [], None, GROUPS, np.full(J, -1))
DATASET = Dataset(
    torch.randn(2 * J, 1, generator=torch.Generator().manual_seed(0)),
    np.full(2 * J, -1),
    np.empty(0, dtype=int),
    [""] * (2 * J),
    provenance=None,  # type: ignore[arg-type]
    judgements=JUDGEMENTS,
)
CONFIG = Config("human", path=None, comparisons=Path("c.csv"), head="scalar", loss="hinge", hidden=(), epochs_t=9)


@pytest.fixture
def calls(monkeypatch):
    """What each fit is given. The reward by the last model of the n-th is n times the embedding of a text."""
    calls = []

    def fit(model, embeddings, task, progress):
        calls.append(task)
        best, last = (RatingMLP(torch.tensor([factor, 0.0]), (1, 1)) for factor in (100.0, float(len(calls))))
        return FitResult(best, last, 1, [])

    monkeypatch.setattr(cross_fitting, "fit", fit)
    return calls


@pytest.mark.parametrize(("count", "folds"), [(12, 5), (3, 3)])
def test_a_margin_is_that_of_the_last_model_of_a_training_on_the_other_groups(calls, count, folds):
    groups = GROUPS % count
    dataset = replace(DATASET, judgements=replace(JUDGEMENTS, groups=groups))
    everything, audit = cross_fitting.audit_out_of_sample(CONFIG, dataset, epochs=7)
    assert everything.lists.tolist() == np.stack([CHOSEN, REJECTED], axis=1).tolist()
    assert audit.p_wrong.shape == (J,)
    calls.clear()
    margins = cross_fitting.cross_fitted_margins(CONFIG, dataset, epochs=7)
    x = DATASET.embeddings[:, 0].numpy()
    number = (margins / (x[CHOSEN] - x[REJECTED])).round(3)  # of the model
    assert set(number) == set(range(1, folds + 1))
    for n, task in enumerate(calls, start=1):
        pairs = np.stack([CHOSEN, REJECTED], axis=1)
        assert task.examples.rows.tolist() == pairs[number != n].tolist()
        assert task.validation.comparisons.tolist() == pairs[number == n].tolist()
        assert not set(groups[number == n]) & set(groups[number != n])
        assert (task.epochs, task.learning_rate, task.batch) == (7, CONFIG.lr_t, CONFIG.batch_t)


def test_without_ratings_a_model_learns_the_judgements_of_the_training_part_and_is_scored_on_those_of_validation():
    parts, pairs = np.arange(J) % 4, np.stack([CHOSEN, REJECTED], axis=1)
    splits = replace(split_dataset(0), judgements=parts)
    assert examples.training_part(DATASET, splits).rows.tolist() == pairs[parts == TRAINING].tolist()
    scored = examples.validation_part(CONFIG, DATASET, splits).comparisons
    assert scored.tolist() == pairs[parts == VALIDATION].tolist()
    assert train_model(CONFIG, DATASET).calibration_pairs == 0  # judgements are no known orders


# --- texts that are in several pairs


def some_pairs(seed, texts=40, count=400):
    """Texts of two pairs each and more: their true rewards (texts,), rows (J, 2) and pairs (J,) of judgements."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(0, 2, texts)
    rows = np.array([rng.choice(texts, 2, replace=False) for _ in range(count)])
    swap = rng.random(count) > 1 / (1 + np.exp(rewards[rows[:, 1]] - rewards[rows[:, 0]]))
    rows[swap] = rows[swap, ::-1]
    _, pairs = np.unique(np.sort(rows, axis=1), axis=0, return_inverse=True)
    return rewards, rows, pairs


def test_text_effects_are_those_of_scikit_learns_logistic_regression():
    _, rows, _ = some_pairs(0)
    margins = np.random.default_rng(1).normal(0.5, 1, len(rows))
    slope, effects = cross_fitting.fit_text_effects(margins, rows, sd=0.7, texts=40)
    features = np.zeros((len(rows), 41))
    features[:, 0] = 1e4 * margins  # its penalty is negligible
    features[np.arange(len(rows)), 1 + rows[:, 0]] += 1
    features[np.arange(len(rows)), 1 + rows[:, 1]] -= 1
    signs = np.where(np.arange(len(rows)) % 2, 1, -1)
    model = LogisticRegression(C=0.7**2, fit_intercept=False, tol=1e-8, max_iter=10_000)
    expected = model.fit(features * signs[:, None], signs).coef_[0] * [1e4, *np.ones(40)]
    np.testing.assert_allclose([slope, *effects], expected, atol=0.01)


def test_text_effects_find_the_order_of_pairs_that_are_left_out():
    rewards, rows, pairs = some_pairs(0)
    margins = np.random.default_rng(1).normal(0, 1, len(rows))  # of a model that knows nothing
    found = cross_fitting.add_text_effects(margins, rows, pairs, np.random.default_rng(2))
    truth = rewards[rows[:, 0]] - rewards[rows[:, 1]]
    assert np.corrcoef(found, truth)[0, 1] > 0.7
    one = rows.copy()
    one[pairs == pairs[0]] = one[pairs == pairs[0], ::-1]  # a judgement says nothing of its own pair
    margins[pairs == pairs[0]] *= -1
    again = cross_fitting.add_text_effects(margins, one, pairs, np.random.default_rng(2))
    assert again[0] == pytest.approx(-found[0])


def test_where_no_text_is_in_two_pairs_the_margins_stay():
    margins, rows = np.arange(6.0), np.arange(6).reshape(3, 2).repeat(2, axis=0)
    found = cross_fitting.add_text_effects(margins, rows, np.repeat([0, 1, 2], 2), np.random.default_rng(0))
    assert found.tolist() == margins.tolist()
