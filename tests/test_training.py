import threading

import numpy as np
import pytest
import torch

from noisy_feedback import losses, training
from noisy_feedback.errors import InputError
from noisy_feedback.regressor import new_regressor
from noisy_feedback.training import (
    CACHE,
    WEIGHT_DECAY,
    Examples,
    Learner,
    Stack,
    equal_batches,
    fine_tune,
    one_thread,
    piece_size,
    take,
    train,
)
from tests.test_regressor import as_module

N, DIMENSIONS, CLASSES = 400, 12, 4


@pytest.fixture(autouse=True)
def on_one_thread():
    with one_thread():
        yield


def planted(seed=0, n=N):
    """Embeddings from which the rating can be read: noisy copies of one random direction per class."""
    generator = np.random.default_rng(seed)
    ratings = generator.integers(CLASSES, size=n)
    vectors = generator.normal(size=(CLASSES, DIMENSIONS))[ratings] + 0.5 * generator.normal(size=(n, DIMENSIONS))
    return torch.from_numpy(vectors).float(), ratings


def singles(ratings, rows):
    return Examples(rows[:, None], ratings[rows][:, None])


def generators(runs, stream):
    return [np.random.default_rng([run, stream]) for run in runs]


def train_runs(runs, epochs=3, n=300, workers=1):
    embeddings, ratings = planted()
    learners = [
        Learner(singles(ratings, np.arange(n)), singles(ratings, np.arange(300, 400)), generator)
        for generator in generators(runs, 1)
    ]
    return train(
        new_regressor(DIMENSIONS, CLASSES, generators(runs, 0)), embeddings, learners, epochs, CLASSES, workers
    )


def fine_tune_runs(start, runs, sizes, epochs=3, batch=51, workers=1):
    """Lists of planted reviews, best first; run r has `sizes[r]` of them."""
    embeddings, ratings = planted()
    generator = np.random.default_rng(9)
    rows = np.stack([generator.choice(np.flatnonzero(ratings == c), 200) for c in (3, 1, 0)], axis=1)
    learners = [
        Learner(
            Examples(rows[: sizes[run]], ratings[rows[: sizes[run]]]),
            singles(ratings, np.arange(300, 400)),
            np.random.default_rng([run, 2]),
            losses.anchored(losses.study, 0.0),
        )
        for run in runs
    ]
    return fine_tune(start, embeddings, learners, epochs, CLASSES, learning_rate=1e-3, batch=batch, workers=workers)


def test_training_finds_planted_ratings():
    assert train_runs([0], epochs=20).epochs[0][-1].validation_accuracy > 0.9


