"""The study as a story: embed, train, corrupt, compare, fine-tune, evaluate. Read this first."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from noisy_feedback import comparisons, losses, noise, results
from noisy_feedback.embeddings import CHUNK, Embeddings, embed, find_embeddings, read_precalculated
from noisy_feedback.encoder import find_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.files import check_writable
from noisy_feedback.metrics import Metrics, evaluate
from noisy_feedback.regressor import Regressor, new_regressor, predict
from noisy_feedback.report import confusion_table, metrics_table
from noisy_feedback.reviews import SAMPLE_FILE, Parts, Reviews, find_reviews, read_reviews, shuffled, split
from noisy_feedback.settings import Settings
from noisy_feedback.training import Examples, Fit, fine_tune, one_thread, take, train

# Every kind of randomness has its own generator, derived from the seed and its place here: drawing more of
# one leaves the others as they were. Append only.
RANDOMNESS = ("rows", "weights", "training batches", "noise", "comparisons", "fine-tuning batches")


SORTED_FILE = 0.25  # contiguous parts whose ratings differ more than this do not come from a mixed file


@dataclass(frozen=True)
class Feedback:
    """The noisy ratings of one run's fine-tuning part, and the lists made from them."""

    parts: Parts
    noisy: np.ndarray  # (n,) classes of the fine-tuning part
    lists: np.ndarray  # (L, k+1) positions in the fine-tuning part, best first
    changed: int


def run(settings: Settings) -> results.Outcome:
    """One run of the study, told on the screen and left in `settings.output`."""
    check_writable(settings.output)
    device = choose_device(settings)
    reviews = load_reviews(settings)
    check_scale(settings, reviews)
    parts = choose_parts(settings, reviews)
    print_parts(reviews, parts)

    embeddings = obtain_embeddings(settings, reviews, device)
    vectors = embeddings.vectors.to(device)
    with one_thread():
        trained = train_regressors([settings], vectors, reviews, [parts])
        feedback = give_feedback(settings, reviews, parts)
        print_feedback(settings, feedback)
        tuned = fine_tune_regressors([settings], trained.best, vectors, reviews, [feedback])
        before = test(trained.best, vectors, reviews, parts)
        best, last = (
            (test(regressor, vectors, reviews, parts) for regressor in (tuned.best, tuned.last))
            if settings.epochs_f
            else (None, None)
        )

    outcome = results.Outcome(
        settings=settings,
        data={
            "name": reviews.name,
            "rows": len(reviews.texts),
            "classes": len(reviews.labels),
            "labels": reviews.labels.tolist(),
            "sha256": reviews.sha256,
        },
        encoder=embeddings.origin,
        device=device,
        noise={"requested": settings.ratio, "changed": feedback.changed, "of": len(feedback.noisy)},
        comparisons={"count": len(feedback.lists), "k": settings.k, "reviews_used": feedback.lists.size},
        training=trained.epochs[0],
        fine_tuning=tuned.epochs[0],
        best_epochs={"training": trained.best_epoch[0], "fine_tuning": tuned.best_epoch[0]},
        before=before,
        best=best,
        last=last,
        regressor=tuned.best,
    )
    print_outcome(outcome)
    print(f"results    {results.save(outcome)}")
    return outcome


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


def check_scale(settings: Settings, reviews: Reviews) -> None:
    if settings.k >= len(reviews.labels):
        raise InputError(
            f"--k {settings.k}: {reviews.name} has {len(reviews.labels)} different ratings; "
            f"k must be 1 to {len(reviews.labels) - 1}"
        )


def choose_parts(settings: Settings, reviews: Reviews) -> Parts:
    parts = split(len(reviews.texts))
    parts = shuffled(parts, generator(settings.seed, "rows")) if settings.shuffle else parts
    if settings.ratio == 0:  # without noise the lists are known to be possible or not before the long work
        give_feedback(settings, reviews, parts)
    return parts


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
            track=lambda chunks: tqdm(chunks, desc="embedding", unit=" reviews", unit_scale=CHUNK * len(devices)),
        )
    print(f"embeddings {embeddings.vectors.shape[1]} dimensions from {embeddings.origin['model']}, {how}")
    if embeddings.truncated:
        print(
            f"           {embeddings.truncated:,} reviews were cut at the model's limit of "
            f"{embeddings.limit} word pieces"
        )
    return embeddings


def load_precalculated(settings: Settings, reviews: Reviews) -> Embeddings:
    file = reviews.folder / "embeddings.pt"
    if not file.exists():
        raise InputError(
            f"--pc: no stored embeddings of {reviews.name} by {settings.model_name} (pooling "
            f"{settings.pooling}) and no {file}; run once without --pc to make them"
        )
    return read_precalculated(file, len(reviews.texts))


