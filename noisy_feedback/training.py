"""Train and fine-tune a stack of regressors."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from threading import Event

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from noisy_feedback import metrics
from noisy_feedback.errors import InputError
from noisy_feedback.losses import (
    Objective,
    anchored,
    cross_entropy,
    cross_entropy_slope,
    slope,
    squared_error,
    squared_error_slope,
)
from noisy_feedback.regressor import Regressor, Workspace, backward, forward, most_likely_class

TRAINING_RATE = 0.01
TRAINING_BATCH = 64
WEIGHT_DECAY = 5e-4
TRAINING_OBJECTIVE = anchored(cross_entropy, 0.0)
CACHE = 2 * 2**20  # bytes of one batch of a stack that a core keeps close; larger stacks are computed in pieces

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Examples:
    """What one run learns from: lists of reviews; in training, lists of one.

    `rows` (n, g) are rows of the embeddings, `ratings` (n, g) their classes, `reference` (n, g, C) the
    log-probabilities that an anchored loss holds on to.
    """

    rows: np.ndarray
    ratings: np.ndarray
    reference: np.ndarray | None = None


@dataclass(frozen=True)
class Learner:
    """One run: what it learns from, what chooses its best epoch, the generator of its shuffles, what it minimises."""

    examples: Examples
    validation: Examples
    generator: np.random.Generator
    objective: Objective = TRAINING_OBJECTIVE


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


@dataclass(frozen=True)
class Recipe:
    """How a stack learns: `slope` gives the gradient in the logits of what a step goes down."""

    slope: Callable[[Sequence[Objective], Tensor, Tensor, Tensor | None], Tensor]
    learning_rate: float
    batch: int
    epochs: int
    classes: int


def train(
    regressor: Regressor,
    embeddings: Tensor,
    learners: Sequence[Learner],
    epochs: int,
    classes: int,
    workers: int = 1,
    progress: Progress = lambda runs: None,
) -> Fit:
    """Learn ratings: cross-entropy, or with a scalar head squared error; Adam with learning rate 0.01.

    The mean over batches of 64. One learner per run, whose examples are single reviews (n, 1), of ratings
    0..classes-1; `embeddings` (n, d) serve all. `progress` is told how many runs have finished one more epoch.
    """
    scalar = regressor.widths[-1] == 1
    loss, loss_slope = (squared_error, squared_error_slope) if scalar else (cross_entropy, cross_entropy_slope)
    learners = [replace(learner, objective=anchored(loss, 0.0)) for learner in learners]

    def mean_over_batch(_: Sequence[Objective], output: Tensor, ratings: Tensor, __: Tensor | None) -> Tensor:
        return loss_slope(output, ratings) / output.shape[1]

    recipe = Recipe(mean_over_batch, TRAINING_RATE, TRAINING_BATCH, epochs, classes)
    return fit(regressor, embeddings, learners, recipe, workers, progress)


def fine_tune(
    regressor: Regressor,
    embeddings: Tensor,
    learners: Sequence[Learner],
    epochs: int,
    classes: int,
    learning_rate: float,
    batch: int,
    workers: int = 1,
    progress: Progress = lambda runs: None,
) -> Fit:
    """Learn preferences: each run's objective, summed over batches of lists that stand best first; else as `train`."""
    recipe = Recipe(slope, learning_rate, batch, epochs, classes)
    return fit(regressor, embeddings, learners, recipe, workers, progress)


def fit(
    regressor: Regressor,
    embeddings: Tensor,
    learners: Sequence[Learner],
    recipe: Recipe,
    workers: int,
    progress: Progress,
) -> Fit:
    """Adam on every run's own examples, best epoch by validation accuracy (micro F1), the first of equals.

    A GPU takes the stack whole. On CPUs it is dealt out in pieces that fit a core's cache, each computed on one
    thread: a run's numbers depend neither on the piece it is in nor on how many cores there are.
    """
    most_first = sorted(range(len(learners)), key=lambda run: -len(learners[run].examples.rows))
    if embeddings.is_cuda:
        size = len(learners)
    elif regressor.widths[-1] == 1:
        size = 1  # products of single columns have other last bits in a stack
    else:
        size = piece_size(learners, recipe.batch, embeddings.shape[1], workers)
    pieces = [most_first[start : start + size] for start in range(0, len(most_first), size)]

    stopped = Event()

    def tell(runs: int) -> None:
        if stopped.is_set():
            raise InterruptedError("another piece of the stack ended early")
        progress(runs)

    def fit_one(piece: list[int]) -> Fit:
        return fit_piece(regressor.pick(piece), embeddings, [learners[run] for run in piece], recipe, tell)

    if len(pieces) == 1:
        fits = [fit_one(pieces[0])]
    else:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(fit_one, piece) for piece in pieces]
            try:
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()  # raises, if it was this one that failed
                fits = [future.result() for future in futures]
            except BaseException:  # Ctrl-C, or a loss that is not finite: the other threads end with their epoch
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return put_together(fits, np.argsort(most_first).tolist())


