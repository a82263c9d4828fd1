"""The study as a story: embed, train, corrupt, compare, fine-tune, evaluate. Read this first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from noisy_feedback import as_published, comparisons, losses, noise, report, results
from noisy_feedback.embeddings import Embeddings, embed, find_embeddings, read_precalculated
from noisy_feedback.encoder import find_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.files import check_writable
from noisy_feedback.metrics import Metrics, evaluate
from noisy_feedback.regressor import Regressor, new_regressor, predict
from noisy_feedback.results import Outcome
from noisy_feedback.reviews import SAMPLE_FILE, Parts, Reviews, find_reviews, read_reviews, shuffled, split
from noisy_feedback.settings import Settings
from noisy_feedback.training import Examples, Fit, Learner, fine_tune, one_thread, take, train

# Every kind of randomness has its own generator, derived from the seed and its place here: drawing more of
# one leaves the others as they were. Append only.
RANDOMNESS = ("rows", "weights", "training batches", "noise", "comparisons", "fine-tuning batches")

Progress = Callable[[str, int], None]  # the phase, and how many runs have finished one more epoch of it


@dataclass(frozen=True)
class Material:
    """What runs are made from: vectors (n, d), classes (n,), the stars they stand for (C,); and their origin."""

    vectors: Tensor
    ratings: np.ndarray
    labels: np.ndarray
    origin: dict[str, Any]  # data, encoder, device: as results tell it


@dataclass(frozen=True)
class Feedback:
    """The noisy ratings of one run's fine-tuning part, and the lists made from them."""

    noisy: np.ndarray  # (n,) classes of the fine-tuning part
    lists: np.ndarray  # (L, k+1) positions in the fine-tuning part, best first as far as the noise lets them
    changed: int  # ratings that the noise changed; with noise in the pairs, lists that it turned around
    of: int


def run(settings: Settings) -> Path:
    """One run of the study, told on the screen and left in a folder in `settings.output`; gives that folder."""
    check_writable(settings.output)
    material = prepare([settings])
    with one_thread() as cores, report.PhaseBars(training=settings.epochs_t, fine_tuning=settings.epochs_f) as bars:
        ((outcome, regressor),) = run_all([settings], material, cores, bars.advance, tell=tqdm.write)
    folder = results.save_run(outcome, regressor, material.origin)
    print(report.outcome(outcome, material.labels.tolist()))
    print(f"results    {folder}")
    return folder


def run_all(
    runs: Sequence[Settings], material: Material, workers: int, progress: Progress, tell: Callable[[str], None]
) -> list[tuple[Outcome, Regressor]]:
    """Runs of one sweep: one training per seed, all as one stack; then all fine-tunings as one.

    Gives every run's outcome and best fine-tuned regressor (a stack of one). A run's numbers do not depend on
    the others. Call it where torch computes on one thread.
    """
    seeds = {settings.seed: settings for settings in runs}
    place = {seed: number for number, seed in enumerate(seeds)}
    parts = {seed: choose_parts(settings, len(material.ratings)) for seed, settings in seeds.items()}

    trained = train_regressors(list(seeds.values()), parts, material, workers, partial(progress, "training"))

    start = trained.best.pick([place[settings.seed] for settings in runs])
    feedback = []
    for number, settings in enumerate(runs):
        rows = parts[settings.seed].fine_tuning
        certainty = how_certain(start[number : number + 1], material, rows) if settings.noise == "hard" else None
        given = give_feedback(settings, material, rows, certainty)
        if settings.epochs_f:
            tell(report.feedback(settings, given.changed, given.of, given.lists.shape))
        feedback.append(given)

    tuned = fine_tune_regressors(runs, start, feedback, parts, material, workers, partial(progress, "fine_tuning"))

    before = {seed: test_metrics(trained.best[n : n + 1], material, parts[seed].test) for seed, n in place.items()}
    found = []
    for number, (settings, given) in enumerate(zip(runs, feedback, strict=True)):
        best, last = tuned.best[number : number + 1], tuned.last[number : number + 1]
        rows = parts[settings.seed].test
        outcome = Outcome(
            settings=settings,
            noise={"requested": settings.ratio, "changed": given.changed, "of": given.of},
            comparisons={"count": len(given.lists), "k": settings.k, "reviews_used": given.lists.size},
            best_epochs={
                "training": trained.best_epoch[place[settings.seed]],
                "fine_tuning": tuned.best_epoch[number],
            },
            training=trained.epochs[place[settings.seed]],
            fine_tuning=tuned.epochs[number],
            before=before[settings.seed],
            best=test_metrics(best, material, rows) if settings.epochs_f else None,
            last=test_metrics(last, material, rows) if settings.epochs_f else None,
        )
        found.append((outcome, best))
    return found


