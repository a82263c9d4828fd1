"""What models say of comparisons that they were not trained on: none has to be held out for it."""

from collections.abc import Callable

import numpy as np
from scipy.special import expit

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.splits import kept_together
from noisy_feedback.feedback.audit import Audit, audit_comparisons, fit_temperature, p_better
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.feedback.human import feedback_of
from noisy_feedback.learning.examples import Examples, Validation
from noisy_feedback.learning.model import init_model, predict
from noisy_feedback.learning.objective import TRAINING_OBJECTIVES
from noisy_feedback.learning.training import TrainingTask, fit
from noisy_feedback.metrics import expected_class
from noisy_feedback.rng import rng_for

FOLDS = 5
TEXT_SDS = (0.3, 1.0, 3.0)  # prior standard deviations of the effects of texts


def steps(epochs: int) -> int:
    """How often `audit_out_of_sample` calls `progress`, at most."""
    return FOLDS * (epochs + len(TEXT_SDS))


def audit_out_of_sample(
    config: Config, dataset: Dataset, epochs: int, progress: Callable[[], object] = lambda: None
) -> tuple[Feedback, Audit]:
    """All human comparisons as they are, and their audit by models trained on others, for `epochs` epochs each.

    The temperature is that at which the margins best predict the judgements: no true order is known.
    """
    assert dataset.judgements is not None
    everything = feedback_of(dataset.judgements, np.arange(len(dataset.judgements.chosen)))
    margins = cross_fitted_margins(config, dataset, epochs, progress)
    rng = rng_for(config.seed, "text effects")
    margins = add_text_effects(margins, everything.lists, dataset.judgements.pairs, rng, progress)
    rewards, none = np.append(margins, 0)[:, None], np.full(len(margins), len(margins))
    compared = rewards, np.arange(len(margins)), none
    prior, better = p_better(*compared, fit_temperature(*compared)), everything.lists[:, 0]
    audit = audit_comparisons(prior, better, everything.pairs, everything.annotators, calibration_pairs=0)
    return everything, audit


def cross_fitted_margins(
    config: Config, dataset: Dataset, epochs: int, progress: Callable[[], object] = lambda: None
) -> np.ndarray:
    """The margin (J,) of every human comparison, by a reward model that was trained on the other folds.

    A fold holds whole groups, as the parts of the split do (`--split`). Each model is trained for `epochs` epochs.
    Source: Northcutt, Jiang and Chuang 2021, Confident learning, section 4.
    """
    judgements = dataset.judgements
    assert judgements is not None
    rng = rng_for(config.seed, "cross-fitting")
    groups = kept_together(config, judgements)
    fold = rng.permutation(np.arange(groups.max() + 1) % FOLDS)[groups]  # (J,)
    pairs = np.stack([judgements.chosen, judgements.rejected], axis=1)  # (J, 2)
    margins, none = np.empty(len(pairs)), np.empty(0, dtype=np.int64)
    for number in range(FOLDS):
        own, others = pairs[fold == number], pairs[fold != number]
        if not len(own):
            continue
        model = init_model((dataset.embeddings.shape[1], *config.hidden, 1), rng, dataset.embeddings.device)
        task = TrainingTask(
            examples=Examples(others, np.full(others.shape, -1)),
            validation=Validation(none, none, none, own),  # only measured: the model of the last epoch is taken
            objective=TRAINING_OBJECTIVES["comparisons"],
            rng=rng,
            learning_rate=config.lr_t,
            batch=config.batch_t,
            epochs=epochs,
            select="preference_accuracy",
        )
        fitted = fit(model, dataset.embeddings, task, progress)
        rewards = expected_class(predict(fitted.last, dataset.embeddings).cpu().numpy())
        margins[fold == number] = rewards[own[:, 0]] - rewards[own[:, 1]]
    return margins


def add_text_effects(
    margins: np.ndarray,
    rows: np.ndarray,
    pairs: np.ndarray,
    rng: np.random.Generator,
    progress: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Log-odds (J,) from the margins (J,) and what the judgements of other pairs say of the two texts.

    `rows` (J, 2) are the texts, the preferred one first, `pairs` (J,) the numbers of their pairs, which stay in one
    fold. The model is Bradley-Terry's: log-odds = slope * margin + effect of the one text - that of the other. The
    standard deviation of the effects is the one of TEXT_SDS that best predicts the judgements of the folds that were
    left out. Where none predicts them better than the margins alone, these are returned as they are.
    """
    _, first = np.unique(pairs, return_index=True)
    scaled = margins / (margins.std() or 1)
    if np.bincount(rows[first].ravel()).max() == 1:  # no text is in two pairs
        return margins
    fold = rng.permutation(np.arange(pairs.max() + 1) % FOLDS)[pairs]
    slope, _ = fit_text_effects(scaled, np.zeros_like(rows), 1.0, texts=1)  # the effects of one text cancel
    candidates = np.tile(slope * scaled, (1 + len(TEXT_SDS), 1))
    for at, number in np.ndindex(len(TEXT_SDS), FOLDS):
        own = fold == number
        slope, effects = fit_text_effects(scaled[~own], rows[~own], TEXT_SDS[at], rows.max() + 1)
        candidates[1 + at, own] = slope * scaled[own] + effects[rows[own, 0]] - effects[rows[own, 1]]
        progress()
    best = np.logaddexp(0, -candidates).sum(axis=1).argmin()
    return candidates[best] if best else margins


def fit_text_effects(margins: np.ndarray, rows: np.ndarray, sd: float, texts: int) -> tuple[float, np.ndarray]:
    """The most probable slope of the margins (J,) and effects (texts,), which are normal with standard deviation sd."""
    from scipy.optimize import minimize  # slow to import: see fit_temperature

    def negative_log_posterior(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, effects = parameters[0], sd * parameters[1:]
        log_odds = slope * margins + effects[rows[:, 0]] - effects[rows[:, 1]]
        wrong = expit(-log_odds)
        of_texts = np.bincount(rows[:, 1], wrong, texts) - np.bincount(rows[:, 0], wrong, texts)
        gradient = np.append(-wrong @ margins, sd * of_texts + parameters[1:])
        return float(np.logaddexp(0, -log_odds).sum() + parameters[1:] @ parameters[1:] / 2), gradient

    found = minimize(negative_log_posterior, np.zeros(texts + 1), jac=True, method="L-BFGS-B").x
    return float(found[0]), sd * found[1:]