def piece_size(learners: Sequence[Learner], batch: int, dimensions: int, workers: int) -> int:
    """Runs per piece: an equal share for every worker, as long as one batch of all of them fits a core's cache."""
    lists = min(batch, max(len(learner.examples.rows) for learner in learners))
    bytes_per_run = lists * learners[0].examples.rows.shape[1] * dimensions * 4
    return max(1, min(-(-len(learners) // workers), CACHE // bytes_per_run))


def put_together(fits: Sequence[Fit], order: Sequence[int]) -> Fit:
    """One fit of all runs, from fits of pieces, in the given order."""
    widths = fits[0].best.widths
    best_epochs = [epoch for fitted in fits for epoch in fitted.best_epoch]
    epochs = [run for fitted in fits for run in fitted.epochs]
    return Fit(
        best=Regressor(torch.cat([fitted.best.parameters for fitted in fits]), widths).pick(order),
        last=Regressor(torch.cat([fitted.last.parameters for fitted in fits]), widths).pick(order),
        best_epoch=[best_epochs[run] for run in order],
        epochs=[epochs[run] for run in order],
    )


@torch.no_grad()
def fit_piece(
    networks: Regressor, embeddings: Tensor, learners: Sequence[Learner], recipe: Recipe, progress: Progress
) -> Fit:
    """`fit` for runs whose numbers of examples fall. `networks` are changed in place."""
    stack = Stack(networks, recipe.learning_rate)
    best = networks.parameters.clone()
    best_epoch = [0] * len(learners)
    epochs: list[list[Epoch]] = [[] for _ in learners]
    for number in range(1, recipe.epochs + 1):
        learnt = learn_one_epoch(stack, embeddings, learners, recipe)
        for run, learner in enumerate(learners):
            matrix = validation_matrix(stack, run, embeddings, learner.validation, recipe.classes)
            validation = metrics.accuracy(matrix), metrics.precision_recall_f1(matrix)[2]
            epochs[run].append(Epoch(*learnt[run], *validation))
            check_finite(epochs[run])
            if number == 1 or validation[0] > epochs[run][best_epoch[run] - 1].validation_accuracy:
                best_epoch[run] = number
                best[run] = networks.parameters[run]
        progress(len(learners))
    return Fit(Regressor(best, networks.widths), networks, best_epoch, epochs)


def check_finite(epochs: Sequence[Epoch]) -> None:
    if not np.isfinite(epochs[-1].loss):
        raise InputError(
            f"the loss is {epochs[-1].loss} in epoch {len(epochs)}: the embeddings are too large, the learning rate "
            "(--lr-f) is too high, or a loss of your own has no finite value there"
        )


def learn_one_epoch(
    stack: "Stack", embeddings: Tensor, learners: Sequence[Learner], recipe: Recipe
) -> list[tuple[float, float]]:
    """One pass over every run's examples, freshly shuffled; per run the mean loss and the accuracy on the way.

    Runs may have different numbers of examples: one that has used up its own takes no step.
    """
    counts = [len(learner.examples.rows) for learner in learners]
    rows, ratings, reference = shuffled(learners, embeddings.device)  # (R, n, g) and (R, n, g, C), n the longest
    logits = torch.zeros(*rows.shape, stack.networks.widths[-1], device=rows.device)  # (R, n, g, C or 1)
    for start in range(0, rows.shape[1], recipe.batch):
        for runs, size in equal_batches(counts, start, recipe.batch):
            here = (runs, slice(start, start + size))
            part = stack.part(runs, size * rows.shape[2])
            x = part.workspace.gather(embeddings, rows[here])  # (R', B*g, d)
            output = forward(part.networks, x, part.workspace)  # (R', B*g, C)
            logits[here] = output.view(logits[here].shape)
            objectives = [learner.objective for learner in learners[runs]]
            held = None if reference is None else reference[here]
            downhill = recipe.slope(objectives, logits[here], ratings[here], held)  # (R', B, g, C)
            backward(part.networks, x, part.workspace, downhill.reshape(output.shape), part.gradient)
            stack.step(runs)
    return [
        record(
            learner.objective,
            logits[run : run + 1, :count],
            ratings[run : run + 1, :count],
            None if reference is None else reference[run : run + 1, :count],
            recipe.classes,
        )
        for run, (learner, count) in enumerate(zip(learners, counts, strict=True))
    ]


def record(
    objective: Objective, logits: Tensor, ratings: Tensor, reference: Tensor | None, classes: int
) -> tuple[float, float]:
    """Mean loss and accuracy of one run's lists (1, n, g, C). In that run's own shape: the last bits depend on it."""
    mean = objective(logits, ratings, reference).double().mean()
    return mean.item(), (most_likely_class(logits, classes) == ratings).double().mean().item()


def shuffled(learners: Sequence[Learner], device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Every run's rows, ratings (R, n, g) and reference (R, n, g, C) in a new random order, padded to the longest.

    There is no reference where no run has one.
    """
    counts = [len(learner.examples.rows) for learner in learners]
    shape = (len(learners), max(counts), learners[0].examples.rows.shape[1])
    rows, ratings = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    references = [learner.examples.reference for learner in learners if learner.examples.reference is not None]
    reference = np.zeros((*shape, references[0].shape[-1]), dtype=np.float32) if references else None
    for run, (learner, count) in enumerate(zip(learners, counts, strict=True)):
        order = learner.generator.permutation(count)
        rows[run, :count] = learner.examples.rows[order]
        ratings[run, :count] = learner.examples.ratings[order]
        if reference is not None and learner.examples.reference is not None:
            reference[run, :count] = learner.examples.reference[order]
    return (
        torch.from_numpy(rows).to(device),
        torch.from_numpy(ratings).to(device),
        None if reference is None else torch.from_numpy(reference).to(device),
    )


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


def validation_matrix(stack: "Stack", run: int, embeddings: Tensor, validation: Examples, classes: int) -> np.ndarray:
    """Confusion matrix (C, C) of one run on its validation part."""
    part = stack.part(slice(run, run + 1), len(validation.rows))
    x = take(embeddings, validation.rows[:, 0]).unsqueeze(0)
    predicted = most_likely_class(forward(part.networks, x, part.workspace)[0], classes).cpu().numpy()
    return metrics.confusion_matrix(validation.ratings[:, 0], predicted, classes)


def take(embeddings: Tensor, rows: np.ndarray) -> Tensor:
    """Rows of the embeddings (m, d); a view where they follow one another, as they do in the study's parts."""
    if len(rows) and (np.diff(rows) == 1).all():
        return embeddings[rows[0] : rows[-1] + 1]
    return embeddings[torch.from_numpy(rows).to(embeddings.device)]


@dataclass(frozen=True)
class Part:
    """Neighbouring runs of a stack, on its memory, and what a batch of them needs."""

    networks: Regressor
    gradient: Regressor
    workspace: Workspace


class Stack:
    """Networks that learn side by side by PyTorch's fused Adam.

    Every run has moments and a step count of its own: those of a run that takes no step stand still.
    """

    def __init__(self, networks: Regressor, learning_rate: float) -> None:
        self.networks = networks
        self.gradient = Regressor(torch.zeros_like(networks.parameters), networks.widths)
        self.means, self.squares = (torch.zeros_like(networks.parameters) for _ in range(2))
        self.steps = torch.zeros(len(networks), device=networks.parameters.device)
        self.learning_rate = learning_rate
        self.parts: dict[tuple[int, int, int], Part] = {}

    def part(self, runs: slice, batch: int) -> Part:
        """The named runs with memory for a batch of this size, made once."""
        key = (runs.start, runs.stop, batch)
        if key not in self.parts:
            networks = self.networks[runs]
            self.parts[key] = Part(networks, self.gradient[runs], Workspace(networks, batch))
        return self.parts[key]

    def step(self, runs: slice) -> None:
        """One step of the named runs along `gradient`."""
        parameters, gradient, means, squares, steps = (
            list(tensor[runs])  # (P,) per run, on the stack's memory
            for tensor in (self.networks.parameters, self.gradient.parameters, self.means, self.squares, self.steps)
        )
        adam(
            parameters,
            gradient,
            means,
            squares,
            [],
            steps,
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
def one_thread() -> Iterator[int]:
    """Compute on one thread, so that sums have one order; gives the number of threads there were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)