def prepare(runs: Sequence[Settings]) -> Material:
    """Read the reviews and get their embeddings; what can be wrong is found out before the long work."""
    settings = runs[0]
    device = choose_device(settings)
    reviews = load_reviews(settings)
    print(report.parts(reviews, choose_parts(settings, len(reviews.ratings)), settings.shuffle))
    without_vectors = Material(torch.empty(0), reviews.ratings, reviews.labels, {})
    if settings.epochs_f:
        check_feedback(runs, without_vectors)
    embeddings = obtain_embeddings(settings, reviews, device)
    data = {
        "name": reviews.name,
        "rows": len(reviews.texts),
        "classes": len(reviews.labels),
        "labels": reviews.labels.tolist(),
        "sha256": reviews.sha256,
    }
    origin = {"data": data, "encoder": embeddings.origin, "device": device}
    return Material(embeddings.vectors.to(device), reviews.ratings, reviews.labels, origin)


def generator(seed: int, of: str) -> np.random.Generator:
    """The generator of one kind of randomness of one run."""
    return np.random.default_rng([seed, RANDOMNESS.index(of)])


def choose_device(settings: Settings) -> str:
    if settings.use_cuda and torch.cuda.is_available():
        return "cuda"
    if settings.use_cuda:
        print("no GPU found: running on the CPU")
    return "cpu"


def load_reviews(settings: Settings) -> Reviews:
    file = find_reviews(settings.path)
    if file.name == SAMPLE_FILE and settings.path.is_dir():
        print(
            f"{settings.path} has no TripAdvisor file: running on the bundled sample of made-up reviews "
            "(data/README.md says how to get the real ones)"
        )
    return read_reviews(file, settings.text_column, settings.rating_column)


def choose_parts(settings: Settings, n: int) -> Parts:
    parts = split(n)
    return shuffled(parts, generator(settings.seed, "rows")) if settings.shuffle else parts


def check_feedback(runs: Sequence[Settings], material: Material) -> None:
    """Refuse, before the long work, runs whose noisy ratings leave no comparison, or no loss that can learn from them.

    `hard` noise, which needs the trained regressor, is tried as if it were uniform.
    """
    for settings in runs:
        parts = choose_parts(settings, len(material.ratings))
        nobody_knows = np.zeros(len(parts.fine_tuning))
        try:
            noisy = make_noisy(settings, material, parts.fine_tuning, nobody_knows)
            takes_flip_rate = "flip_rate" in signature(function_of(losses, "loss", settings.loss)).parameters
            if takes_flip_rate or not comparable(settings, material, noisy):
                given = give_feedback(settings, material, parts.fine_tuning, nobody_knows)
                choose_objective(settings, given, material, parts)
        except InputError as error:
            which = f" (seed {settings.seed}, {settings.noise} noise, ratio {settings.ratio:g})"
            raise InputError(f"{error}{which if len(runs) > 1 else ''}") from None


def comparable(settings: Settings, material: Material, noisy: np.ndarray) -> bool:
    """Do these ratings (n,) make one comparison at least? In less time than it takes to build them."""
    found = np.bincount(noisy, minlength=len(material.labels))[: len(material.labels)]
    if settings.gap is None:
        return settings.k < len(found) and comparisons.most_lists(found, settings.k + 1) > 0
    stars = material.labels[found > 0]
    return bool(np.isin(stars + settings.gap, stars).any())


def obtain_embeddings(settings: Settings, reviews: Reviews, device: str) -> Embeddings:
    """Stored embeddings if there are any that match; else, unless `--pc` forbids it, embed and store."""
    encoder = find_encoder(settings.model_name, settings.pooling)
    embeddings = find_embeddings(reviews.texts, encoder, reviews.folder)
    how = "found beside the data"
    if embeddings is None and settings.pc:
        embeddings = load_precalculated(settings, reviews)
    elif embeddings is None:
        how = "made"
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if device == "cuda" else ["cpu"]
        embeddings = embed(
            reviews.texts,
            encoder,
            reviews.folder,
            stem=reviews.name.partition(".")[0],
            devices=devices,
            track=report.embedding_bar,
        )
    print(report.embeddings(embeddings, how))
    return embeddings


