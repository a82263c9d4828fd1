"""What `test_method.py` does not show of training: unequal scales, ties, choices of epochs, errors, devices."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from noisy_feedback.config import LOSSES, Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning import training
from noisy_feedback.learning.examples import Examples, Validation
from noisy_feedback.learning.model import Learner, RatingMLP, init_model, predict
from noisy_feedback.learning.objective import TRAINING_OBJECTIVES, Objective, fine_tuning_objective
from noisy_feedback.learning.training import TrainingTask, fit, single_threaded

CLASSES, SCALE = 4, np.array([1, 2, 10, 12])  # not evenly spaced
RATINGS = np.random.default_rng(0).integers(CLASSES, size=400)
_CENTRES = torch.randn(CLASSES, 12, generator=torch.Generator().manual_seed(0))
EMBEDDINGS = _CENTRES[RATINGS] + 0.5 * torch.randn(400, 12, generator=torch.Generator().manual_seed(1))


def new_model(head="categorical"):
    return init_model((12, 64, 32, 1 if head == "scalar" else CLASSES), np.random.default_rng(5))


def training_task(head="categorical"):
    train = Examples(np.arange(300)[:, None], RATINGS[:300, None])
    validation = Validation(np.arange(300, 400), RATINGS[300:], SCALE, np.empty((0, 2), dtype=int))
    return TrainingTask(
        train, validation, TRAINING_OBJECTIVES[head], np.random.default_rng(1), 0.002, 51, 3, "accuracy"
    )


def preference_task(loss="study", kl_weight=0.0, head="categorical"):
    """Lists of three reviews, best first; with a KL penalty, a reference that no model has given."""
    rng = np.random.default_rng(9)
    rows = np.stack([rng.choice(np.flatnonzero(RATINGS[:300] == c), 130) for c in (3, 1, 0)], axis=1)
    config = Config("multiclass", k=2, loss=loss, kl_weight=kl_weight, head=head, flip_rate=0.2)
    feedback = Feedback(rows, RATINGS[rows], 0, 130, np.zeros((130, 2)))
    reference = torch.from_numpy(np.log(rng.dirichlet(np.ones(CLASSES), size=(130, 3)))).float()
    reference = (reference[..., :1] if head == "scalar" else reference) if kl_weight else None
    objective = fine_tuning_objective(config, feedback, np.full(4, 0.25))
    return replace(training_task(), examples=Examples(rows, RATINGS[rows], reference), objective=objective)


def learned(task, model=None, embeddings=EMBEDDINGS, **changes):
    model = model or new_model("scalar" if task.objective is TRAINING_OBJECTIVES["scalar"] else "categorical")
    return fit(model, embeddings, replace(task, **changes))


def test_a_tie_counts_half_in_preference_accuracy():
    equal = RatingMLP(torch.zeros_like(new_model().parameters), new_model().widths)
    assert learned(preference_task(), equal, learning_rate=0.0, epochs=1).epochs[0].preference_accuracy == 0.5


def test_the_kappa_that_chooses_an_epoch_counts_stars_and_not_places():
    in_stars, in_places = [], []
    for epochs in range(1, 7):
        model = learned(training_task(), epochs=epochs).last
        expected = predict(model, EMBEDDINGS[300:]).numpy() @ SCALE
        nearest = np.abs(expected[:, None] - SCALE).argmin(1)
        in_places.append(cohen_kappa_score(RATINGS[300:], nearest, weights="quadratic"))
        stars = SCALE[RATINGS[300:]], SCALE[nearest]
        in_stars.append(cohen_kappa_score(*stars, weights="quadratic", labels=range(SCALE[0], SCALE[-1] + 1)))
    assert np.argmax(in_stars) != np.argmax(in_places)
    assert learned(training_task(), epochs=6, select="kappa").best_epoch == np.argmax(in_stars) + 1


ORDERED = [([0.1, 0.3, 0.2, 0.3], 2), ([0.5] * 4, 1), ([math.nan] * 3 + [0.0], 4), ([math.nan] * 4, 1), ([], 0)]


@pytest.mark.parametrize(("scores", "best"), ORDERED)
def test_of_equal_scores_the_first_is_the_best_and_one_that_is_not_defined_is_the_lowest(scores, best, monkeypatch):
    given = iter(scores)
    monkeypatch.setattr("noisy_feedback.metrics.quadratic_weighted_kappa", lambda *_: next(given))
    assert learned(training_task(), epochs=len(scores), select="kappa").best_epoch == best


def test_what_is_passed_in_is_unchanged_and_progress_is_reported_after_every_epoch():
    model, embeddings, task, calls = new_model(), EMBEDDINGS.clone(), preference_task(kl_weight=0.5), []
    rows, reference = task.examples.rows.copy(), task.examples.reference.clone()
    fit(model, embeddings, task, lambda: calls.append(1))
    assert torch.equal(model.parameters, new_model().parameters)
    assert torch.equal(embeddings, EMBEDDINGS)
    assert (task.examples.rows == rows).all()
    assert torch.equal(task.examples.reference, reference)
    assert len(calls) == 3


@pytest.mark.parametrize("head", ["categorical", "scalar"])
def test_numbers_that_are_not_finite_are_one_line(head):
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match=r"not finite in epoch 1: .*the learning rate \(--lr-f, --lr-t\)"):
            learned(training_task(head), embeddings=EMBEDDINGS * value)
    alone = Validation(*[np.empty(0, dtype=int)] * 3, np.array([[300, 301]]))  # comparisons alone
    for validation in (training_task().validation, alone):
        broken = replace(training_task(head), validation=validation, select="preference_accuracy")
        with pytest.raises(InputError, match="the model's output is not finite in epoch 1"):  # by the only step
            learned(broken, batch=10_000, epochs=1, learning_rate=1e38)
    for value, gradient in ((math.inf, 0.0), (0.0, math.nan)):
        wrong = Objective(
            lambda logits, *_, value=value: logits.sum((-1, -2)) + value,
            lambda logits, *_, gradient=gradient: torch.full_like(logits, gradient),
        )
        with pytest.raises(InputError, match=r"not finite in epoch 1: .*your own loss has no finite value or gradient"):
            learned(replace(preference_task(), objective=wrong))


def test_an_epoch_never_waits_for_the_device():
    """On torch's `meta` device nothing can be fetched: `.item()`, `.cpu()`, boolean masks and NumPy all fail there."""
    tasks = [(training_task(head), head) for head in ("categorical", "scalar")]
    tasks += [(preference_task(loss, 0.5), "categorical") for loss in LOSSES]
    tasks += [(preference_task(loss, 0.5, "scalar"), "scalar") for loss in LOSSES if loss != "study"]
    for task, head in tasks:
        model = RatingMLP(new_model(head).parameters.to("meta"), new_model(head).widths)
        if task.examples.reference is not None:
            task = replace(task, examples=replace(task.examples, reference=task.examples.reference.to("meta")))
        with torch.no_grad():
            assert training.run_epoch(Learner(model, 0.01), EMBEDDINGS.to("meta"), task).device.type == "meta"


def test_the_number_of_threads_is_restored_also_after_an_error():
    with single_threaded():  # restores the number of this process
        torch.set_num_threads(2)
        with pytest.raises(KeyError), single_threaded():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
