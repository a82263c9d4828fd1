"""Train and fine-tune a stack of regressors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from noisy_feedback import losses, metrics
from noisy_feedback.errors import InputError
from noisy_feedback.regressor import Regressor, backward, forward

TRAINING_RATE = 0.01
TRAINING_BATCH = 64
WEIGHT_DECAY = 5e-4

WithSlope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Examples:
    """What one run learns from: lists of reviews; in training, lists of one.

    `rows` (n, g) are rows of the embeddings, `ratings` (n, g) their classes.
    """

    rows: np.ndarray
    ratings: np.ndarray


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run. `training_accuracy` is of the reviews as their batch went by, on the ratings learnt."""

    loss: float  # mean per list
    training_accuracy: float
    validation_accuracy: float
    validation_macro_f1: float


@dataclass(frozen=True)
class Fit:
    """What learning ends with: per run the best epoch (1, 2, ...; 0 where none was run) and every epoch."""

    best: Regressor
    last: Regressor
    best_epoch: list[int]
    epochs: list[list[Epoch]]


def train(
    regressor: Regressor,
    embeddings: Tensor,
    examples: Sequence[Examples],
    validation: Sequence[Examples],
    generators: Sequence[np.random.Generator],
    epochs: Iterable[int],
) -> Fit:
    """Learn ratings: cross-entropy, mean over batches of 64, Adam with learning rate 0.01.

    Per run one `Examples` of single reviews (n, 1) to learn from, one to choose the best epoch by, and one
    generator that shuffles; `embeddings` (n, d) serve all. `epochs` is iterated over: a bar may wrap it.
    """

    def mean_over_batch(logits: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
        loss, slope = losses.cross_entropy_with_slope(logits, ratings)
        return loss, slope / loss.shape[1]

    return fit(
        regressor, embeddings, examples, validation, generators, epochs, mean_over_batch, TRAINING_RATE, TRAINING_BATCH
    )


def fine_tune(
    regressor: Regressor,
    embeddings: Tensor,
    examples: Sequence[Examples],
    validation: Sequence[Examples],
    generators: Sequence[np.random.Generator],
    epochs: Iterable[int],
    loss: losses.Loss,
    learning_rate: float,
    batch: int,
) -> Fit:
    """Learn preferences: `loss` summed over batches of lists that stand best first; otherwise as `train`."""
    return fit(
        regressor,
        embeddings,
        examples,
        validation,
        generators,
        epochs,
        lambda logits, ratings: losses.with_slope(loss, logits, ratings),
        learning_rate,
        batch,
    )


@torch.no_grad()
def fit(
    regressor: Regressor,
    embeddings: Tensor,
    examples: Sequence[Examples],
    validation: Sequence[Examples],
    generators: Sequence[np.random.Generator],
    epochs: Iterable[int],
    with_slope: WithSlope,
    learning_rate: float,
    batch: int,
) -> Fit:
    """Adam on every run's own examples, best epoch by validation accuracy (micro F1), the first of equals.

    Runs may have different numbers of examples: one that has used up its own takes no step.
    """
    most_first = sorted(range(len(regressor)), key=lambda run: -len(examples[run].rows))
    networks = regressor.pick(most_first)
    learners = [Learner(examples[run], validation[run], generators[run]) for run in most_first]
    optimiser = Adam(networks.parameters, learning_rate)
    best = networks.parameters.clone()
    for _ in epochs:
        loss, right = learn_one_epoch(networks, embeddings, learners, optimiser, with_slope, batch)
        for run, learner in enumerate(learners):
            size = learner.examples.rows.size
            matrix = validation_matrix(networks[run : run + 1], embeddings, learner.validation)
            epoch = Epoch(
                loss[run] / len(learner.examples.rows),
                right[run] / size,
                metrics.accuracy(matrix),
                metrics.precision_recall_f1(matrix)[2],
            )
            if learner.finished(epoch):
                best[run] = networks.parameters[run]
    back = [most_first.index(run) for run in range(len(regressor))]
    return Fit(
        best=Regressor(best, networks.widths).pick(back),
        last=networks.pick(back),
        best_epoch=[learners[run].best_epoch for run in back],
        epochs=[learners[run].epochs for run in back],
    )


class Learner:
    """One run's examples, its shuffles, and how it did."""

    def __init__(self, examples: Examples, validation: Examples, generator: np.random.Generator) -> None:
        self.examples = examples
        self.validation = validation
        self.generator = generator
        self.epochs: list[Epoch] = []
        self.best_epoch = 0

    def finished(self, epoch: Epoch) -> bool:
        """Keep the record of an epoch; is it the best so far?"""
        if not np.isfinite(epoch.loss):
            raise InputError(
                f"the loss is {epoch.loss} in epoch {len(self.epochs) + 1}: the embeddings are too "
                "large, or the learning rate (--lr-f) is too high"
            )
        self.epochs.append(epoch)
        is_best = (
            self.best_epoch == 0 or epoch.validation_accuracy > self.epochs[self.best_epoch - 1].validation_accuracy
        )
        if is_best:
            self.best_epoch = len(self.epochs)
        return is_best


def learn_one_epoch(
    networks: Regressor,
    embeddings: Tensor,
    learners: Sequence[Learner],
    optimiser: "Adam",
    with_slope: WithSlope,
    batch: int,
) -> tuple[list[float], list[int]]:
    """One pass over every run's examples, freshly shuffled; per run the summed loss and the right predictions."""
    counts = [len(learner.examples.rows) for learner in learners]
    rows, ratings = shuffled(learners, embeddings.device)  # (R, n, g), n the longest
    loss = torch.zeros(rows.shape[:2], device=rows.device)
    right = torch.zeros(rows.shape, dtype=torch.bool, device=rows.device)
    for start in range(0, rows.shape[1], batch):
        for runs, size in equal_batches(counts, start, batch):
            here = (runs, slice(start, start + size))
            lists = rows[here]  # (R', B, g)
            x = embeddings.index_select(0, lists.flatten()).view(len(lists), -1, embeddings.shape[1])
            activations = forward(networks[runs], x)
            logits = activations[-1].view(*lists.shape, -1)  # (R', B, g, C)
            loss[here], slope = with_slope(logits, ratings[here])
            right[here] = logits.argmax(-1) == ratings[here]
            gradient = backward(networks[runs], activations, slope.reshape(activations[-1].shape))
            optimiser.step(runs, gradient)
    sums = [float(loss[run, :count].double().sum()) for run, count in enumerate(counts)]
    return sums, right.sum(dim=(1, 2)).tolist()


def shuffled(learners: Sequence[Learner], device: torch.device) -> tuple[Tensor, Tensor]:
    """Every run's rows and ratings in a new random order, padded to the longest: two tensors (R, n, g)."""
    counts = [len(learner.examples.rows) for learner in learners]
    shape = (len(learners), max(counts), learners[0].examples.rows.shape[1])
    rows, ratings = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for run, (learner, count) in enumerate(zip(learners, counts, strict=True)):
        order = learner.generator.permutation(count)
        rows[run, :count] = learner.examples.rows[order]
        ratings[run, :count] = learner.examples.ratings[order]
    return torch.from_numpy(rows).to(device), torch.from_numpy(ratings).to(device)


def equal_batches(counts: Sequence[int], start: int, batch: int) -> Iterator[tuple[slice, int]]:
    """Neighbouring runs whose batch from `start` on has the same size, and that size.

    With `counts` falling, a batch that is cut short by the end of a run's examples is computed in the same
    shape as if the run were alone, and so to the same bits.
    """
    sizes = [min(batch, count - start) for count in counts if count > start]
    first = 0
    for size, group in groupby(sizes):
        last = first + len(list(group))
        yield slice(first, last), size
        first = last


def validation_matrix(regressor: Regressor, embeddings: Tensor, validation: Examples) -> np.ndarray:
    """Confusion matrix (C, C) of one run on its validation part."""
    x = take(embeddings, validation.rows[:, 0]).unsqueeze(0)
    predicted = forward(regressor, x)[-1][0].argmax(-1).cpu().numpy()
    return metrics.confusion_matrix(validation.ratings[:, 0], predicted, regressor.widths[-1])


def take(embeddings: Tensor, rows: np.ndarray) -> Tensor:
    """Rows of the embeddings (m, d); a view where they follow one another, as they do in the study's parts."""
    if len(rows) and (np.diff(rows) == 1).all():
        return embeddings[rows[0] : rows[-1] + 1]
    return embeddings[torch.from_numpy(rows).to(embeddings.device)]


class Adam:
    """PyTorch's fused Adam, per run of a stack: moments and step counts of runs that take no step stand still."""

    def __init__(self, parameters: Tensor, learning_rate: float) -> None:
        self.parameters = list(parameters)  # (P,) per run, on the stack's memory
        self.means = list(torch.zeros_like(parameters))
        self.squares = list(torch.zeros_like(parameters))
        self.steps = list(torch.zeros(len(parameters), device=parameters.device))
        self.learning_rate = learning_rate

    def step(self, runs: slice, gradient: Tensor) -> None:
        """One step of the named runs along their gradients (R', P)."""
        adam(
            self.parameters[runs],
            list(gradient),
            self.means[runs],
            self.squares[runs],
            [],
            self.steps[runs],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=WEIGHT_DECAY,
            eps=1e-8,
            maximize=False,
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums then have one order, and numbers do not depend on how many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