def load_precalculated(settings: Settings, reviews: Reviews) -> Embeddings:
    file = reviews.folder / "embeddings.pt"
    if not file.exists():
        raise InputError(
            f"--pc: no stored embeddings of {reviews.name} by {settings.model_name} (pooling "
            f"{settings.pooling}) and no {file}; run once without --pc to make them"
        )
    return read_precalculated(file, len(reviews.texts))


def train_regressors(
    runs: Sequence[Settings],
    parts: dict[int, Parts],
    material: Material,
    workers: int,
    progress: Callable[[int], None],
) -> Fit:
    """Train one rating regressor per run, as one stack."""
    outputs = 1 if runs[0].head == "scalar" else len(material.labels)
    start = new_regressor(material.vectors.shape[1], outputs, [generator(run.seed, "weights") for run in runs])
    learners = [
        Learner(
            examples=singles(material, parts[run.seed].train),
            validation=validation_examples(run, material, parts[run.seed]),
            generator=generator(run.seed, "training batches"),
        )
        for run in runs
    ]
    start = Regressor(start.parameters.to(material.vectors.device), start.widths)
    return train(start, material.vectors, learners, runs[0].epochs_t, len(material.labels), workers, progress)


def give_feedback(
    settings: Settings, material: Material, rows: np.ndarray, certainty: np.ndarray | None = None
) -> Feedback:
    """Corrupt the ratings of the fine-tuning part, and build the comparisons that they imply.

    `certainty` (n,) of the trained regressor is what `hard` noise goes by.
    """
    clean = material.ratings[rows]
    if not settings.epochs_f:  # nothing is fine-tuned: nobody is asked
        return Feedback(clean, np.empty((0, settings.k + 1), dtype=np.int64), 0, len(clean))
    noisy = make_noisy(settings, material, rows, certainty)
    lists = compare(settings, material, noisy)
    if settings.noise != "pairs":
        return Feedback(noisy, lists, int((noisy != clean).sum()), len(clean))
    turned = noise.pairs(lists, settings.ratio, generator(settings.seed, "noise"))
    return Feedback(noisy, turned, int((turned != lists).any(axis=1).sum()), len(lists))


def make_noisy(settings: Settings, material: Material, rows: np.ndarray, certainty: np.ndarray | None) -> np.ndarray:
    """The ratings (n,) of the fine-tuning part as the noise leaves them; with noise in the pairs they are true."""
    clean, classes = material.ratings[rows], len(material.labels)
    drawn = generator(settings.seed, "noise")
    if "noise" in settings.as_published:
        return as_published.noise(clean, settings.ratio, classes, drawn, first=0 if settings.gap is None else 1)
    if settings.noise == "pairs":
        return clean
    if settings.noise == "hard":
        assert certainty is not None
        return noise.hard(clean, settings.ratio, classes, drawn, certainty)
    noisy = function_of(noise, "noise", settings.noise)(clean, settings.ratio, classes, drawn)
    if noisy.shape != clean.shape or noisy.min() < 0 or noisy.max() >= classes:
        raise InputError(f"--noise {settings.noise}: must give as many ratings, from 0 to {classes - 1}")
    return noisy


def function_of(room: ModuleType, option: str, name: str) -> Callable[..., Any]:
    """The function that a name in settings.py stands for."""
    function = getattr(room, name.replace("-", "_"), None)
    if function is None:
        raise InputError(f"--{option} {name}: there is no function {name.replace('-', '_')} in {room.__name__}")
    return function


def compare(settings: Settings, material: Material, noisy: np.ndarray) -> np.ndarray:
    """Lists (L, k+1) of positions in the fine-tuning part, best first by the noisy ratings."""
    drawn = generator(settings.seed, "comparisons")
    classes = len(material.labels)
    if settings.gap is None:
        lists = comparisons.lists(noisy, settings.k, classes, drawn)
    else:
        on_scale = np.flatnonzero(noisy < classes)  # all of them, but for the published code's noise
        lists = on_scale[comparisons.pairs(material.labels[noisy[on_scale]], settings.gap, drawn)]
    return as_published.order(lists) if "order" in settings.as_published else lists


