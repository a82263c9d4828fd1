"""One run of the study, top to bottom: train, add noise, compare, audit, fine-tune, evaluate. Read this first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.splits import Splits
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import RunResult, evaluate_on_test, result_of_fine_tuning, result_of_training
from noisy_feedback.feedback import comparisons, human, noise
from noisy_feedback.feedback.audit import Audit, audit_feedback, fit_temperature
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning import cross_fitting, examples
from noisy_feedback.learning.model import RatingMLP, init_model, predict
from noisy_feedback.learning.objective import TRAINING_OBJECTIVES, fine_tuning_objective, resolve_kl_weight
from noisy_feedback.learning.training import FitResult, TrainingTask, fit, select_rows, single_threaded
from noisy_feedback.metrics import Metrics
from noisy_feedback.output import console, feedback_tables, records
from noisy_feedback.prepare import prepare
from noisy_feedback.rng import rng_for

Progress = Callable[[], object]  # called after every epoch


@dataclass(frozen=True)
class Trained:
    """A trained model and what all fine-tunings of the same seed need of it: they start from its best epoch."""

    splits: Splits
    fit: FitResult
    probabilities: np.ndarray  # (n, C) of the ratings of all texts, or the scalar head's output (n, 1)
    temperature: float  # that calibrates them, for pairs as the protocol compares them
    calibration_pairs: int  # known orders that it rests on
    before: Metrics  # on the test part


@dataclass(frozen=True)
class FineTuned:
    """One run's result, its models by stage, and its comparisons with their audit, where there are any."""

    result: RunResult
    models: dict[str, RatingMLP]
    feedback: Feedback | None = None
    audit: Audit | None = None


def run(config: Config, embeddings_sha256: str | None = None) -> Path:
    """One run, printed on the screen and saved in a folder inside `config.output`; returns that folder.

    `embeddings_sha256` asks for exactly the embeddings of an earlier run.
    """
    dataset = prepare([config], embeddings_sha256)
    records.ResultsFolder(config, dataset.provenance)  # refuses the --name of another result before the work
    with single_threaded():
        with console.epoch_bar(total=config.epochs_t, desc="training") as bar:
            trained = train_model(config, dataset, bar.update)
        with console.epoch_bar(total=config.epochs_f, desc="fine-tuning") as bar:
            tuned = fine_tune_model(config, dataset, trained, bar.update, print_line=console.print_above_bar)
        feedback, audit = tuned.feedback, tuned.audit
        if config.export is not None and not dataset.is_rated:
            epochs = trained.fit.best_epoch
            with console.epoch_bar(total=cross_fitting.steps(epochs), desc="cross-fitting") as bar:
                feedback, audit = cross_fitting.audit_out_of_sample(config, dataset, epochs, bar.update)
    if config.export is not None and feedback is not None and audit is not None:
        feedback_tables.export_comparisons(config.export, feedback, audit, dataset)
    folder = records.save_run(tuned.result, tuned.models, dataset, tuned.feedback, tuned.audit)
    print(console.run_tables(tuned.result, dataset.scale))
    print(f"results    {folder}")
    return folder


def train_model(config: Config, dataset: Dataset, progress: Progress = lambda: None) -> Trained:
    """Train a rating model on the training part; keep the epoch with the best validation score."""
    splits = dataset.split(config)
    outputs = 1 if config.head == "scalar" else len(dataset.scale)
    widths = (dataset.embeddings.shape[1], *config.hidden, outputs)
    model = init_model(widths, rng_for(config.seed, "initial weights"), dataset.embeddings.device)
    validation = examples.validation_part(config, dataset, splits)
    task = TrainingTask(
        examples=examples.training_part(dataset, splits),
        validation=validation,
        objective=TRAINING_OBJECTIVES[config.head if dataset.is_rated else "comparisons"],
        rng=rng_for(config.seed, "training batches"),
        learning_rate=config.lr_t,
        batch=config.batch_t,
        epochs=config.epochs_t,
        select=config.select if dataset.is_rated else "preference_accuracy",
    )
    fitted = fit(model, dataset.embeddings, task, progress)
    probabilities = predict(fitted.best, dataset.embeddings).cpu().numpy()
    pairs, known_orders = validation.comparisons, 0  # judgements, some of them wrong, are no known orders
    if dataset.is_rated:
        rows = splits.validation
        pairs = rows[comparisons.known_pairs(config, dataset.ratings[rows], dataset.scale)]
        known_orders = min(len(pairs), len(rows))  # pairs share reviews: they count for no more than these
    temperature = fit_temperature(probabilities, *pairs.T)
    before = evaluate_on_test(fitted.best, dataset, splits)
    return Trained(splits, fitted, probabilities, temperature, known_orders, before)


def fine_tune_model(
    config: Config,
    dataset: Dataset,
    trained: Trained,
    progress: Progress = lambda: None,
    print_line: Callable[[str], None] = lambda text: None,
) -> FineTuned:
    """Fine-tune a trained model on feedback about the fine-tuning part, noisy as the configuration says."""
    splits, before = trained.splits, trained.fit.best
    result = result_of_training(config, dataset, splits, trained.fit, trained.before)
    if not config.epochs_f:
        return FineTuned(result, {"before": before})

    if dataset.judgements is None:
        noisy_ratings = noise.make_noisy(config, reviews_to_compare(dataset, trained))
        feedback = comparisons.compare(config, noisy_ratings, dataset.ratings, splits.fine_tuning, dataset.scale)
    else:
        feedback = human.feedback(config, dataset.judgements, splits, dataset.ratings)
    print_line(console.feedback(config, feedback))

    audit = audit_feedback(feedback, trained.probabilities, trained.temperature, trained.calibration_pairs)
    print_line(console.audit(feedback, audit))
    used = resolve_kl_weight(config, audit)
    if used != config:
        print_line(console.adaptive_kl_weight(used))

    validation = examples.validation_part(config, dataset, splits)
    task = TrainingTask(
        examples=examples.compared_reviews(used, feedback, trained.probabilities, dataset.embeddings.device),
        validation=validation,
        objective=fine_tuning_objective(used, feedback, dataset.class_priors(splits.train), audit),
        rng=rng_for(config.seed, "fine-tuning batches"),
        learning_rate=config.lr_f,
        batch=config.batch_f,
        epochs=used.epochs_f,
        select="preference_accuracy" if len(validation.comparisons) else config.select,
    )
    fitted = fit(before, dataset.embeddings, task, progress)
    result = result_of_fine_tuning(result, dataset, splits, feedback, audit, fitted, used)
    return FineTuned(result, {"before": before, "best": fitted.best, "last": fitted.last}, feedback, audit)


def try_fine_tuning(config: Config, dataset: Dataset, trained: Trained) -> tuple[Config, RunResult | InputError]:
    """A run of a sweep, or why it cannot be made."""
    try:
        return config, fine_tune_model(config, dataset, trained).result
    except InputError as error:
        return config, error


def reviews_to_compare(dataset: Dataset, trained: Trained) -> noise.RatedReviews:
    """The fine-tuning part, with all that noise may depend on."""
    rows = trained.splits.fine_tuning
    return noise.RatedReviews(
        ratings=dataset.ratings[rows],
        classes=len(dataset.scale),
        texts=[dataset.texts[row] for row in rows],
        embeddings=select_rows(dataset.embeddings, rows),
        confidence=trained.probabilities[rows].max(axis=-1),
    )
