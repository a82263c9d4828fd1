"""One run of the study, top to bottom: train, collect feedback, audit it, fine-tune, evaluate. Read this first."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.reviews import Splits, class_priors
from noisy_feedback.evaluation.metrics import Metrics, evaluate, expected_class, majority_baseline
from noisy_feedback.feedback import people
from noisy_feedback.feedback.audit import Audit, audit_comparisons, fit_temperature, p_better
from noisy_feedback.feedback.comparisons import Feedback, no_feedback
from noisy_feedback.feedback.noise import RatedReviews
from noisy_feedback.feedback.simulate import draw_known_pairs, simulate_feedback
from noisy_feedback.files import atomic_write, check_writable
from noisy_feedback.learning.examples import compared_reviews, comparisons_to_score, single_reviews, validation_reviews
from noisy_feedback.learning.losses import TRAINING_OBJECTIVES
from noisy_feedback.learning.model import RatingMLP, init_model, predict
from noisy_feedback.learning.objective import fine_tuning_objective
from noisy_feedback.learning.training import FitResult, TrainConfig, TrainingTask, fit, select_rows, single_threaded
from noisy_feedback.output import console
from noisy_feedback.output.comparisons import AuditedFeedback, export_comparisons
from noisy_feedback.output.records import RunResult, check_run_name, save_run
from noisy_feedback.prepare import prepare
from noisy_feedback.rng import rng_for

Progress = Callable[[], None]  # called after every epoch


@dataclass(frozen=True)
class Trained:
    """What training leaves for all fine-tunings of the same seed: they start from the model of the best epoch."""

    splits: Splits
    fit: FitResult
    probabilities: np.ndarray  # (n, C) of the ratings of all texts, or the scalar head's output (n, 1)
    temperature: float  # that calibrates them, for pairs as the protocol compares them
    before: Metrics  # on the test part


class FineTuned(NamedTuple):
    """What one run leaves: its result, the models by stage, and its comparisons, where there are any."""

    result: RunResult
    models: dict[str, RatingMLP]
    feedback: AuditedFeedback | None


def run(config: Config, embeddings_sha256: str | None = None) -> Path:
    """One run, printed on the screen and saved in a folder inside `config.output`; returns that folder.

    `embeddings_sha256` asks for exactly the embeddings of an earlier run.
    """
    check_writable(config.output / (config.name or ""))
    dataset = prepare([config], embeddings_sha256)
    check_run_name(config, dataset.provenance)
    with single_threaded():
        with console.epoch_bar("training", config.epochs_t) as progress:
            trained = train_model(config, dataset, progress)
        with console.epoch_bar("fine-tuning", config.epochs_f) as progress:
            tuned = fine_tune_model(config, dataset, trained, progress, print_line=console.print_above_bar)
    result, feedback = tuned.result, tuned.feedback
    if feedback is not None:
        feedback = replace(feedback, output_after=predict(tuned.models["last"], dataset.embeddings).cpu().numpy())
    names = dataset.judgements.annotator_names if dataset.judgements else []
    folder = save_run(result, tuned.models, dataset.provenance, feedback, names)
    draw(result, folder)
    if config.export is not None and feedback is not None:
        export_comparisons(config.export, feedback, dataset)
    print(console.run_tables(result, dataset.scale))
    print(f"results    {folder}")
    return folder


def draw(result: RunResult, folder: Path) -> None:
    """Draw the curves of a run that had epochs."""
    if not result.training and not result.fine_tuning:
        return
    from noisy_feedback.output import figures  # imports matplotlib: only when there is something to draw

    with atomic_write(folder / "curves.png") as file:
        figures.save_figure(figures.draw_run(result), file)


def train_model(config: Config, dataset: Dataset, progress: Progress = lambda: None) -> Trained:
    """Train a rating model on the training part; keep the epoch with the best validation score."""
    splits = dataset.split(config)
    outputs = 1 if config.head == "scalar" else len(dataset.scale)
    widths = (dataset.embeddings.shape[1], *config.hidden, outputs)
    model = init_model(widths, rng_for(config.seed, "initial weights"), dataset.embeddings.device)
    task = TrainingTask(
        examples=single_reviews(dataset, splits.train),
        validation=validation_reviews(config, dataset, splits),
        objective=TRAINING_OBJECTIVES[config.head],
        rng=rng_for(config.seed, "training batches"),
        validation_comparisons=comparisons_to_score(dataset, splits, people.VALIDATION),
    )
    train_config = TrainConfig(config.lr_t, config.batch_t, config.epochs_t, dataset.scale, config.select)
    fitted = fit(model, dataset.embeddings, task, train_config, progress)
    probabilities = predict(fitted.best, dataset.embeddings).cpu().numpy()
    known = dataset.ratings[splits.validation]
    pairs = draw_known_pairs(config, known, dataset.scale, rng_for(config.seed, "calibration"))
    temperature = fit_temperature(probabilities[splits.validation], *pairs.T)
    return Trained(splits, fitted, probabilities, temperature, evaluate_on_test(fitted.best, dataset, splits))


def fine_tune_model(
    config: Config,
    dataset: Dataset,
    trained: Trained,
    progress: Progress = lambda: None,
    print_line: Callable[[str], None] = lambda text: None,
) -> FineTuned:
    """Fine-tune a trained model on feedback about the fine-tuning part; the result, and the models by stage."""
    splits, audited = trained.splits, None
    fitted = FitResult(trained.fit.best, trained.fit.best, 0, [])
    feedback = no_feedback(config.k, len(splits.fine_tuning))
    if config.epochs_f:
        feedback = collect_feedback(config, dataset, trained)
        print_line(console.feedback(config, feedback))
        audited = AuditedFeedback(feedback, audit(trained, feedback), trained.probabilities)
        print_line(console.audit(audited))
        compared = comparisons_to_score(dataset, splits, people.VALIDATION)
        priors = class_priors(dataset.ratings[splits.train], len(dataset.scale))
        task = TrainingTask(
            examples=compared_reviews(config, feedback, trained.probabilities, dataset.embeddings.device),
            validation=validation_reviews(config, dataset, splits),
            objective=fine_tuning_objective(config, feedback, priors, audited.audit.flip_rate),
            rng=rng_for(config.seed, "fine-tuning batches"),
            validation_comparisons=compared,
        )
        select = config.select if compared is None else "preference_accuracy"
        train_config = TrainConfig(config.lr_f, config.batch_f, config.epochs_f, dataset.scale, select)
        fitted = fit(trained.fit.best, dataset.embeddings, task, train_config, progress)
    result = RunResult(
        config=config,
        noise={"ratio": config.ratio, "changed": feedback.changed, "total": feedback.total},
        comparisons={
            "count": len(feedback.lists),
            "k": config.k,
            "reviews_used": len(np.unique(feedback.lists)),
            "ties": feedback.ties,
        },
        audit=audited.scores() if audited else None,
        best_epochs={"training": trained.fit.best_epoch, "fine_tuning": fitted.best_epoch},
        training=trained.fit.epochs,
        fine_tuning=fitted.epochs,
        majority=replace(
            majority_baseline(dataset.ratings[splits.train], dataset.ratings[splits.test], dataset.scale),
            # All comparisons are ties, where there are any.
            preference_accuracy=0.5 if not math.isnan(trained.before.preference_accuracy) else math.nan,
        ),
        before=trained.before,
        best=evaluate_on_test(fitted.best, dataset, splits) if config.epochs_f else None,
        last=evaluate_on_test(fitted.last, dataset, splits) if config.epochs_f else None,
    )
    tuned = {"best": fitted.best, "last": fitted.last} if config.epochs_f else {}
    return FineTuned(result, {"before": trained.fit.best, **tuned}, audited)


def collect_feedback(config: Config, dataset: Dataset, trained: Trained) -> Feedback:
    """The comparisons to learn from, as rows of the embeddings: those that people made, or else simulated ones."""
    if dataset.judgements is not None:
        return people.feedback(config, dataset.judgements, trained.splits, dataset.ratings)
    feedback = simulate_feedback(config, reviews_to_compare(dataset, trained), dataset.scale)
    return replace(feedback, lists=trained.splits.fine_tuning[feedback.lists])


def reviews_to_compare(dataset: Dataset, trained: Trained) -> RatedReviews:
    """The fine-tuning part, with all that noise may depend on."""
    rows = trained.splits.fine_tuning
    return RatedReviews(
        ratings=dataset.ratings[rows],
        classes=len(dataset.scale),
        texts=[dataset.texts[row] for row in rows],
        embeddings=select_rows(dataset.embeddings, rows),
        confidence=trained.probabilities[rows].max(axis=-1),
    )


def audit(trained: Trained, feedback: Feedback) -> Audit:
    """Which comparisons are wrong, as the trained model and the annotators together say: the truth is not used."""
    better, worse = feedback.neighbours()
    prior = p_better(trained.probabilities, better, worse, trained.temperature)
    return audit_comparisons(prior, better, feedback.pairs, feedback.annotators)


def evaluate_on_test(model: RatingMLP, dataset: Dataset, splits: Splits) -> Metrics:
    """Metrics on the test part, against the true ratings, and on its comparisons, against the true orders."""
    output = predict(model, select_rows(dataset.embeddings, splits.test))
    margins = None
    if (pairs := comparisons_to_score(dataset, splits, people.TEST)) is not None:
        rewards = expected_class(predict(model, dataset.embeddings).cpu().numpy())
        margins = rewards[pairs[:, 0]] - rewards[pairs[:, 1]]
    return evaluate(output.cpu().numpy(), dataset.ratings[splits.test], dataset.scale, margins)