def how_certain(regressor: Regressor, material: Material, rows: np.ndarray) -> np.ndarray:
    """The probability (n,) of the most probable rating."""
    return predict(regressor, take(material.vectors, rows).unsqueeze(0))[0].amax(-1).cpu().numpy()


def fine_tune_regressors(
    runs: Sequence[Settings],
    trained: Regressor,
    feedback: Sequence[Feedback],
    parts: dict[int, Parts],
    material: Material,
    workers: int,
    progress: Callable[[int], None],
) -> Fit:
    """Fine-tune one trained regressor per run on its lists, as one stack."""
    if not runs[0].epochs_f:
        return Fit(trained, trained, [0] * len(runs), [[] for _ in runs])
    learners = []
    for number, (run_settings, given) in enumerate(zip(runs, feedback, strict=True)):
        part = parts[run_settings.seed]
        rows = part.fine_tuning[given.lists]
        before = log_probabilities(trained[number : number + 1], material, rows) if run_settings.anchor else None
        learners.append(
            Learner(
                examples=Examples(rows, given.noisy[given.lists], before),
                validation=validation_examples(run_settings, material, part),
                generator=generator(run_settings.seed, "fine-tuning batches"),
                objective=choose_objective(run_settings, given, material, part),
            )
        )
    shared = runs[0]
    return fine_tune(
        trained,
        material.vectors,
        learners,
        shared.epochs_f,
        len(material.labels),
        learning_rate=shared.lr_f,
        batch=shared.batch_f,
        workers=workers,
        progress=progress,
    )


def choose_objective(settings: Settings, given: Feedback, material: Material, parts: Parts) -> losses.Objective:
    """The loss that the settings name, with the flip rate that they give or imply, and its anchor."""
    loss = function_of(losses, "loss", settings.loss)
    if "flip_rate" in signature(loss).parameters:
        rate = settings.flip_rate
        if rate is None:
            rate = implied_flip_rate(settings, given, material, parts)
        if settings.loss == "unbiased" and rate >= 0.5:
            raise InputError(
                f"--loss unbiased: a flip rate of {rate:.3g} leaves nothing to learn; it must be below 0.5 "
                "(--flip-rate, or --ratio, which it follows from)"
            )
        loss = partial(loss, flip_rate=rate)
    return losses.anchored(loss, settings.anchor)


def implied_flip_rate(settings: Settings, given: Feedback, material: Material, parts: Parts) -> float:
    """The share of reversed neighbours in the lists that the noise implies.

    The shares of the ratings in the training part stand for those under the noise.
    """
    compared = given.noisy[given.lists]  # (L, k+1)
    neighbours = np.stack([compared[:, :-1].ravel(), compared[:, 1:].ravel()], axis=1)
    shares = np.bincount(material.ratings[parts.train], minlength=len(material.labels)) / len(parts.train)
    return noise.flip_rate(settings.noise, settings.ratio, shares, neighbours)


def log_probabilities(regressor: Regressor, material: Material, rows: np.ndarray) -> np.ndarray:
    """What one run's regressor says of the reviews in lists (n, g): log-probabilities (n, g, C)."""
    probabilities = predict(regressor, take(material.vectors, rows.ravel()).unsqueeze(0))
    # Not log 0: the divergence takes it times 0.
    return probabilities.clamp(min=torch.finfo().tiny).log().float().cpu().numpy().reshape(*rows.shape, -1)


def validation_examples(settings: Settings, material: Material, parts: Parts) -> Examples:
    """What a run's best epoch is chosen by."""
    if "labels" not in settings.as_published:
        return singles(material, parts.validation)
    misaligned = as_published.labels(material.ratings, parts.train, parts.validation)
    return Examples(parts.validation[:, None], misaligned[:, None])


def singles(material: Material, rows: np.ndarray) -> Examples:
    """Reviews with their true ratings, as lists of one."""
    return Examples(rows[:, None], material.ratings[rows][:, None])


def test_metrics(regressor: Regressor, material: Material, rows: np.ndarray) -> Metrics:
    """Metrics of one run's regressor on the test part, against the true ratings."""
    probabilities = predict(regressor, take(material.vectors, rows).unsqueeze(0))[0]
    return evaluate(probabilities.cpu().numpy(), material.ratings[rows], material.labels)
