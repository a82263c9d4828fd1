import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

from noisy_feedback.config import LOSSES, SELECT, Config
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation import metrics
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning import training
from noisy_feedback.learning.examples import Examples
from noisy_feedback.learning.losses import TRAINING_OBJECTIVES, Objective, cross_entropy
from noisy_feedback.learning.model import RatingMLP, init_model, predict, state_dict
from noisy_feedback.learning.objective import fine_tuning_objective
from noisy_feedback.learning.training import (
    WEIGHT_DECAY,
    Adam,
    TrainConfig,
    TrainingTask,
    confusion_counts,
    fit,
    ordered_share,
    run_epoch,
    select_rows,
    single_threaded,
)

N, DIMENSIONS, CLASSES = 400, 12, 4
SCALE = np.array([1, 2, 3, 5])  # not evenly spaced
TRAIN, VALIDATION = np.arange(300), np.arange(300, N)


@pytest.fixture(autouse=True)
def on_one_thread():
    with single_threaded():
        yield


def separable(seed=0, n=N, dimensions=DIMENSIONS, classes=CLASSES):
    """Embeddings from which the rating can be read: noisy copies of one random direction per class."""
    rng = np.random.default_rng(seed)
    ratings = rng.integers(classes, size=n)
    vectors = rng.normal(size=(classes, dimensions))[ratings] + 0.5 * rng.normal(size=(n, dimensions))
    return torch.from_numpy(vectors).float(), ratings


EMBEDDINGS, RATINGS = separable()


def singles(rows, ratings=RATINGS):
    return Examples(rows[:, None], ratings[rows][:, None])


def new_model(head="categorical"):
    return init_model((DIMENSIONS, 64, 32, 1 if head == "scalar" else CLASSES), np.random.default_rng(5))


def training_task(head="categorical", n=300, seed=1):
    return TrainingTask(singles(TRAIN[:n]), singles(VALIDATION), TRAINING_OBJECTIVES[head], np.random.default_rng(seed))


def preference_task(loss="study", kl_weight=0.0, size=130, head="categorical", seed=2):
    """Lists of three reviews, best first; with a KL penalty, a reference that no model has given."""
    rng = np.random.default_rng(9)
    rows = np.stack([rng.choice(np.flatnonzero(RATINGS[:300] == c), size) for c in (3, 1, 0)], axis=1)
    feedback = Feedback(rows, RATINGS[rows], 0, size, wrong=np.zeros((size, 2)))
    config = Config("multiclass", k=2, loss=loss, kl_weight=kl_weight, head=head, flip_rate=0.2)
    reference = torch.from_numpy(np.log(rng.dirichlet(np.ones(CLASSES), size=(size, 3)))).float()
    if head == "scalar":
        reference = reference[..., :1]
    return TrainingTask(
        Examples(rows, feedback.ratings, reference if kl_weight else None),
        singles(VALIDATION),
        fine_tuning_objective(config, feedback, np.full(CLASSES, 1 / CLASSES)),
        np.random.default_rng(seed),
    )


def training_config(**changes):
    return replace(TrainConfig(learning_rate=0.01, batch=64, epochs=3, scale=SCALE), **changes)


def preference_config(**changes):
    return training_config(**{"learning_rate": 1e-3, "batch": 51, **changes})


def as_module(model):
    widths = model.widths
    module = torch.nn.Sequential(
        torch.nn.Linear(widths[0], widths[1]),
        torch.nn.ReLU(),
        torch.nn.Linear(widths[1], widths[2]),
        torch.nn.ReLU(),
        torch.nn.Linear(widths[2], widths[3]),
    )
    module.load_state_dict(state_dict(model))
    return module


