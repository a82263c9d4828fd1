"""A loss, a kind of noise and a protocol, added to a copy of the project as a user adds them."""

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

from noisy_feedback.learning.losses import margins
from tests.conftest import ROOT, only_folder, options


def cautious(logits, ratings, flip_rate):
    """sum_i (1 - z_i)^2, less where comparisons are often reversed."""
    return (1 - 2 * flip_rate) * (1 - margins(logits)).square().sum(-1)


def opposite(reviews, ratio, rng):
    """Noisy ratings (n,): reviews that are short, far from the others and uncertain get the opposite rating."""
    distance = (reviews.embeddings - reviews.embeddings.mean(dim=0)).norm(dim=1).cpu().numpy()
    length = np.array([len(text) for text in reviews.texts])
    chosen = np.lexsort([distance, length, reviews.confidence])[: round(ratio * len(reviews.ratings))]
    noisy = reviews.ratings.copy()
    noisy[chosen] = reviews.classes - 1 - noisy[chosen]
    return noisy


def extremes(config, ratings, scale, rng):
    """Pairs (L, 2) of a review with the best rating and one with the worst."""
    best, worse = (rng.permutation(np.flatnonzero(ratings == end)) for end in (ratings.max(), ratings.min()))
    return np.array(list(zip(best, worse, strict=False)))


ADDED = {  # file -> the tuple of names in config.py, the function, and what is added after it
    "learning/losses.py": ("LOSSES", cautious, 'LOSS_FUNCTIONS["cautious"] = Loss(cautious, "flip_rate")'),
    "feedback/noise.py": (
        "NOISES",
        opposite,
        'RATING_NOISE["opposite"] = RatingNoise(opposite, lambda ratio, c: transition_matrix(ratio, np.eye(c)[::-1]))',
    ),
    "feedback/comparisons.py": ("SIMULATED", extremes, 'BUILDERS["extremes"] = extremes'),
}


@pytest.fixture(scope="module")
def own_project(tmp_path_factory):
    """A copy of the project with three functions more, their entries in the tables, and their names in config.py."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "noisy_feedback", folder / "noisy_feedback", ignore=ignored)
    config = folder / "noisy_feedback" / "config.py"
    for file, (tuple_name, function, entry) in ADDED.items():
        with (folder / "noisy_feedback" / file).open("a") as module:
            module.write(f"\n\n{inspect.getsource(function)}\n\n{entry}\n")
        found, more = rf"(\n{tuple_name} = \([^)]*?),?\s*\)", rf'\1, "{function.__name__}")'
        text, count = re.subn(found, more, config.read_text())
        assert count == 1
        config.write_text(text)
    before = '    "binary": {"main.py": '  # in PROTOCOLS
    assert config.read_text().count(before) == 1
    config.write_text(config.read_text().replace(before, f'    "extremes": {{"config.py": {{}}}},\n{before}'))
    (folder / "extremes").mkdir()
    script = (ROOT / "multiclass" / "config.py").read_text().replace("multiclass", "extremes")
    (folder / "extremes" / "config.py").write_text(script)
    return folder


def test_a_sweep_takes_a_loss_noise_and_a_protocol_of_ones_own(own_project, separable_reviews, tmp_path):
    more = ("--loss", "cautious", "--noise", "opposite", "--ratio", 0, 0.3, "--seeds", 1)
    subprocess.run(
        [sys.executable, "config.py", *options(separable_reviews, tmp_path, *more)],
        cwd=own_project / "extremes",
        env={**os.environ, "PYTHONPATH": str(own_project)},
        check=True,
    )
    folder = only_folder(tmp_path)
    runs = pd.read_csv(folder / "runs.csv")
    assert runs[["loss", "noise", "ratio"]].to_numpy().tolist() == [["cautious", "opposite", r] for r in (0, 0.3)]
    assert runs["last_accuracy"].notna().all()
    assert json.loads((folder / "sweep.json").read_text())["config"]["protocol"] == "extremes"
    assert (runs["reviews_used"] == 2 * runs["comparisons"]).all()
    assert runs["comparisons"].min() > 20
    assert runs["ratings"].tolist() == [160, 160]
    none, changed = runs["ratings_changed"]
    assert none == 0 < changed <= 48  # the middle of the scale is its own opposite
