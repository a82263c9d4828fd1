"""Losses and noise of a user's own: one function and its name; what is wrong with it is told before it costs time."""

import json
import re

import numpy as np
import pytest
import torch

from noisy_feedback import cli, losses, noise, results, settings
from tests.conftest import arguments, folder_of, run


@pytest.fixture
def own(monkeypatch):
    """Adds a loss or a kind of noise as README says: a function, and its name in settings.py."""

    def add(room, name, function):
        names = "LOSSES" if room is losses else "NOISES"
        for module in (settings, cli):
            monkeypatch.setattr(module, names, (*getattr(settings, names), name)[-9:])
        if function:
            monkeypatch.setattr(room, name.replace("-", "_"), function, raising=False)

    return add


def squared_margin(logits, ratings):
    return (1 - losses.margins(logits)).square().sum(-1)


def extreme(ratings, ratio, classes, generator):
    ends = np.where(ratings < classes / 2, classes - 1, 0)
    changed = generator.permutation(len(ratings))[: round(ratio * len(ratings))]
    noisy = ratings.copy()
    noisy[changed] = ends[changed]
    return noisy


def test_a_loss_of_ones_own_is_a_function_and_a_name(own, planted_data, tmp_path):
    own(losses, "squared-margin", squared_margin)
    run("multiclass/config.py", arguments(planted_data, tmp_path, "--loss", "squared-margin", "--seeds", 1, 2))
    assert list(folder_of(tmp_path).glob("runs/seed1_squared-margin_*"))


def test_a_loss_with_a_flip_rate_is_given_it(own, planted_data, tmp_path):
    given = []

    def smoothed(logits, ratings, flip_rate):
        given.append(flip_rate)
        return squared_margin(logits, ratings)

    own(losses, "smoothed", smoothed)
    run("multiclass/main.py", arguments(planted_data, tmp_path, "--loss", "smoothed", "--flip-rate", 0.125))
    assert set(given) == {0.125}


def test_a_kind_of_noise_of_ones_own_is_a_function_and_a_name(own, planted_data, tmp_path):
    own(noise, "extreme", extreme)
    run("multiclass/main.py", arguments(planted_data, tmp_path, "--noise", "extreme", "--ratio", 0.3))
    (file,) = tmp_path.glob("*/run.json")
    assert json.loads(file.read_text())["noise"] == {"requested": 0.3, "changed": 120, "of": 400}


WRONG = {
    "a loss of one number": (losses, lambda *given: squared_margin(*given).mean(), r"shape \(\), not one"),
    "a loss of too many": (losses, lambda logits, ratings: losses.margins(logits), "not one per list"),
    "a loss that is infinite": (
        losses,
        lambda logits, ratings: squared_margin(logits, ratings) + torch.tensor(0.0).log(),
        "or a loss of your own has no finite value",
    ),
    "no loss": (losses, None, "--loss own: there is no function own in noisy_feedback.losses"),
    "too few ratings": (noise, lambda ratings, *_: ratings[1:], "--noise own: must give as many ratings, from 0 to 4"),
    "ratings off the scale": (noise, lambda ratings, *_: ratings + 1, "--noise own: must give as many ratings"),
    "no noise": (noise, None, "--noise own: there is no function own in noisy_feedback.noise"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_it_is_one_line(own, planted_data, tmp_path, capsys, name):
    room, function, says = WRONG[name]
    own(room, "own", function)
    option = "--loss" if room is losses else "--noise"
    run("multiclass/main.py", arguments(planted_data, tmp_path, option, "own", "--ratio", 0.5), status=2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(says, line), line
    assert not list(tmp_path.iterdir())


def test_a_flip_rate_that_nobody_knows_has_to_be_given(own, planted_data, tmp_path, capsys):
    own(noise, "extreme", extreme)
    more = ["--noise", "extreme", "--ratio", 0.5, "--loss", "conservative"]
    run("multiclass/main.py", arguments(planted_data, tmp_path, *more), status=2)
    assert "--noise extreme: what it changes into what is not known; give --flip-rate" in capsys.readouterr().err
    run("multiclass/main.py", arguments(planted_data, tmp_path, *more, "--flip-rate", 0.2))


def test_other_code_makes_another_sweep(planted_data, tmp_path, monkeypatch):
    given = arguments(planted_data, tmp_path, "--seeds", 1, "--ratio", 0)
    run("multiclass/config.py", given)
    run("multiclass/config.py", given)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(results, "CODE", results.CODE[:-1])  # as if what training.py says were another
    assert "1 runs, of which 0 are kept already" in run("multiclass/config.py", given)
    assert len(list(tmp_path.iterdir())) == 2