def learn_in_pytorch(model, task, config, reduce):
    """Learning as PyTorch's users write it: modules, autograd, torch.optim.Adam; epochs' mean losses, the module."""
    module = as_module(model)
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, weight_decay=5e-4)
    means = []
    for _ in range(config.epochs):
        order = task.rng.permutation(len(task.examples.rows))
        seen = []
        for start in range(0, len(order), config.batch):
            lists = order[start : start + config.batch]
            logits = module(EMBEDDINGS[task.examples.rows[lists]])
            reference = None if task.examples.reference is None else task.examples.reference[lists]
            loss = task.objective.value(logits, torch.from_numpy(task.examples.ratings[lists]), reference)
            optimizer.zero_grad()
            reduce(loss).backward()
            optimizer.step()
            seen += loss.tolist()
        means.append(np.mean(seen))
    return means, module


def assert_learns_as_in_pytorch(model, new_task, config, reduce):
    means, module = learn_in_pytorch(model, new_task(), config, reduce)
    fitted = fit(model, EMBEDDINGS, new_task(), config)
    assert [epoch.objective for epoch in fitted.epochs] == pytest.approx(means, rel=1e-4)
    with torch.no_grad():
        assert torch.allclose(as_module(fitted.last)(EMBEDDINGS), module(EMBEDDINGS), atol=1e-3)


@pytest.mark.parametrize("head", TRAINING_OBJECTIVES)
@pytest.mark.parametrize("n", [256, 257, 300])  # the last batch is whole, of one review, cut short
def test_training_is_pytorchs_own_on_the_same_batches(head, n):
    assert_learns_as_in_pytorch(new_model(head), lambda: training_task(head, n), training_config(), torch.mean)


OF_WHOLE_BATCHES = ("dr-dpo", "re-po")  # their value for a list depends on the other lists of its batch


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss not in OF_WHOLE_BATCHES])
@pytest.mark.parametrize("kl_weight", [0.0, 0.7])
def test_fine_tuning_is_pytorchs_own_on_the_same_batches(loss, kl_weight):
    assert_learns_as_in_pytorch(
        new_model(), lambda: preference_task(loss, kl_weight), preference_config(epochs=2), torch.sum
    )


def test_fine_tuning_a_scalar_head_is_pytorchs_own_on_the_same_batches():
    assert_learns_as_in_pytorch(
        new_model("scalar"), lambda: preference_task("hinge", head="scalar"), preference_config(epochs=2), torch.sum
    )


@pytest.mark.parametrize("loss", OF_WHOLE_BATCHES)
def test_a_loss_of_whole_batches_learns_from_each_as_in_pytorch(loss):
    model, config = new_model(), preference_config(epochs=2)
    _, module = learn_in_pytorch(model, preference_task(loss), config, torch.sum)
    fitted = fit(model, EMBEDDINGS, preference_task(loss), config)
    with torch.no_grad():
        assert torch.allclose(as_module(fitted.last)(EMBEDDINGS), module(EMBEDDINGS), atol=1e-3)


def test_a_step_is_pytorchs_adam():
    model = new_model()
    known, ours = model.parameters.clone().requires_grad_(), Adam(model, 0.01)
    theirs = torch.optim.Adam([known], lr=0.01, weight_decay=WEIGHT_DECAY)
    for _ in range(6):
        known.grad = torch.randn_like(known)
        ours.step(RatingMLP(known.grad.clone(), model.widths))
        theirs.step()
    assert torch.allclose(model.parameters, known.detach(), atol=1e-7)


@pytest.mark.parametrize("head", TRAINING_OBJECTIVES)
def test_training_finds_separable_ratings(head):
    last = fit(new_model(head), EMBEDDINGS, training_task(head), training_config(epochs=15)).epochs[-1]
    assert last.validation_accuracy > (0.9 if head == "categorical" else 0.7)


def test_fine_tuning_lowers_the_preference_loss_and_orders_more_reviews_as_given():
    epochs = fit(new_model(), EMBEDDINGS, preference_task("bradley-terry"), preference_config(epochs=8)).epochs
    assert epochs[-1].objective < epochs[0].objective
    assert epochs[-1].preference_accuracy > epochs[0].preference_accuracy


# --- what is measured


