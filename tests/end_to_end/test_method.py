"""The whole method once more, in plain PyTorch, NumPy and scikit-learn: read it to learn what one run does.

`retell` goes from the ratings and embeddings of a data set to the metrics of the models before and after fine-tuning.
The tests compare it with the project epoch by epoch and metric by metric. Of the project it uses the random streams,
whose draws in their order are part of the method, and `build_lists` and `build_pairs`, which make as many comparisons
as there can be; `tests/unit/test_comparisons.py` checks these.
"""

from copy import deepcopy
from dataclasses import asdict, astuple
from functools import cache
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.experiment import fine_tune_model, reviews_to_compare, train_model
from noisy_feedback.feedback.comparisons import build_lists, build_pairs
from noisy_feedback.feedback.simulate import simulate_feedback
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.rng import rng_for

C = 5  # ratings are classes 0..4 and stand for 1 to 5 stars


# --- the method, retold


def retell(config, x, ratings):
    """One run on embeddings `x` (n, d) and true `ratings` (n,)."""
    n = len(ratings)
    rows = rng_for(config.seed, "split").permutation(n) if config.shuffle else np.arange(n)
    train, validation, tuning, test = np.split(rows, [n * 4 // 10, n * 5 // 10, n * 9 // 10])
    # The validation part chooses the best epoch; as published, it is scored against other reviews' ratings.
    scored = train[: len(validation)] if config.validation_ratings == "misaligned" else validation
    check = config.select, x[validation], ratings[scored]

    # Train on single reviews, as lists of one, with their true ratings.
    true = torch.from_numpy(ratings[train])[:, None]

    def training_loss(logits, chosen):
        if config.head == "scalar":
            return (logits[:, 0, 0] - true[chosen, 0]) ** 2
        return F.cross_entropy(logits[:, 0], true[chosen, 0], reduction="none")

    optimizer = torch.mean, config.lr_t, config.batch_t, config.epochs_t, rng_for(config.seed, "training batches")
    trained = learn(new_network(config, x.shape[1]), x, train[:, None], true, training_loss, optimizer, check)
    before = trained.best

    # Simulate feedback on the fine-tuning part.
    probabilities = distribution(before(x[tuning])).numpy()
    lists, claimed, changed, total = give_feedback(config, ratings[tuning], probabilities.max(axis=1))

    # Fine-tune the best model on the comparisons; it stays the reference of the KL penalty.
    compared, given = tuning[lists], torch.from_numpy(claimed)  # (L, k+1)
    flips = flip_rates(config, claimed, np.bincount(ratings[train], minlength=C) / len(train))
    p = distribution(before(x[compared]))  # (L, k+1, C)

    def tuning_loss(logits, chosen):
        kl = (p[chosen] * (p[chosen].log() - logits.log_softmax(-1))).sum((1, 2)) if config.kl_weight else 0
        return preference_loss(config.loss, logits, given[chosen], *flips) + config.kl_weight * kl

    optimizer = torch.sum, config.lr_f, config.batch_f, config.epochs_f, rng_for(config.seed, "fine-tuning batches")
    tuned = learn(before, x, compared, given, tuning_loss, optimizer, check)

    models = {"before": before, "best": tuned.best, "last": tuned.last}
    reported = {stage: evaluate(model(x[test]), ratings[test]) for stage, model in models.items()}
    return SimpleNamespace(
        splits={"train": train, "validation": validation, "fine_tuning": tuning, "test": test},
        feedback={"lists": lists, "ratings": claimed, "changed": changed, "total": total},
        training=trained,
        fine_tuning=tuned,
        probabilities=probabilities,
        models=models,
        reported=reported,
    )


def new_network(config, inputs):
    """An MLP with torch.nn.Linear's initial values, uniform within 1/sqrt(inputs of the layer) of 0."""
    rng, layers = rng_for(config.seed, "initial weights"), []
    for n_in, n_out in pairwise([inputs, *config.hidden, 1 if config.head == "scalar" else C]):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        for parameter in layers[-2].parameters():  # weights (n_out, n_in), then biases (n_out,)
            parameter.data = torch.tensor(rng.uniform(-(n_in**-0.5), n_in**-0.5, parameter.shape)).float()
    return nn.Sequential(*layers[:-1])


def learn(start, x, rows, ratings, loss, optimizer, check):
    """Learn from lists (n, g) of rows of `x` and their ratings; keep the epoch with the best validation score.

    `loss(logits, chosen)` gives one value per list. Loss and accuracies are those of each batch before its step.
    """
    reduce, learning_rate, batch, epochs, rng = optimizer
    network, history, scores, networks = deepcopy(start), [], [], []
    adam = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=5e-4)
    for _ in range(epochs):
        order, seen = rng.permutation(len(rows)), []
        for first in range(0, len(rows), batch):
            chosen = order[first : first + batch]
            seen.append(network(x[rows[chosen]]).double())  # (B, g, C)
            adam.zero_grad()
            reduce(loss(seen[-1], chosen)).backward()
            adam.step()
        logits = torch.cat(seen).detach()  # (n, g, C)
        objective = loss(logits, order).mean().item()
        training_accuracy = (predicted_class(logits) == ratings[order].numpy()).mean()
        margin = reward(logits)[:, :-1] - reward(logits)[:, 1:]  # between neighbours in a list
        preference_accuracy = torch.where(margin == 0, 0.5, (margin > 0).double()).mean().item()  # NaN in training
        select, x_validation, true = check
        output = network(x_validation).detach()
        accuracy = metrics.accuracy_score(true, predicted_class(output))
        macro_f1 = metrics.f1_score(true, predicted_class(output), average="macro")
        history.append([objective, training_accuracy, preference_accuracy, accuracy, macro_f1])
        score = macro_f1 if select == "macro_f1" else accuracy
        scores.append(kappa(output, true) if select == "kappa" else score)
        networks.append(deepcopy(network))
    best = scores.index(max(scores))  # the first of equals
    return SimpleNamespace(history=history, best_epoch=best + 1, best=networks[best], last=networks[-1])


def noisy_ratings(config, true, confidence):
    """The ratings (n,) that comparisons are made from: round(ratio * n) of the true ones replaced."""
    rng, n = rng_for(config.seed, "noise"), len(true)
    noisy, m = true.copy(), round(config.ratio * n)
    if config.noise == "reversed":
        return noisy  # what is noisy are the comparisons
    order = confidence.argsort(kind="stable") if config.noise == "least-confident" else rng.permutation(n)
    if config.noise in ("uniform", "least-confident"):  # any other rating
        noisy[order[:m]] = ((true + rng.integers(1, C, size=n)) % C)[order[:m]]
    elif config.noise == "adjacent":  # one more or less; at the ends of the scale inwards
        down = np.where(true == 0, False, np.where(true == C - 1, True, rng.random(n) < 0.5))
        noisy[order[:m]] = np.where(down, true - 1, true + 1)[order[:m]]
    elif config.noise == "redrawn":  # as published: any rating, so also the old one
        noisy[order[:m]] = rng.integers(0, C, size=m)
    else:  # as published in binary: 1..5 where classes are 0..4; 5 is no class and never compared
        noisy[order[:m]] = rng.integers(1, C + 1, size=m)
    return noisy


def give_feedback(config, true, confidence):
    """The lists (L, k+1) of places in `true` (n,), the ratings claimed of them, and how many of how many are noisy."""
    noisy, rng = noisy_ratings(config, true, confidence), rng_for(config.seed, "comparisons")
    usable = np.flatnonzero(noisy < C)
    if config.protocol == "binary":  # 1 star against 4, 2 against 5
        lists = usable[build_pairs(noisy[usable] + 1, np.arange(C) + 1, 3, rng)]
        assert (noisy[lists[:, 0]] - noisy[lists[:, 1]] == 3).all()
    else:
        lists = usable[build_lists(noisy[usable], config.k, C, rng)]
        assert (np.diff(noisy[lists], axis=1) < 0).all()  # different ratings, best first
    assert np.unique(lists).size == lists.size  # each review at most once
    lists = lists[: config.lists]
    if config.list_order == "row":  # as published
        lists.sort(axis=1)
    claimed = noisy[lists]
    if config.noise != "reversed":
        return lists, claimed, (noisy != true).sum(), len(true)
    # Who reverses a list claims that its worst review is the best: the claimed ratings stay best first.
    backwards = rng_for(config.seed, "noise").permutation(len(lists))[: round(config.ratio * len(lists))]
    lists[backwards] = lists[backwards, ::-1]
    return lists, claimed, len(backwards), len(lists)


def flip_rates(config, claimed, priors):
    """P(neighbours in a list reversed | their true ratings differ), and P(wrong) where a tie is half wrong.

    `priors` (C,) are the shares of the true ratings. Enumerates all pairs of true ratings, by Bayes' rule.
    """
    if config.noise == "reversed":
        return config.ratio, config.ratio
    transition = np.zeros((C, C))  # P(noisy | true), true rating down
    for true in range(C):
        near = [c for c in (true - 1, true + 1) if 0 <= c < C]
        others = {"adjacent": near, "redrawn": range(C)}.get(config.noise, [c for c in range(C) if c != true])
        transition[true, others] = config.ratio / len(others)
        transition[true, true] += 1 - config.ratio
    posterior = priors[:, None] * transition / (priors @ transition)  # P(true | noisy), noisy rating across
    pairs = [pair for ratings in claimed for pair in pairwise(ratings)]
    reversed_, tied = 0.0, 0.0
    for (better, worse), a, b in product(pairs, range(C), range(C)):
        probability = posterior[a, better] * posterior[b, worse] / len(pairs)
        reversed_ += probability * (a < b)
        tied += probability * (a == b)
    return reversed_ / (1 - tied), reversed_ + tied / 2


def preference_loss(name, logits, ratings, flip_rate, smoothing):
    """A value per list (B,), of logits (B, k+1, C) of its reviews, best first, and the ratings (B, k+1) claimed."""
    if name == "study":  # the reward is made from the logit of the list's best rating, for all of its reviews
        r = F.softplus(logits[torch.arange(len(logits)), :, ratings[:, 0]], beta=0.1)
        return -torch.sigmoid(r[:, :-1] - r[:, 1:]).log().sum(1)
    r = reward(logits)
    z = r[:, :-1] - r[:, 1:]
    right, wrong = -torch.sigmoid(z).log(), -torch.sigmoid(-z).log()
    return {
        "bradley-terry": lambda: right.sum(1),
        "plackett-luce": lambda: sum(r[:, i:].logsumexp(1) - r[:, i] for i in range(z.shape[1])),
        "hinge": lambda: (1 - z).clamp(min=0).sum(1),
        "label-smoothing": lambda: ((1 - smoothing) * right + smoothing * wrong).sum(1),
        "robust": lambda: (((1 - flip_rate) * right - flip_rate * wrong) / (1 - 2 * flip_rate)).sum(1),
        "symmetric-sigmoid": lambda: torch.sigmoid(-z).sum(1),
        "dr-dpo": lambda: -(-right.sum(1)).exp().mean().log().repeat(len(z)),  # one value for the whole batch
        "holder-dpo": lambda: (1 - 3 * torch.sigmoid(z) ** 2 + 2 * torch.sigmoid(z) ** 3).sum(1),
        "re-po": lambda: weighted_likelihood(z, right, wrong),
    }[name]()


def weighted_likelihood(z, right, wrong):
    """RE-PO: the probability w that each comparison is right, and their mean, estimated in turn, 20 times."""
    p, eta = torch.sigmoid(z.detach()), torch.tensor(0.9)
    for _ in range(20):
        w = p * eta / (p * eta + (1 - p) * (1 - eta))
        eta = w.mean().clamp(0.5, 0.999)
    w = p * eta / (p * eta + (1 - p) * (1 - eta))
    return (w * right + (1 - w) * wrong).sum(1)


def distribution(output):
    """Probabilities (..., C) of logits; of a scalar head (..., 1) the output itself."""
    output = output.detach().double()
    return output if output.shape[-1] == 1 else output.softmax(-1)


def reward(output):
    """The expected rating, in classes; of a scalar head the output itself."""
    return output[..., 0] if output.shape[-1] == 1 else (output.softmax(-1) * torch.arange(C)).sum(-1)


def predicted_class(output):
    """The most probable class; with a scalar head the nearest."""
    return (nearest_class(output) if output.shape[-1] == 1 else output.detach().argmax(-1)).numpy()


def nearest_class(output):
    """The class nearest to the expected rating."""
    return reward(output.detach().double()).round().clamp(0, C - 1)


def kappa(output, true):
    return metrics.cohen_kappa_score(true, nearest_class(output).numpy(), weights="quadratic", labels=range(C))


def evaluate(output, true):
    """What is reported of a model's output on the test part."""
    predicted, expected = predicted_class(output), reward(output.detach().double()).numpy()
    macro = metrics.precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
    margins = [expected[i] - expected[j] for i, j in product(range(len(true)), repeat=2) if true[i] > true[j]]
    return {
        "accuracy": metrics.accuracy_score(true, predicted),
        **dict(zip(("macro_precision", "macro_recall", "macro_f1"), macro, strict=False)),
        "mean_absolute_error": metrics.mean_absolute_error(true, expected),
        "quadratic_weighted_kappa": kappa(output, true),
        "pairwise_accuracy": np.mean([(margin > 0) + (margin == 0) / 2 for margin in margins]),
        "confusion_matrix": metrics.confusion_matrix(true, predicted, labels=range(C)).tolist(),
    }


# --- the comparison with the project

PUBLISHED = {"validation_ratings": "misaligned", "list_order": "row"}
CASES = {
    "study": {"ratio": 0.4},
    "no noise, k=3, macro F1": {"k": 3, "select": "macro_f1"},
    "binary": {"protocol": "binary", "ratio": 0.2},
    "adjacent": {"noise": "adjacent", "ratio": 0.5},
    "reversed, k=2": {"noise": "reversed", "ratio": 0.4, "k": 2, "lists": 20},
    "least-confident, k=2": {"noise": "least-confident", "ratio": 0.3, "k": 2},
    "as published, k=3": {"noise": "redrawn", "ratio": 0.4, "k": 3, **PUBLISHED},
    "as published, binary": {"noise": "redrawn-off-scale", "ratio": 0.4, "protocol": "binary", **PUBLISHED},
    "plackett-luce, lists": {"loss": "plackett-luce", "ratio": 0.2, "k": 3, "lists": 10},
    "hinge": {"loss": "hinge", "ratio": 0.2, "k": 2},
    "label-smoothing": {"loss": "label-smoothing", "ratio": 0.3, "k": 2},
    "robust": {"loss": "robust", "ratio": 0.2},
    "robust, adjacent, kappa": {"loss": "robust", "noise": "adjacent", "ratio": 0.5, "k": 3, "select": "kappa"},
    "label-smoothing, redrawn": {"loss": "label-smoothing", "noise": "redrawn", "ratio": 0.3},
    "robust, reversed": {"loss": "robust", "noise": "reversed", "ratio": 0.3, "protocol": "binary"},
    "dr-dpo": {"loss": "dr-dpo", "ratio": 0.2, "k": 2},
    "holder-dpo, KL": {"loss": "holder-dpo", "ratio": 0.4, "kl_weight": 0.5, "k": 2},
    "re-po, binary": {"loss": "re-po", "ratio": 0.2, "protocol": "binary"},
    "bradley-terry, KL": {"loss": "bradley-terry", "ratio": 0.2, "kl_weight": 1.0, "k": 3, "shuffle": True},
    "symmetric-sigmoid, KL": {"loss": "symmetric-sigmoid", "ratio": 0.8, "kl_weight": 0.5},
    "scalar head, macro F1": {"head": "scalar", "loss": "bradley-terry", "ratio": 0.2, "select": "macro_f1"},
    "scalar head, kappa": {"head": "scalar", "loss": "symmetric-sigmoid", "select": "kappa", "k": 2},
    "shuffle, binary": {"shuffle": True, "protocol": "binary", "ratio": 0.2, "select": "kappa"},
}
SMALL = {"seed": 14, "hidden": (32, 16), "epochs_t": 6, "lr_t": 0.02, "batch_t": 10}
SMALL |= {"epochs_f": 6, "lr_f": 0.003, "batch_f": 8}
every_case = pytest.mark.parametrize("case", CASES)
both_phases = pytest.mark.parametrize("phase", ["training", "fine_tuning"])


@cache
def small_dataset():
    """Reviews with about TripAdvisor's shares of ratings, and embeddings that predict these with errors."""
    rng, n = np.random.default_rng(0), 300
    ratings = rng.choice(C, size=n, p=[0.07, 0.09, 0.11, 0.29, 0.44])
    position = ratings[:, None] + 0.7 * rng.normal(size=(n, 1))
    x = torch.from_numpy(position * rng.normal(size=12) + 0.5 * rng.normal(size=(n, 12))).float()
    return Dataset(x, ratings, np.arange(C) + 1, [f"review {number}" for number in range(n)], provenance=None)


@cache
def both(case):
    """The retold run, and what the project finds."""
    config, dataset = Config(**{"protocol": "multiclass", **SMALL, **CASES[case]}), small_dataset()
    with single_threaded():
        trained = train_model(config, dataset)
        result, models = fine_tune_model(config, dataset, trained)
        feedback = simulate_feedback(config, reviews_to_compare(dataset, trained), dataset.scale)
        retold = retell(config, dataset.embeddings, dataset.ratings)
    return retold, SimpleNamespace(trained=trained, result=result, models=models, feedback=feedback)


@every_case
def test_splits(case):
    retold, project = both(case)
    for name, rows in retold.splits.items():
        np.testing.assert_array_equal(getattr(project.trained.splits, name), rows, err_msg=name)


@every_case
def test_feedback(case):
    retold, project = both(case)
    for name, expected in retold.feedback.items():
        np.testing.assert_array_equal(getattr(project.feedback, name), expected, err_msg=name)
    changed, total, lists = (retold.feedback[name] for name in ("changed", "total", "lists"))
    assert (project.result.noise["changed"], project.result.noise["total"]) == (changed, total)
    assert project.result.comparisons["count"] == len(lists)
    assert project.result.comparisons["reviews_used"] == lists.size


@every_case
@both_phases
def test_every_epoch(case, phase):
    retold, project = both(case)
    found = [astuple(epoch) for epoch in getattr(project.result, phase)]
    np.testing.assert_allclose(found, getattr(retold, phase).history, rtol=1e-5)


@every_case
@both_phases
def test_best_epoch(case, phase):
    retold, project = both(case)
    assert project.result.best_epochs[phase] == getattr(retold, phase).best_epoch


@every_case
def test_ratings_predicted_before_feedback(case):
    retold, project = both(case)
    np.testing.assert_allclose(project.trained.probabilities, retold.probabilities, atol=1e-5)


@every_case
@pytest.mark.parametrize("stage", ["before", "best", "last"])
def test_model_and_its_metrics(case, stage):
    retold, project = both(case)
    parameters = nn.utils.parameters_to_vector(retold.models[stage].parameters()).detach()
    np.testing.assert_allclose(project.models[stage].parameters, parameters, atol=1e-4)
    assert_same_metrics(getattr(project.result, stage), retold.reported[stage])


def test_majority_baseline():
    _, project = both("study")
    ratings, splits = small_dataset().ratings, project.trained.splits
    most_frequent = np.bincount(ratings[splits.train]).argmax()
    output = torch.full((len(splits.test), C), -torch.inf)
    output[:, most_frequent] = 0
    assert_same_metrics(project.result.majority, evaluate(output, ratings[splits.test]))


def test_best_and_last_epoch_differ():
    """In most cases: else the comparison could not tell one from the other."""
    for phase in ("training", "fine_tuning"):
        epochs = [getattr(both(case)[0], phase).best_epoch for case in CASES]
        assert np.mean(np.array(epochs) < 6) > 0.5


def assert_same_metrics(found, expected):
    found = asdict(found)
    assert found.keys() == expected.keys()
    assert found.pop("confusion_matrix") == expected["confusion_matrix"]
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-4)