def test_training_is_pytorchs_own_on_the_same_batches():
    """The whole loop against torch.nn, autograd and torch.optim.Adam."""
    embeddings, ratings = planted()
    (start_weights,), (shuffle,) = generators([0], 0), generators([0], 1)
    stack = new_regressor(DIMENSIONS, CLASSES, [start_weights])
    module = as_module(stack)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=5e-4)
    for _ in range(3):
        order = shuffle.permutation(300)
        for start in range(0, 300, 64):
            rows = order[start : start + 64]
            loss = torch.nn.functional.cross_entropy(module(embeddings[rows]), torch.from_numpy(ratings[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    found = as_module(train_runs([0], epochs=3).last)
    with torch.no_grad():
        assert torch.allclose(found(embeddings), module(embeddings), atol=1e-3)


def anchored_learners(runs, sizes):
    """Runs with lists of three, each with another loss, and a reference that no regressor has given."""
    embeddings, ratings = planted()
    generator = np.random.default_rng(9)
    chosen = (losses.study, losses.sigmoid, losses.bradley_terry)
    learners = {}
    for run, size in sizes.items():
        rows = np.stack([generator.choice(np.flatnonzero(ratings == c), size) for c in (3, 1, 0)], axis=1)
        reference = np.log(generator.dirichlet(np.ones(CLASSES), size=(size, 3))).astype(np.float32)
        learners[run] = Learner(
            Examples(rows, ratings[rows], reference),
            singles(ratings, np.arange(300, 400)),
            np.random.default_rng([run, 2]),
            losses.anchored(chosen[run], 0.5 * run),  # the first is not anchored
        )
    return embeddings, [learners[run] for run in runs]


def test_fine_tuning_with_an_anchor_is_pytorchs_own_on_the_same_batches():
    """The whole loop, runs of different lengths in one stack, against torch.nn, autograd and torch.optim.Adam."""
    start, sizes = train_runs([0]).best, {0: 90, 1: 70, 2: 64}
    embeddings, learners = anchored_learners([0, 1, 2], sizes)
    fitted = fine_tune(start.pick([0, 0, 0]), embeddings, learners, 2, CLASSES, learning_rate=1e-3, batch=32)
    for run, learner in enumerate(anchored_learners([0, 1, 2], sizes)[1]):
        module = as_module(start)
        optimiser = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=5e-4)
        means = []
        for _ in range(2):
            order = learner.generator.permutation(sizes[run])
            seen = []
            for first in range(0, sizes[run], 32):
                lists = order[first : first + 32]
                logits = module(embeddings[learner.examples.rows[lists]])[None]
                ratings, reference = (
                    torch.from_numpy(part[lists])[None]
                    for part in (learner.examples.ratings, learner.examples.reference)
                )
                loss = learner.objective(logits, ratings, reference)
                optimiser.zero_grad()
                loss.sum().backward()
                optimiser.step()
                seen += loss.flatten().tolist()
            means.append(np.mean(seen))
        with torch.no_grad():
            assert torch.allclose(as_module(fitted.last[run : run + 1])(embeddings), module(embeddings), atol=1e-3)
        assert [epoch.loss for epoch in fitted.epochs[run]] == pytest.approx(means, rel=1e-4)


def test_an_anchored_run_is_bit_equal_alone_and_in_a_stack():
    start, sizes = train_runs([0]).best, {0: 90, 1: 70, 2: 64}
    together = fine_tune(start.pick([0, 0, 0]), *anchored_learners([2, 0, 1], sizes), 2, CLASSES, 1e-3, batch=32)
    for place, run in enumerate([2, 0, 1]):
        alone = fine_tune(start, *anchored_learners([run], sizes), 2, CLASSES, 1e-3, batch=32)
        assert together.epochs[place] == alone.epochs[0]
        assert torch.equal(together.last.parameters[place], alone.last.parameters[0])


def test_the_training_accuracy_is_the_share_of_learnt_ratings_that_are_found():
    start, (embeddings, ratings) = train_runs([0], epochs=5).best, planted()
    rows = np.random.default_rng(0).permutation(300)[:100].reshape(-1, 1)
    noisy = np.where(np.arange(100)[:, None] < 30, (ratings[rows] + 1) % CLASSES, ratings[rows])
    learner = Learner(Examples(rows, noisy), singles(ratings, np.arange(300, 400)), np.random.default_rng(0))
    fitted = fine_tune(start, embeddings, [learner], 1, CLASSES, learning_rate=1e-30, batch=32)  # stands still
    with torch.no_grad():
        predicted = as_module(start)(embeddings).argmax(-1).numpy()
    assert fitted.epochs[0][0].training_accuracy == pytest.approx((predicted[rows] == noisy).mean())
    assert fitted.epochs[0][0].validation_accuracy == (predicted[300:] == ratings[300:]).mean()


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy():
    fitted = train_runs([0], epochs=12)
    accuracies = [epoch.validation_accuracy for epoch in fitted.epochs[0]]
    assert fitted.best_epoch[0] == 1 + int(np.argmax(accuracies))


def test_the_best_regressor_is_the_one_of_the_best_epoch():
    fitted = train_runs([0], epochs=12)
    again = train_runs([0], epochs=fitted.best_epoch[0])
    assert torch.equal(fitted.best.parameters, again.last.parameters)


def test_no_epoch_leaves_the_regressor_as_it_was():
    fitted = train_runs([0], epochs=0)
    assert torch.equal(fitted.best.parameters, new_regressor(DIMENSIONS, CLASSES, generators([0], 0)).parameters)
    assert fitted.best_epoch == [0]


@pytest.mark.parametrize("n", [65, 127, 300])  # batches cut short at the end, in different shapes
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_training_run_is_bit_equal_alone_and_in_a_stack(n, workers):
    stack = train_runs([3, 0, 4, 1, 2], n=n, workers=workers)
    for place, run in enumerate([3, 0, 4, 1, 2]):
        alone = train_runs([run], n=n)
        assert torch.equal(stack.last.parameters[place], alone.last.parameters[0])
        assert stack.epochs[place] == alone.epochs[0]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_fine_tuning_run_is_bit_equal_alone_and_among_runs_with_other_numbers_of_lists(workers):
    start = train_runs([0]).best
    sizes = {0: 130, 1: 200, 2: 64, 3: 7, 4: 129, 5: 130}
    stack = fine_tune_runs(start.pick([0] * 6), list(sizes), sizes, workers=workers)
    for run in sizes:
        alone = fine_tune_runs(start, [run], sizes)
        assert torch.equal(stack.last.parameters[run], alone.last.parameters[0])
        assert torch.equal(stack.best.parameters[run], alone.best.parameters[0])
        assert stack.epochs[run] == alone.epochs[0]


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("n", [65, 129, 200])  # of the first two, the last batch is of one review
def test_training_runs_are_bit_equal_whatever_the_number_of_classes(classes, n):
    generator = np.random.default_rng(0)
    embeddings = torch.from_numpy(generator.normal(size=(300, 384))).float()
    ratings = generator.integers(max(classes, 2), size=300)

    def fit_runs(runs):
        learners = [
            Learner(singles(ratings, np.arange(n)), singles(ratings, np.arange(200, 300)), np.random.default_rng(run))
            for run in runs
        ]
        return train(new_regressor(384, classes, generators(runs, 0)), embeddings, learners, 2, max(classes, 2))

    together = fit_runs(range(6)).last.parameters
    assert all(torch.equal(together[run], fit_runs([run]).last.parameters[0]) for run in range(6))


@pytest.mark.parametrize("batch", [64, 20])  # as many reviews as a whole batch, and as one that is cut short
def test_a_validation_part_as_large_as_a_batch_leaves_the_embeddings_alone(batch):
    embeddings, ratings = planted()
    before = embeddings.clone()
    learner = Learner(
        singles(ratings, np.arange(84)), singles(ratings, np.arange(300, 300 + batch)), np.random.default_rng(0)
    )
    train(new_regressor(DIMENSIONS, CLASSES, generators([0], 0)), embeddings, [learner], 2, CLASSES)
    assert torch.equal(embeddings, before)


@pytest.mark.parametrize("dimensions", [384, 768])
def test_runs_are_bit_equal_in_pieces_of_any_size_at_real_widths(dimensions, monkeypatch):
    generator = np.random.default_rng(0)
    embeddings = torch.from_numpy(generator.normal(size=(900, dimensions))).float()
    ratings = generator.integers(5, size=900)
    lists = {run: generator.permutation(800)[: 4 * (80 + 40 * run)].reshape(-1, 4) for run in range(4)}

    def tune(runs):
        start = new_regressor(dimensions, 5, generators(runs, 0))
        validation = singles(ratings, np.arange(800, 900))
        learners = [
            Learner(
                Examples(lists[run], ratings[lists[run]]),
                validation,
                np.random.default_rng(run),
                losses.anchored(losses.bradley_terry, 0.0),
            )
            for run in runs
        ]
        return fine_tune(start, embeddings, learners, 2, 5, learning_rate=1e-3, batch=128, workers=1)

    alone = [tune([run]).last.parameters[0] for run in range(4)]
    monkeypatch.setattr(training, "CACHE", 2**30)  # the whole stack as one piece
    together = tune([2, 0, 3, 1]).last.parameters
    assert all(torch.equal(together[place], alone[run]) for place, run in enumerate([2, 0, 3, 1]))


def test_fine_tuning_starts_from_the_parameters_it_is_given_and_leaves_them():
    start = train_runs([0]).best
    before = start.parameters.clone()
    fine_tune_runs(start, [0], {0: 50})
    assert torch.equal(start.parameters, before)


def test_fine_tuning_lowers_the_preference_loss():
    losses_seen = [epoch.loss for epoch in fine_tune_runs(train_runs([0]).best, [0], {0: 200}, epochs=8).epochs[0]]
    assert losses_seen[-1] < losses_seen[0]


def new_stack(runs, learning_rate=0.1):
    return Stack(new_regressor(DIMENSIONS, CLASSES, generators(range(runs), 0)), learning_rate)


def test_a_run_that_takes_no_step_stands_still():
    stack = new_stack(2)
    before = stack.networks.parameters.clone()
    stack.gradient.parameters.fill_(1.0)
    stack.step(slice(0, 1))
    assert torch.equal(stack.networks.parameters[1], before[1])
    assert not torch.equal(stack.networks.parameters[0], before[0])
    assert stack.steps.tolist() == [1, 0]
    assert not stack.means[1].any()


def test_a_step_is_pytorchs_adam():
    stack = new_stack(1, learning_rate=0.01)
    known = stack.networks.parameters.clone().requires_grad_()
    theirs = torch.optim.Adam([known], lr=0.01, weight_decay=WEIGHT_DECAY)
    for _ in range(6):
        known.grad = torch.randn_like(known)
        stack.gradient.parameters.copy_(known.grad)
        stack.step(slice(0, 1))
        theirs.step()
    assert torch.allclose(stack.networks.parameters, known.detach(), atol=1e-7)


def test_a_loss_that_is_not_finite_is_reported_and_not_a_result():
    embeddings, ratings = planted()
    learner = Learner(singles(ratings, np.arange(300)), singles(ratings, np.arange(300, 400)), np.random.default_rng(0))
    with pytest.raises(InputError, match="loss is nan"):
        train(new_regressor(DIMENSIONS, CLASSES, generators([0], 0)), embeddings * float("nan"), [learner], 1, CLASSES)


# --- threads


def watched(workers, runs, epochs=3):
    """What is seen from where the runs learn: per call of `progress` the runs, the thread, and torch's own threads."""
    embeddings, ratings = planted()
    learners = [
        Learner(singles(ratings, np.arange(100)), singles(ratings, np.arange(300, 400)), generator)
        for generator in generators(runs, 1)
    ]
    seen = []

    def progress(finished):
        seen.append((finished, threading.get_ident(), torch.get_num_threads()))

    start = new_regressor(DIMENSIONS, CLASSES, generators(runs, 0))
    train(start, embeddings, learners, epochs, CLASSES, workers, progress)
    return [list(column) for column in zip(*seen, strict=True)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_progress_is_told_every_epoch_of_every_run(workers):
    finished, _, _ = watched(workers, range(5))
    assert sum(finished) == 5 * 3


def test_pieces_are_computed_on_as_many_threads_as_there_are_workers_each_on_one_core():
    torch.set_num_threads(2)
    _, threads, cores = watched(2, range(6), epochs=40)
    assert 1 <= len(set(threads) - {threading.get_ident()}) <= 2
    assert set(cores) == {1}


def test_a_run_that_fails_ends_the_others_with_their_epoch():
    embeddings, ratings = planted()
    embeddings[:100] = float("nan")
    learners = [
        Learner(singles(ratings, rows), singles(ratings, np.arange(300, 400)), np.random.default_rng(0))
        for rows in (np.arange(101, 300), np.arange(100))
    ]
    start = new_regressor(DIMENSIONS, CLASSES, generators([0, 1], 0))
    finished = []
    with pytest.raises(InputError, match=r"^the loss is nan in epoch 1: .*\(--lr-f\) is too high"):
        train(start, embeddings, learners, 3000, CLASSES, workers=2, progress=finished.append)
    assert len(finished) < 3000


@pytest.mark.parametrize(
    ("runs", "lists", "items", "workers", "expected"),
    [
        (10, 64, 1, 1, 10),  # all of them fit
        (10, 64, 1, 3, 4),  # an equal share for every worker, rounded up
        (10, 64, 40, 1, CACHE // (64 * 40 * 100 * 4)),  # as many as fit
        (10, 64, 1000, 1, 1),  # not even one does
        (10, 9, 4, 1, 10),  # fewer lists than a batch
    ],
)
def test_a_piece_is_what_fits_a_cores_cache(runs, lists, items, workers, expected):
    rows = np.zeros((lists, items), dtype=int)
    learners = [Learner(Examples(rows, rows), Examples(rows, rows), np.random.default_rng(0))] * runs
    assert piece_size(learners, batch=64, dimensions=100, workers=workers) == expected


def test_a_run_whose_lists_end_with_a_batch_has_no_empty_one():
    assert list(equal_batches([128, 64], 64, 64)) == [(slice(0, 1), 64)]
    assert list(equal_batches([64], 64, 64)) == []


def test_runs_with_batches_of_one_size_go_together_and_the_rest_alone():
    assert list(equal_batches([200, 130, 130, 64], 128, 64)) == [(slice(0, 1), 64), (slice(1, 3), 2)]


def test_rows_that_follow_one_another_are_a_view():
    embeddings = torch.arange(20.0).view(10, 2)
    assert take(embeddings, np.arange(3, 7)).data_ptr() == embeddings[3].data_ptr()
    assert torch.equal(take(embeddings, np.array([4, 2])), embeddings[[4, 2]])


def test_one_thread_is_given_back():
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