def test_accuracy_and_preference_accuracy_are_those_of_the_ratings_that_are_learned():
    model, task = fit(new_model(), EMBEDDINGS, training_task(), training_config()).best, preference_task()
    noisy = np.where(np.arange(130)[:, None] < 40, task.examples.ratings[:, ::-1], task.examples.ratings)
    task = replace(task, examples=replace(task.examples, ratings=noisy))
    stats = fit(model, EMBEDDINGS, task, preference_config(learning_rate=0.0, epochs=1)).epochs[0]  # stands still
    probabilities = predict(model, EMBEDDINGS).numpy()
    reward = (probabilities @ np.arange(CLASSES))[task.examples.rows]
    assert stats.training_accuracy == pytest.approx((probabilities.argmax(1)[task.examples.rows] == noisy).mean())
    assert stats.preference_accuracy == pytest.approx((reward[:, :-1] > reward[:, 1:]).mean())
    assert stats.validation_accuracy == (probabilities.argmax(1)[300:] == RATINGS[300:]).mean()


def test_a_tie_counts_half_in_preference_accuracy():
    model = RatingMLP(torch.zeros_like(new_model().parameters), new_model().widths)
    stats = fit(model, EMBEDDINGS, preference_task(), preference_config(learning_rate=0.0, epochs=1)).epochs[0]
    assert stats.preference_accuracy == 0.5


def test_ratings_that_nobody_claims_do_not_count_in_training_accuracy():
    model, task = new_model(), preference_task("bradley-terry")
    claimed = np.where(np.arange(3 * 130).reshape(130, 3) % 4 == 0, task.examples.ratings, -1)
    task = replace(task, examples=replace(task.examples, ratings=claimed))
    stats = fit(model, EMBEDDINGS, task, preference_config(learning_rate=0.0, epochs=1)).epochs[0]
    predicted = predict(model, EMBEDDINGS).argmax(1).numpy()[task.examples.rows]
    assert stats.training_accuracy == pytest.approx((predicted == claimed)[claimed >= 0].mean())


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "study"])
def test_where_nobody_claims_a_rating_there_is_no_training_accuracy_and_learning_is_the_same(loss):
    """Every loss but the study's learns from the order alone."""
    task = preference_task(loss, kl_weight=0.5)
    unrated = replace(task, examples=replace(task.examples, ratings=np.full((130, 3), -1)))
    fitted = fit(new_model(), EMBEDDINGS, unrated, preference_config(epochs=2))
    assert all(math.isnan(epoch.training_accuracy) for epoch in fitted.epochs)
    rated = fit(new_model(), EMBEDDINGS, preference_task(loss, kl_weight=0.5), preference_config(epochs=2))
    assert torch.equal(fitted.last.parameters, rated.last.parameters)


def test_training_accuracy_is_measured_on_each_batch_before_its_update():
    task = training_task(n=64)  # one batch: that of the model that is given
    stats = fit(new_model(), EMBEDDINGS, task, training_config(epochs=1)).epochs[0]
    predicted = predict(new_model(), EMBEDDINGS[:64]).argmax(1).numpy()
    assert stats.training_accuracy == pytest.approx((predicted == RATINGS[:64]).mean())


def test_in_training_there_is_no_preference_accuracy():
    epochs = fit(new_model(), EMBEDDINGS, training_task(), training_config()).epochs
    assert all(math.isnan(epoch.preference_accuracy) for epoch in epochs)


@pytest.mark.parametrize("head", TRAINING_OBJECTIVES)
def test_confusion_is_that_of_the_metrics(head):
    model = fit(new_model(head), EMBEDDINGS, training_task(head), training_config()).last
    counts = confusion_counts(model, EMBEDDINGS, torch.from_numpy(RATINGS), SCALE).numpy()
    output = predict(model, EMBEDDINGS).numpy()
    nearest = np.abs(metrics.expected_rating(output, SCALE)[:, None] - SCALE).argmin(1)
    known = metrics.evaluate(output, RATINGS, SCALE)
    assert counts[0].tolist() == known.confusion_matrix
    assert (counts[1] == metrics.confusion_matrix(RATINGS, nearest, CLASSES)).all()
    assert metrics.quadratic_weighted_kappa(counts[1], SCALE) == pytest.approx(known.quadratic_weighted_kappa)


