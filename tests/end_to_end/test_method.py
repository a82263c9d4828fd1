"""The whole method once more, in plain PyTorch and NumPy: read it to learn what one run does.

`retell` goes from the ratings and embeddings of a data set, and what people judged, to the metrics of the models before
and after fine-tuning. The tests compare it with the project epoch by epoch and metric by metric. Of the project it uses
what has unit tests against other ways of computing: the random streams, whose draws in their order are part of the
method, `build_lists` and `build_pairs`, which make as many comparisons as there can be, the metrics, and the audit.
"""

from collections import Counter
from copy import deepcopy
from dataclasses import asdict, astuple, replace
from functools import cache
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F  # noqa: N812 (its usual name)

from noisy_feedback import metrics
from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.errors import InputError
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.audit import audit_comparisons, audit_scores, fit_temperature, p_better
from noisy_feedback.feedback.comparisons import Feedback, build_lists, build_pairs
from noisy_feedback.rng import rng_for

C = 5  # ratings are classes 0..4 and stand for 1 to 5 stars
STARS = np.arange(C) + 1


# --- the method, retold


def retell(config, x, ratings, judged=None):
    """One run on embeddings `x` (n, d) and true `ratings` (n,).

    Of people's comparisons, `judged` are the judgements, and `x` has more rows for texts that are in no review.
    """
    n = len(ratings)
    rows = rng_for(config.seed, "split").permutation(n) if config.shuffle else np.arange(n)
    train, validation, tuning, test = np.split(rows, [n * 4 // 10, n * 5 // 10, n * 9 // 10])
    # The validation part chooses the best epoch; as published, it is scored against other reviews' ratings.
    scored = train[: len(validation)] if config.validation_ratings == "misaligned" else validation
    to_compare, select = x[:0].reshape(0, 2, x.shape[1]), config.select
    if judged:
        others = np.arange(n, len(x))  # of texts that are in no review
        in_tuning, in_validation, in_test = (
            [j for j in judged if {j.chosen, j.rejected} <= set(part)]
            for part in (np.append(tuning, others), validation, test)
        )
        if in_validation:
            to_compare, select = x[to_score(in_validation)], "preference_accuracy"
    check = config.select, x[validation], ratings[scored], to_compare

    # Train on single reviews, as lists of one, with their true ratings.
    true = torch.from_numpy(ratings[train])[:, None]

    def training_loss(logits, chosen):
        if config.head == "scalar":
            return (logits[:, 0, 0] - true[chosen, 0]) ** 2
        return F.cross_entropy(logits[:, 0], true[chosen, 0], reduction="none")

    optimizer = torch.mean, config.lr_t, config.batch_t, config.epochs_t, rng_for(config.seed, "training batches")
    trained = learn(new_network(config, x.shape[1]), x, train[:, None], true, training_loss, optimizer, check)
    before = trained.best

    # Feedback on the fine-tuning part: what people judged, or simulated.
    probabilities = distribution(before(x)).numpy()
    if judged:
        lists, flipped, ties, pairs, annotators = choose_feedback(config, in_tuning)
    else:
        noisy = noisy_ratings(config, ratings[tuning], probabilities[tuning].max(axis=1))
        places = build_all(config, noisy)
        lists, claimed, ties, pairs, annotators = tuning[places], noisy[places], 0, None, None
        changed, total = (noisy != ratings[tuning]).sum(), len(tuning)
        flipped = np.sign(np.diff(ratings[lists])) / 2 + 0.5  # a half where the true ratings are equal
    if config.noise == "reversed":
        total = len(lists)
        backwards = rng_for(config.seed, "noise").permutation(total)[: round(config.ratio * total)]
        lists[backwards], flipped[backwards] = lists[backwards, ::-1], 1 - flipped[backwards, ::-1]
        changed = len(backwards)  # who reverses a list claims that its worst review is the best
    if judged:
        claimed = np.append(ratings, np.full(len(others), -1))[lists]
    temperature, known = calibrate(config, probabilities[validation], ratings[validation])
    better, worse = lists[:, :-1].ravel(), lists[:, 1:].ravel()
    orders = [*zip(better, worse, np.arange(len(better)) if pairs is None else pairs, strict=True)]
    behind, who = orders, annotators
    if judged and config.labels in ("one", "majority") and not config.ratio:  # the audit knows all judgements of a pair
        behind = [(j.chosen, j.rejected, j.pair) for j in in_tuning]
        who = np.array([j.annotator for j in in_tuning])
    a, b, of_pair = np.array(behind).T
    place_of = {order: place for place, order in enumerate(behind)}
    places = np.array([place_of[order] for order in orders])
    found = audit_comparisons(p_better(probabilities, a, b, temperature), a, of_pair, who, places, known)

    # Fine-tune the best model on the comparisons; it stays the reference of the KL penalty.
    given = torch.from_numpy(claimed)  # (L, k+1)
    shares = np.bincount(ratings[train], minlength=C)
    flips = flip_rates(config, claimed, shares / len(train), found.estimated_flip_rate)
    p = distribution(before(x[lists]))  # (L, k+1, C)

    def tuning_loss(logits, chosen):
        if config.head == "scalar":
            kl = kl_divergence(Normal(p[chosen], 1.0), Normal(logits, 1.0)).sum((1, 2))
        else:
            kl = (p[chosen] * (p[chosen].log() - logits.log_softmax(-1))).sum((1, 2)) if config.kl_weight else 0
        return preference_loss(config.loss, logits, given[chosen], *flips) + config.kl_weight * kl

    optimizer = torch.sum, config.lr_f, config.batch_f, config.epochs_f, rng_for(config.seed, "fine-tuning batches")
    tuned = learn(before, x, lists, given, tuning_loss, optimizer, (select, *check[1:]))

    models = {"before": before, "best": tuned.best, "last": tuned.last}
    compared = x[to_score(in_test)] if judged and in_test else to_compare[:0]
    reported = {stage: score(model, x[test], ratings[test], compared) for stage, model in models.items()}
    most_frequent = np.eye(C)[np.full(len(test), shares.argmax())]
    reported["majority"] = scores(most_frequent, ratings[test], np.zeros(len(compared)))
    return SimpleNamespace(
        splits={"train": train, "validation": validation, "fine_tuning": tuning, "test": test},
        feedback=Feedback(lists, claimed, changed, total, flipped, pairs, annotators, ties),
        training=trained,
        fine_tuning=tuned,
        probabilities=probabilities,
        temperature=temperature,
        audit=found,
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
        claimed = ratings[order].numpy()
        predicted = reward(logits).round().clamp(0, C - 1) if logits.shape[-1] == 1 else logits.argmax(-1)
        training_accuracy = (predicted.numpy() == claimed)[claimed >= 0].mean()
        z = margins(logits)
        in_order = torch.where(z == 0, 0.5, (z > 0).double()).mean().item()  # NaN in training, of lists of one
        select, *validation = check
        found = score(network, *validation)
        accuracies = found.accuracy, found.macro_f1, found.preference_accuracy
        history.append([objective, training_accuracy, in_order, *accuracies])
        scores.append(found.quadratic_weighted_kappa if select == "kappa" else getattr(found, select))
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


def build(config, ratings, rng):
    """Lists of places, best first: k + 1 different ratings each, or in `binary` 1 star against 4, 2 against 5."""
    return build_pairs(ratings + 1, 3, rng) if config.protocol == "binary" else build_lists(ratings, config.k, C, rng)


def build_all(config, noisy):
    """The lists (L, k+1) of places in noisy ratings (n,) that are compared."""
    usable = np.flatnonzero(noisy < C)
    lists = usable[build(config, noisy[usable], rng_for(config.seed, "comparisons"))][: config.lists]
    return np.sort(lists, axis=1) if config.list_order == "row" else lists  # by row: as published


def choose_feedback(config, judged):
    """Comparisons (L, 2) of the fine-tuning part, which of them are wrong (L, 1), and how many pairs are ties.

    Last come their pairs (L,) and annotators (L,): None for a majority or the truth, which are nobody's judgements.
    """
    rng, ties = rng_for(config.seed, "comparisons"), 0
    of_pair = {pair: [j for j in judged if j.pair == pair] for pair in sorted({j.pair for j in judged})}
    found = [(j.chosen, j.rejected, 1 - j.correct, j.pair, j.annotator) for j in judged]
    one = {}
    if config.labels in ("one", "flipped"):
        for place in rng.permutation(len(judged)):
            one.setdefault(judged[place].pair, found[place])
    if config.labels == "one":
        found = [one[pair] for pair in of_pair]
    elif config.labels == "majority":
        found = []
        for same in of_pair.values():
            orders = [(j.chosen, j.rejected, 1 - j.correct, j.pair, None) for j in same]
            counts = Counter(order[:2] for order in orders)
            most = max(counts.values())
            winners = [order for order in counts if counts[order] == most]
            ties += len(winners) > 1
            found += [next(order for order in orders if order[:2] == winner) for winner in winners if len(winners) == 1]
    elif config.labels in ("gold", "flipped"):
        known = [same for same in of_pair.values() if not np.isnan(same[0].correct)]
        found = [(*true_order(same[0]), 0, same[0].pair, None) for same in known]
    if config.labels == "flipped":
        for place in rng.permutation(len(found))[: int(np.nansum([drawn[2] for drawn in one.values()]))]:
            better, worse, _, *pair_and_annotator = found[place]
            found[place] = worse, better, 1, *pair_and_annotator
    if config.lists:
        found = [found[place] for place in rng.permutation(len(found))[: config.lists]]
    lists, wrong = np.array([order[:2] for order in found]), np.array([order[2:3] for order in found], dtype=float)
    pairs, annotators = (np.array(column) for column in list(zip(*found, strict=True))[3:])
    return lists, wrong, ties, pairs, None if None in annotators else annotators


def true_order(j):
    """The better and the worse text of the pair of a judgement of which the truth is known."""
    return (j.chosen, j.rejected) if j.correct else (j.rejected, j.chosen)


def to_score(judged):
    """Comparisons (V, 2) to score predictions on: of each pair the true order, or if it is not known all judgements."""
    unknown = [(j.chosen, j.rejected) for j in judged if np.isnan(j.correct)]
    known = {j.pair: true_order(j) for j in judged if not np.isnan(j.correct)}
    return np.array([*known.values(), *unknown])


def calibrate(config, output, ratings):
    """The temperature that makes true orders of validation reviews most likely, and how many orders it rests on."""
    rng = rng_for(config.seed, "calibration")
    pairs = [pair for _ in range(10) for found in build(config, ratings, rng) for pair in pairwise(found)]
    return fit_temperature(output, *np.array(pairs).T), min(len(pairs), len(ratings))


def flip_rates(config, claimed, priors, estimated):
    """P(neighbours in a list reversed | their true ratings differ), and P(wrong) where a tie is half wrong.

    `priors` (C,) are the shares of the true ratings. Enumerates all pairs of true ratings, by Bayes' rule.
    """
    if config.flip_rate is not None or config.noise == "reversed":
        given = config.ratio if config.flip_rate is None else config.flip_rate
        given = min(estimated, 0.45) if given == "estimated" else given
        return given, given
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


def margins(output):
    """The reward of each of the lists' items minus that of the next: (L, g - 1) of outputs (L, g, C)."""
    r = reward(output.detach().double())
    return r[:, :-1] - r[:, 1:]


def score(model, x, true, compared):
    """The metrics of a model on reviews `x` (m, d) with `true` ratings (m,) and on comparisons (V, 2, d)."""
    return scores(distribution(model(x)).numpy(), true, margins(model(compared)).flatten().numpy())


def scores(output, true, compared):
    """The metrics of outputs (m, C or 1) with `true` ratings (m,), and of margins (V,) of comparisons."""
    return replace(metrics.evaluate(output, true, STARS), preference_accuracy=metrics.preference_accuracy(compared))


# --- the comparison with the project

PUBLISHED = {"validation_ratings": "misaligned", "list_order": "row"}
HUMAN = {"protocol": "human", "noise": "reversed", "loss": "bradley-terry"}
CASES = {
    "study": {"ratio": 0.4},
    "no noise, k=3, macro F1": {"k": 3, "select": "macro_f1"},
    "reversed, k=2": {"noise": "reversed", "ratio": 0.4, "k": 2, "lists": 20},
    "least-confident, k=2": {"noise": "least-confident", "ratio": 0.3, "k": 2},
    "as published, k=3": {"noise": "redrawn", "ratio": 0.4, "k": 3, **PUBLISHED},
    "as published, binary": {"noise": "redrawn-off-scale", "ratio": 0.4, "protocol": "binary", **PUBLISHED},
    "plackett-luce, lists": {"loss": "plackett-luce", "ratio": 0.2, "k": 3, "lists": 10},
    "hinge": {"loss": "hinge", "ratio": 0.2, "k": 2},
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
    "scalar head, robust, KL": {"head": "scalar", "loss": "robust", "ratio": 0.4, "kl_weight": 0.5},
    "scalar head, kappa": {"head": "scalar", "loss": "symmetric-sigmoid", "select": "kappa", "k": 2},
    "human, all, KL": {**HUMAN, "kl_weight": 1.0, "select": "macro_f1"},
    "human, one, robust": {**HUMAN, "labels": "one", "loss": "robust", "flip_rate": 0.3, "lists": 50},
    "human, majority, reversed": {**HUMAN, "labels": "majority", "ratio": 0.3, "loss": "symmetric-sigmoid"},
    "human, gold, shuffle": {**HUMAN, "labels": "gold", "shuffle": True, "loss": "re-po", "ratio": 0.3},
    "human, flipped, lists": {
        **{**HUMAN, "labels": "flipped", "lists": 60, "kl_weight": 0.5, "ratio": 0.1},
        **{"loss": "label-smoothing", "flip_rate": 0.2},
    },
    "human, all, robust, half reversed": {**HUMAN, "ratio": 0.5, "loss": "robust", "flip_rate": "estimated"},
    "human, one, study": {**HUMAN, "labels": "one", "loss": "study"},
    "human, scalar head": {**HUMAN, "head": "scalar", "labels": "majority"},
    "human, none to score": {
        **{**HUMAN, "labels": "one", "ratio": 0.2, "kl_weight": 0.5, "select": "macro_f1"},
        **{"loss": "label-smoothing", "flip_rate": 0.0},
    },
}
SMALL = {"seed": 14, "hidden": (32, 16), "epochs_t": 6, "lr_t": 0.02, "batch_t": 10}
SMALL |= {"epochs_f": 6, "lr_f": 0.003, "batch_f": 8}


@cache
def small_dataset():
    """Reviews with about TripAdvisor's shares of ratings, and embeddings that predict these with errors.

    The most frequent rating is 5 stars, but of the test part 4.
    """
    rng, n = np.random.default_rng(0), 300
    ratings = rng.choice(C, size=n, p=[0.07, 0.09, 0.11, 0.29, 0.44])
    ratings[270:] = ratings[270:].clip(max=3)
    position = ratings[:, None] + 0.7 * rng.normal(size=(n, 1))
    x = torch.from_numpy(position * rng.normal(size=12) + 0.5 * rng.normal(size=(n, 12))).float()
    return Dataset(x, ratings, STARS, [f"review {number}" for number in range(n)], provenance=None)


@cache
def judged_dataset(others, to_score):
    """The same reviews, and other texts, with judgements of pairs by four annotators of whom one is mostly wrong.

    Most pairs are of reviews in one part of the split; of some the truth is not known. Without those `to_score`, no
    pair is in the validation or the test part.
    """
    rng, dataset = np.random.default_rng(2), small_dataset()
    n = len(dataset.ratings)
    x = torch.cat([dataset.embeddings, torch.from_numpy(rng.normal(size=(others, 12))).float()])
    ratings = np.append(dataset.ratings, rng.integers(0, C, size=others))
    parts = [*[range(120, 150)] * 40, *[range(150, 270)] * 90, *[range(270, n)] * 40, *[range(n)] * 200]
    pairs = [rng.choice(part, size=2, replace=False) for part in parts]
    pairs += [(rng.integers(150, 270), n + text) for text in range(others)]
    rows = []
    for pair, (a, b) in enumerate(pairs):
        known = ratings[a] != ratings[b] and rng.random() < 0.8
        for annotator in rng.permutation(4)[: rng.integers(1, 3)]:
            a_first = rng.random() < (0.2, 0.95, 0.8, 0.7)[annotator] if ratings[a] > ratings[b] else rng.random() < 0.2
            chosen, rejected = (a, b) if a_first else (b, a)
            correct = float(ratings[chosen] > ratings[rejected]) if known else np.nan
            rows.append((chosen, rejected, pair, annotator, correct))
    rows = [rows[place] for place in rng.permutation(len(rows)) if to_score or min(rows[place][:2]) in range(150, 270)]
    chosen, rejected, pairs, annotators, correct = map(np.array, zip(*rows, strict=True))
    texts, names = [f"other {number}" for number in range(others)], list("abcd")
    found = Judgements("", None, "", texts, chosen, rejected, pairs, annotators, names, correct, pairs, pairs)
    return replace(dataset, embeddings=x, texts=dataset.texts + texts, judgements=found)


def config_of(case):
    return Config(**{"protocol": "multiclass", **SMALL, **CASES[case]})


def run_twice(case):
    """The retold run; and what the project trained and fine-tuned."""
    config, dataset, judged = config_of(case), small_dataset(), None
    if config.protocol == "human":
        others = 0 if config.loss == "study" else 6  # study needs the ratings of all
        dataset = judged_dataset(others, to_score=case != "human, none to score")
        given = dataset.judgements
        columns = (given.chosen, given.rejected, given.pairs, given.annotators, given.correct)
        names = ("chosen", "rejected", "pair", "annotator", "correct")
        judged = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    trained = train_model(config, dataset)
    return (
        retell(config, dataset.embeddings, dataset.ratings, judged),
        trained,
        fine_tune_model(config, dataset, trained),
    )


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_retold_one(case):
    retold, trained, tuned = run_twice(case)
    result, feedback, flipped = tuned.result, retold.feedback, retold.feedback.flipped.ravel()
    for name, rows in retold.splits.items():
        np.testing.assert_array_equal(getattr(trained.splits, name), rows, err_msg=name)
    np.testing.assert_allclose(trained.probabilities, retold.probabilities, atol=1e-5)

    for name in ("lists", "ratings", "changed", "total", "flipped", "pairs", "annotators", "ties"):
        np.testing.assert_array_equal(getattr(tuned.feedback, name), getattr(feedback, name), err_msg=name)
    assert feedback.ties > 0 or "majority" not in case
    ratio, (count, length) = CASES[case].get("ratio", 0), feedback.lists.shape
    assert result.noise == {"ratio": ratio, "changed": feedback.changed, "total": feedback.total}
    size = {"count": count, "k": length - 1, "reviews_used": np.unique(feedback.lists).size, "ties": feedback.ties}
    assert result.comparisons == size | {"attainable_accuracy": None}  # true orders are known

    assert trained.temperature == pytest.approx(retold.temperature, rel=1e-5)
    np.testing.assert_allclose(tuned.audit.p_wrong, retold.audit.p_wrong, atol=1e-5)
    auroc, precision = audit_scores(tuned.audit.p_wrong, flipped)
    expected = {
        name: getattr(retold.audit, name) for name in ("estimated_flip_rate", "flip_rate_low", "flip_rate_high")
    }
    expected |= {"known": retold.audit.known, "true_flip_rate": np.nanmean(flipped)}
    expected |= {"auroc": auroc, "precision": precision}  # NaN where nothing is wrong
    assert result.audit == pytest.approx(expected, abs=1e-5, nan_ok=True)

    for phase in ("training", "fine_tuning"):
        found, expected = getattr(result, phase), getattr(retold, phase)
        np.testing.assert_allclose([astuple(epoch) for epoch in found], expected.history, rtol=1e-5, atol=1e-6)
        assert result.best_epochs[phase] == expected.best_epoch
    for stage, model in tuned.models.items():
        parameters = nn.utils.parameters_to_vector(retold.models[stage].parameters()).detach()
        # Where a gradient is nearly 0, Adam divides it by its size: rounding can move a parameter by a step of 0.003.
        np.testing.assert_allclose(model.parameters, parameters, atol=1e-3, err_msg=stage)
    for stage, expected in retold.reported.items():
        found = asdict(getattr(result, stage))
        low, high = found.pop("preference_interval") or (np.nan, np.nan)
        assert np.isnan(low) or low <= found["preference_accuracy"] <= high
        assert found.pop("confusion_matrix") == expected.confusion_matrix
        assert found == pytest.approx({name: getattr(expected, name) for name in found}, rel=1e-4, nan_ok=True)
    assert max(result.best_epochs.values()) < config_of(case).epochs_t or case != "robust, adjacent, kappa"


def test_a_flip_rate_that_few_known_orders_cannot_tell_is_not_learned_with():
    config, dataset = replace(config_of("robust"), flip_rate="estimated"), small_dataset()
    with pytest.raises(InputError, match=r"^--flip-rate estimated: these judgements do not tell"):
        fine_tune_model(config, dataset, train_model(config, dataset))


def test_noise_receives_the_reviews_of_the_fine_tuning_part(monkeypatch):
    config, dataset, received = config_of("bradley-terry, KL"), small_dataset(), []  # with --shuffle
    trained = train_model(config, dataset)
    record = noise.RatingNoise(lambda reviews, *_: received.append(reviews) or reviews.ratings)
    monkeypatch.setitem(noise.RATING_NOISE, "uniform", record)
    fine_tune_model(config, dataset, trained)
    (reviews,), rows = received, trained.splits.fine_tuning
    assert (reviews.classes, reviews.ratings.tolist()) == (C, dataset.ratings[rows].tolist())
    assert reviews.texts == [f"review {row}" for row in rows]
    assert torch.equal(reviews.embeddings, dataset.embeddings[rows])
    np.testing.assert_array_equal(reviews.confidence, trained.probabilities[rows].max(axis=1))
