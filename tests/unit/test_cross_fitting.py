"""Margins of models that have not seen a comparison: by a `fit` that learns nothing and remembers what it was given."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from noisy_feedback import experiment
from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.learning import cross_fitting
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

    def fit(model, embeddings, task, config):
        calls.append((task, config))
        best, last = (RatingMLP(torch.tensor([factor, 0.0]), (1, 1)) for factor in (100.0, float(len(calls))))
        return FitResult(best, last, 1, [])

    monkeypatch.setattr(cross_fitting, "fit", fit)
    return calls


@pytest.mark.parametrize(("count", "folds"), [(12, 5), (3, 3)])
def test_a_margin_is_that_of_the_last_model_of_a_training_on_the_other_groups(calls, count, folds):
    groups = GROUPS % count
    dataset = replace(DATASET, judgements=replace(JUDGEMENTS, groups=groups))
    margins = cross_fitting.cross_fitted_margins(CONFIG, dataset, epochs=7)
    x = DATASET.embeddings[:, 0].numpy()
    number = (margins / (x[CHOSEN] - x[REJECTED])).round(3)  # of the model
    assert set(number) == set(range(1, folds + 1))
    for n, (task, config) in enumerate(calls, start=1):
        pairs = np.stack([CHOSEN, REJECTED], axis=1)
        assert task.examples.rows.tolist() == pairs[number != n].tolist()
        assert task.validation_comparisons.tolist() == pairs[number == n].tolist()
        assert not set(groups[number == n]) & set(groups[number != n])
        assert (config.epochs, config.learning_rate, config.batch) == (7, CONFIG.lr_t, CONFIG.batch_t)


def test_every_comparison_is_audited_by_models_that_are_trained_as_long_as_the_best_was(calls):
    trained = SimpleNamespace(fit=SimpleNamespace(best_epoch=3))
    everything, audit = experiment.audit_out_of_sample(CONFIG, DATASET, trained)
    assert everything.lists.tolist() == np.stack([CHOSEN, REJECTED], axis=1).tolist()
    assert audit.p_wrong.shape == (J,)
    assert {config.epochs for _, config in calls} == {3}