# --- the best epoch


def score_of(name, output, scale):
    """The score of an output (100, C) on the validation part, by scikit-learn."""
    true, predicted = RATINGS[300:], output.argmax(1)
    if name == "accuracy":
        return accuracy_score(true, predicted)
    if name == "macro_f1":
        return f1_score(true, predicted, average="macro")
    nearest = np.abs((output @ scale)[:, None] - scale).argmin(1)
    every_star = range(scale[0], scale[-1] + 1)  # scikit-learn weights by places in this list: so by stars
    return cohen_kappa_score(scale[true], scale[nearest], weights="quadratic", labels=every_star)


@pytest.mark.parametrize(
    ("select", "scale"),
    [*((select, SCALE) for select in SELECT), ("kappa", np.array([1, 2, 10, 12]))],  # by places, the last epoch is best
)
def test_the_best_epoch_is_the_first_with_the_highest_score(select, scale):
    config = preference_config(epochs=8, select=select, scale=scale)
    lasts = (fit(new_model(), EMBEDDINGS, preference_task(), replace(config, epochs=n)).last for n in range(1, 9))
    scores = [score_of(select, predict(last, EMBEDDINGS[300:]).numpy(), scale) for last in lasts]
    assert fit(new_model(), EMBEDDINGS, preference_task(), config).best_epoch == 1 + int(np.argmax(scores))


ORDERED = np.array([(better, worse) for better in range(300, 340) for worse in range(340, 380)])
UPSIDE_DOWN = ORDERED[RATINGS[ORDERED[:, 0]] < RATINGS[ORDERED[:, 1]]]  # people who prefer the lower rating


def compared_task(comparisons=UPSIDE_DOWN):
    return replace(training_task(), validation_comparisons=comparisons)


def share_ordered(model, comparisons):
    """Share of the comparisons whose first text has the higher expected class; a tie counts half."""
    reward = predict(model, EMBEDDINGS).numpy() @ np.arange(CLASSES)
    return np.mean([(reward[a] > reward[b]) + (reward[a] == reward[b]) / 2 for a, b in comparisons])


def test_the_validation_preference_accuracy_is_that_of_the_model_after_the_epoch():
    epochs = fit(new_model(), EMBEDDINGS, compared_task(), training_config(epochs=3)).epochs
    for number, epoch in enumerate(epochs, start=1):
        last = fit(new_model(), EMBEDDINGS, compared_task(), training_config(epochs=number)).last
        assert epoch.validation_preference_accuracy == pytest.approx(share_ordered(last, UPSIDE_DOWN), abs=1e-9)


def test_comparisons_choose_the_epoch_that_orders_right_and_not_the_one_that_predicts_ratings_right():
    """The better the ratings are predicted, the worse the order of people who prefer the lower rating."""
    config = training_config(epochs=6)
    by_order = fit(new_model(), EMBEDDINGS, compared_task(), replace(config, select="preference_accuracy"))
    by_rating = fit(new_model(), EMBEDDINGS, compared_task(), config)
    shares = [epoch.validation_preference_accuracy for epoch in by_order.epochs]
    assert by_order.best_epoch == 1 + int(np.argmax(shares))
    assert share_ordered(by_order.best, UPSIDE_DOWN) == pytest.approx(max(shares), abs=1e-9)
    assert by_rating.best_epoch > by_order.best_epoch


def test_comparisons_that_do_not_choose_change_neither_the_choice_nor_the_model():
    with_comparisons, without = (
        fit(new_model(), EMBEDDINGS, task, training_config(epochs=6)) for task in (compared_task(), training_task())
    )
    assert with_comparisons.best_epoch == without.best_epoch
    assert torch.equal(with_comparisons.last.parameters, without.last.parameters)


