"""Losses and kinds of noise of a user's own: a function and its name; what is wrong with one is said in one line."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from noisy_feedback.feedback.noise import RATING_NOISE, RatingNoise
from noisy_feedback.learning.losses import LOSS_FUNCTIONS, Loss, margins
from tests.conftest import ROOT, only_folder, options, run_script

# --- right ones, added to a copy of the project as a user adds them


def squared_margin(logits, ratings):
    """sum_i (1 - z_i)^2."""
    return (1 - margins(logits)).square().sum(-1)


def cautious(logits, ratings, flip_rate):
    """The squared margin, less where comparisons are often reversed."""
    return (1 - 2 * flip_rate) * squared_margin(logits, ratings)


def doubtful(reviews, ratio, rng):
    """Noisy ratings (n,): reviews that are short, far from the others and uncertain get the opposite rating."""
    distance = (reviews.embeddings - reviews.embeddings.mean(dim=0)).norm(dim=1).cpu().numpy()
    length = np.array([len(text) for text in reviews.texts])
    chosen = np.lexsort([distance, length, reviews.confidence])[: round(ratio * len(reviews.ratings))]
    noisy = reviews.ratings.copy()
    noisy[chosen] = reviews.classes - 1 - noisy[chosen]
    return noisy


def opposite(reviews, ratio, rng):
    """The same noise, with a transition matrix below."""
    return doubtful(reviews, ratio, rng)


def extremes(config, ratings, scale, rng):
    """Pairs (L, 2) of a review with the best rating and one with the worst."""
    best, worse = (rng.permutation(np.flatnonzero(ratings == end)) for end in (ratings.max(), ratings.min()))
    return np.array(list(zip(best, worse, strict=False)))


ADDED = {  # file -> the tuple of names in config.py, the functions, and what is added after them
    "learning/losses.py": (
        "LOSSES",
        (squared_margin, cautious),
        'LOSS_FUNCTIONS |= {"squared-margin": Loss(squared_margin), "cautious": Loss(cautious, "flip_rate")}',
    ),
    "feedback/noise.py": (
        "NOISES",
        (doubtful, opposite),
        'RATING_NOISE |= {"doubtful": RatingNoise(doubtful), "opposite": RatingNoise(opposite, lambda ratio, classes: '
        "transition_matrix(ratio, np.eye(classes)[::-1]))}",
    ),
    "feedback/protocols.py": ("SIMULATED", (extremes,), 'BUILDERS["extremes"] = extremes'),
}
PROTOCOL = '    "binary": {"main.py": '  # the entry in PROTOCOLS before which that of a protocol of one's own stands


@pytest.fixture(scope="module")
def own_project(tmp_path_factory):
    """A copy of the project with five functions more, their entries in the tables, and their names in config.py."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("noisy_feedback", "multiclass"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results"))
    config = folder / "noisy_feedback" / "config.py"
    for file, (tuple_name, functions, entries) in ADDED.items():
        with (folder / "noisy_feedback" / file).open("a") as module:
            module.write("\n\n" + "\n\n".join(map(inspect.getsource, functions)) + "\n\n" + entries + "\n")
        names = "".join(f'    "{function.__name__.replace("_", "-")}",\n' for function in functions)
        text, count = re.subn(rf"(\n{tuple_name} = \([^)]*?),?\s*\)", rf"\1, {names})", config.read_text())
        assert count == 1
        config.write_text(text)
    assert config.read_text().count(PROTOCOL) == 1
    config.write_text(config.read_text().replace(PROTOCOL, '    "extremes": {"main.py": {}},\n' + PROTOCOL))
    (folder / "extremes").mkdir()
    script = (ROOT / "multiclass" / "main.py").read_text().replace("multiclass", "extremes")
    (folder / "extremes" / "main.py").write_text(script)
    return folder


COMMANDS = {
    "protocol": ("extremes/main.py", "--ratio", 0.3),
    "run": ("multiclass/main.py", "--loss", "cautious", "--noise", "opposite", "--ratio", 0.3),
    "sweep": (
        *("multiclass/config.py", "--loss", "squared-margin", "study", "--noise", "doubtful"),
        *("--ratio", 0, 0.3, "--seeds", 1),
    ),
}
START_ALL = """
import contextlib, json, os, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [script, *arguments]
    os.chdir(os.path.dirname(script))
    with contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
"""