def train_regressors(runs: Sequence[Settings], vectors: torch.Tensor, reviews: Reviews, parts: Sequence[Parts]) -> Fit:
    """Train one rating regressor per run, as one stack."""
    start = new_regressor(vectors.shape[1], len(reviews.labels), [generator(run.seed, "weights") for run in runs])
    return train(
        Regressor(start.parameters.to(vectors.device), start.widths),
        vectors,
        examples=[singles(reviews, part.train) for part in parts],
        validation=[singles(reviews, part.validation) for part in parts],
        generators=[generator(run.seed, "training batches") for run in runs],
        epochs=epochs_with_bar(runs[0].epochs_t, "training"),
    )


def give_feedback(settings: Settings, reviews: Reviews, parts: Parts) -> Feedback:
    """Corrupt the ratings of the fine-tuning part, and build the comparisons that they imply."""
    clean = reviews.ratings[parts.fine_tuning]
    classes = len(reviews.labels)
    noisy = noise.uniform(clean, settings.ratio, classes, generator(settings.seed, "noise"))
    compared = generator(settings.seed, "comparisons")
    if settings.gap is None:
        lists = comparisons.lists(noisy, settings.k, classes, compared)
    else:
        lists = comparisons.pairs(reviews.labels[noisy], settings.gap, compared)
    return Feedback(parts, noisy, lists, changed=int((noisy != clean).sum()))


def fine_tune_regressors(
    runs: Sequence[Settings], trained: Regressor, vectors: torch.Tensor, reviews: Reviews, feedback: Sequence[Feedback]
) -> Fit:
    """Fine-tune one trained regressor per run on its lists, as one stack."""
    return fine_tune(
        trained,
        vectors,
        examples=[Examples(given.parts.fine_tuning[given.lists], given.noisy[given.lists]) for given in feedback],
        validation=[singles(reviews, given.parts.validation) for given in feedback],
        generators=[generator(run.seed, "fine-tuning batches") for run in runs],
        epochs=epochs_with_bar(runs[0].epochs_f, "fine-tuning"),
        loss=losses.study,
        learning_rate=runs[0].lr_f,
        batch=runs[0].batch_f,
    )


def singles(reviews: Reviews, rows: np.ndarray) -> Examples:
    """Reviews with their true ratings, as lists of one."""
    return Examples(rows[:, None], reviews.ratings[rows][:, None])


def test(regressor: Regressor, vectors: torch.Tensor, reviews: Reviews, parts: Parts) -> Metrics:
    """Metrics of one run's regressor on the test part, against the true ratings."""
    probabilities = predict(regressor, take(vectors, parts.test).unsqueeze(0))[0]
    return evaluate(probabilities.cpu().numpy(), reviews.ratings[parts.test], reviews.labels)


def epochs_with_bar(count: int, what: str) -> Iterable[int]:
    return tqdm(range(count), desc=what, unit=" epochs")


def print_parts(reviews: Reviews, parts: Parts) -> None:
    shares = ", ".join(
        f"{label}: {count:,}" for label, count in zip(reviews.labels, np.bincount(reviews.ratings), strict=True)
    )
    print(f"reviews    {len(reviews.texts):,} from {reviews.name} ({shares})")
    print(
        f"parts      {len(parts.train):,} training, {len(parts.validation):,} validation, "
        f"{len(parts.fine_tuning):,} fine-tuning, {len(parts.test):,} test"
    )
    train_shares, test_shares = (
        np.bincount(reviews.ratings[rows], minlength=len(reviews.labels)) / len(rows)
        for rows in (parts.train, parts.test)
    )
    apart = np.abs(train_shares - test_shares).sum() / 2  # total variation distance
    if apart > SORTED_FILE:
        print(
            f"warning: {apart:.0%} of the training part's ratings would have to change to look like the test part's: "
            "the file seems sorted; --shuffle mixes it",
            file=sys.stderr,
        )


def print_feedback(settings: Settings, feedback: Feedback) -> None:
    print(
        f"noise      {feedback.changed:,} of {len(feedback.noisy):,} fine-tuning ratings changed "
        f"(ratio {settings.ratio:g})"
    )
    kind = (
        f"lists of {settings.k + 1} different ratings" if settings.gap is None else f"pairs {settings.gap} stars apart"
    )
    print(f"comparing  {len(feedback.lists):,} {kind}, from {feedback.lists.size:,} reviews")


def print_outcome(outcome: results.Outcome) -> None:
    best = outcome.best_epochs
    print(
        f"best epoch {best['training']} of {len(outcome.training)} in training"
        + (f", {best['fine_tuning']} of {len(outcome.fine_tuning)} in fine-tuning" if outcome.fine_tuning else "")
    )
    stages = {"before": outcome.before}
    if outcome.best and outcome.last:
        stages |= {"best epoch": outcome.best, "last epoch": outcome.last}
    print(f"\ntest part\n{metrics_table(stages)}")
    for stage in ("before", "best epoch"):
        if stage in stages:
            table = confusion_table(stages[stage].confusion_matrix, outcome.data["labels"])
            print(f"\nconfusion matrix, {stage}\n{table}")
    print()