def test_without_comparisons_there_is_no_validation_preference_accuracy():
    epochs = fit(new_model(), EMBEDDINGS, training_task(), training_config()).epochs
    assert all(math.isnan(epoch.validation_preference_accuracy) for epoch in epochs)


@pytest.mark.parametrize(
    ("scores", "best"), [([0.1, 0.3, 0.2, 0.3], 2), ([0.5, 0.5, 0.5, 0.5], 1), ([-np.inf] * 3 + [0.0], 4)]
)
def test_of_epochs_with_equal_scores_the_first_is_the_best(scores, best, monkeypatch):
    given = iter(scores)
    monkeypatch.setattr(training.metrics, "validation_score", lambda *_: next(given))
    assert fit(new_model(), EMBEDDINGS, training_task(), training_config(epochs=4)).best_epoch == best


def test_where_no_score_is_defined_the_first_epoch_is_the_best(monkeypatch):
    monkeypatch.setattr(training.metrics, "validation_score", lambda *_: -np.inf)
    assert fit(new_model(), EMBEDDINGS, training_task(), training_config()).best_epoch == 1


def test_the_best_model_is_the_one_of_the_best_epoch():
    fitted = fit(new_model(), EMBEDDINGS, training_task(), training_config(epochs=12))
    shorter = fit(new_model(), EMBEDDINGS, training_task(), training_config(epochs=fitted.best_epoch))
    assert fitted.best_epoch < 12
    assert torch.equal(fitted.best.parameters, shorter.last.parameters)


def test_without_epochs_the_model_is_unchanged():
    fitted = fit(new_model(), EMBEDDINGS, training_task(), training_config(epochs=0))
    assert torch.equal(fitted.best.parameters, new_model().parameters)
    assert torch.equal(fitted.last.parameters, new_model().parameters)
    assert (fitted.best_epoch, fitted.epochs) == (0, [])


# --- what is left unchanged, and what is the same


def test_what_is_passed_in_is_unchanged():
    model, embeddings, task = new_model(), EMBEDDINGS.clone(), preference_task(kl_weight=0.5)
    rows, reference = task.examples.rows.copy(), task.examples.reference.clone()
    fit(model, embeddings, task, preference_config())
    assert torch.equal(model.parameters, new_model().parameters)
    assert torch.equal(embeddings, EMBEDDINGS)
    assert (task.examples.rows == rows).all()
    assert torch.equal(task.examples.reference, reference)


def test_the_same_generator_gives_the_same_bits_and_another_other_ones():
    first, same, other = (
        fit(new_model(), EMBEDDINGS, preference_task(seed=seed), preference_config()) for seed in (1, 1, 2)
    )
    assert torch.equal(first.last.parameters, same.last.parameters)
    assert repr(first.epochs) == repr(same.epochs)  # NaN differs from itself
    assert not torch.equal(first.last.parameters, other.last.parameters)


@pytest.mark.parametrize("case", range(12))
def test_embeddings_in_memory_and_on_disk_give_the_same_bits(case, tmp_path):
    rng = np.random.default_rng(case)
    dimensions, classes = int(np.exp(rng.uniform(np.log(5), np.log(1025)))), int(rng.choice([2, 3, 5, 10, 100]))
    batch, left = int(rng.integers(2, 40)), int(rng.integers(1, 4))
    n = 3 * batch + left  # the last batch is of one to three reviews
    embeddings, ratings = separable(case, n + 20, dimensions, classes)
    np.save(tmp_path / "vectors.npy", embeddings.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "vectors.npy", mmap_mode="c"))
    head, outputs = ("scalar", 1) if case % 4 == 0 else ("categorical", classes)
    fits = []
    for vectors in (embeddings, mapped):
        task = TrainingTask(
            singles(np.arange(n), ratings),
            singles(np.arange(n, n + 20), ratings),
            TRAINING_OBJECTIVES[head],
            np.random.default_rng(1),
        )
        model = init_model((dimensions, 64, 32, outputs), np.random.default_rng(0))
        fits.append(fit(model, vectors, task, TrainConfig(0.01, batch, 2, np.arange(classes))))
    assert torch.equal(fits[0].last.parameters, fits[1].last.parameters)
    assert repr(fits[0].epochs) == repr(fits[1].epochs)  # NaN differs from itself