def test_runs_and_sweeps_take_losses_noise_and_protocols_of_ones_own(own_project, separable_reviews, tmp_path):
    commands = [
        [str(own_project / script), *options(separable_reviews, tmp_path / name, "--epochs-t", 3, *map(str, more))]
        for name, (script, *more) in COMMANDS.items()
    ]
    ended = subprocess.run(
        [sys.executable, "-c", START_ALL, json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(own_project)},
        capture_output=True,
        text=True,
    )
    results = {name: only_folder(tmp_path / name) for name in COMMANDS}
    ((count, reviews),) = re.findall(r"feedback   (\d+) comparisons \(extremes\), from (\d+) texts\n", ended.stdout)
    assert int(reviews) == 2 * int(count) > 40
    record = json.loads((results["protocol"] / "run.json").read_text())
    assert (record["config"]["protocol"], record["comparisons"]["k"]) == ("extremes", 1)
    record = json.loads((results["run"] / "run.json").read_text())
    assert (record["config"]["loss"], record["config"]["noise"]) == ("cautious", "opposite")
    assert record["noise"]["total"] == 160
    assert 0 < record["noise"]["changed"] <= 48  # of 48: the middle of the scale is its own opposite
    assert record["comparisons"]["count"] > 0
    runs = pd.read_csv(results["sweep"] / "runs.csv")
    assert len(runs) == 2 * 2
    assert set(runs["loss"]) == {"squared-margin", "study"}
    assert set(runs["noise"]) == {"doubtful"}
    assert runs["last_accuracy"].notna().all()


# --- wrong ones, in the place of one that is there


@pytest.fixture
def refused(separable_reviews, tmp_path, monkeypatch, capsys):
    """Runs main.py with a wrong function in the place of `name`; returns the one line that refuses it."""

    def run(table, name, part, *more):
        monkeypatch.setitem(table, name, part)
        option = "--loss" if table is LOSS_FUNCTIONS else "--noise"
        given = options(separable_reviews, tmp_path, option, name, "--ratio", 0.5, *more)
        run_script("multiclass/main.py", given, status=2)
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("main.py: error: ")
        assert not list(tmp_path.iterdir())
        return line

    return run


def by_class(logits, ratings):
    """A loss that needs a distribution over ratings."""
    return -torch.log_softmax(logits, dim=-1).gather(-1, ratings.unsqueeze(-1)).squeeze(-1).sum(-1)


WRONG_LOSSES = {  # the others are in tests/unit/test_objective.py
    "one shape for pairs alone": (lambda logits, ratings: margins(logits).squeeze(-1), ["--k", 2], "not shape"),
    "raises": (lambda logits, ratings: 1 / 0, [], r"hinge in .* fails .*ZeroDivisionError\('division by zero'\)"),
    "classes of a scalar head": (by_class, ["--head", "scalar"], "hinge in .* fails"),
    "not a number in the gradient": (
        lambda logits, ratings: (0 * margins(logits).sum(-1)).sqrt(),
        [],
        "not finite in epoch 1: .* your own loss has no finite value or gradient",
    ),
}


def test_a_wrong_part_is_one_line_that_names_the_function_and_what_was_expected(refused):
    for name, (function, more, reason) in WRONG_LOSSES.items():
        assert re.search(reason, line := refused(LOSS_FUNCTIONS, "hinge", Loss(function), *more)), f"{name}: {line}"
    line = refused(RATING_NOISE, "adjacent", RatingNoise(lambda reviews, ratio, rng: reviews.ratings[1:]))
    assert "<lambda> in noisy_feedback/feedback/noise.py must return an array of 160 classes, 0 to 4" in line


def test_a_loss_for_lists_of_three_is_tried_on_lists_of_three(separable_reviews, tmp_path, monkeypatch):
    loss = Loss(lambda logits, ratings: margins(logits)[:, 0] - margins(logits)[:, 1])
    monkeypatch.setitem(LOSS_FUNCTIONS, "hinge", loss)
    run_script("multiclass/main.py", options(separable_reviews, tmp_path, "--loss", "hinge", "--k", 2))