# --- errors


@pytest.mark.parametrize("head", TRAINING_OBJECTIVES)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_is_one_line(head, value):
    with pytest.raises(InputError, match=r"not finite in epoch 1: .*the learning rate \(--lr-f, --lr-t\)"):
        fit(new_model(head), EMBEDDINGS * float(value), training_task(head), training_config())


def test_a_learning_rate_that_is_too_high_is_one_line_that_says_so():
    with pytest.raises(InputError, match=r"not finite in epoch 1: .*learning rate .* is too high"):
        fit(new_model(), EMBEDDINGS, preference_task("bradley-terry"), preference_config(learning_rate=1e38))


def test_a_loss_of_ones_own_that_becomes_infinite_is_one_line():
    infinite = Objective(lambda logits, ratings, _: logits.sum((-1, -2)) + math.inf, lambda logits, *_: logits * 0)
    with pytest.raises(InputError, match=r"not finite in epoch 1: .*your own loss has no finite value"):
        fit(new_model(), EMBEDDINGS, replace(preference_task(), objective=infinite), preference_config())


def test_a_model_that_the_last_step_breaks_is_one_line():
    one_step = training_config(batch=10_000, epochs=1, learning_rate=1e38)
    with pytest.raises(InputError, match="the model's output is not finite in epoch 1"):
        fit(new_model(), EMBEDDINGS, training_task(), one_step)


# --- devices, rows, threads, progress


def all_phases():
    """Every objective with every head that it learns with; also with a KL penalty."""
    yield from ((training_task(head), head) for head in TRAINING_OBJECTIVES)
    yield from ((preference_task(loss, kl), "categorical") for loss in LOSSES for kl in (0.0, 0.5))
    yield from ((preference_task(loss, 0.5, head="scalar"), "scalar") for loss in LOSSES if loss != "study")


def test_an_epoch_never_waits_for_the_device():
    """On torch's `meta` device nothing can be fetched: `.item()`, `.cpu()`, boolean masks and NumPy all fail there."""
    embeddings, true = EMBEDDINGS.to("meta"), torch.from_numpy(RATINGS[300:]).to("meta")
    for task, head in all_phases():
        model = RatingMLP(new_model(head).parameters.to("meta"), new_model(head).widths)
        if task.examples.reference is not None:
            task = replace(task, examples=replace(task.examples, reference=task.examples.reference.to("meta")))
        with torch.no_grad():
            learned = run_epoch(model, Adam(model, 0.01), embeddings, task, training_config())
            counts = confusion_counts(model, embeddings[300:], true, SCALE)
            share = ordered_share(model, embeddings[:6])
        assert {found.device.type for found in (learned, counts, share)} == {"meta"}


def test_rows_that_follow_one_another_are_a_view():
    assert select_rows(EMBEDDINGS, np.arange(3, 7)).data_ptr() == EMBEDDINGS[3].data_ptr()
    assert torch.equal(select_rows(EMBEDDINGS, np.arange(3, 7)), EMBEDDINGS[3:7])


@pytest.mark.parametrize("rows", [[4, 2], [2, 4], [5, 4, 3], [7], [1, 1]])
def test_any_rows_are_selected_in_their_order(rows):
    assert torch.equal(select_rows(EMBEDDINGS, np.array(rows)), EMBEDDINGS[rows])


def test_progress_is_reported_after_every_epoch():
    calls = []
    fit(new_model(), EMBEDDINGS, training_task(), training_config(epochs=5), lambda: calls.append(1))
    assert len(calls) == 5


def test_the_number_of_threads_is_restored_also_after_an_error():
    torch.set_num_threads(2)
    with single_threaded():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), single_threaded():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_the_training_objective_of_a_categorical_head_is_cross_entropy():
    assert TRAINING_OBJECTIVES["categorical"].value is cross_entropy
