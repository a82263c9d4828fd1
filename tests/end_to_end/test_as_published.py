"""The published code's departures from its description: each has its signature, and only where it is asked for."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from noisy_feedback.config import DEPARTURES, Config, published_choices
from noisy_feedback.feedback.noise import RatedReviews, redrawn, redrawn_off_scale
from noisy_feedback.feedback.simulate import build_comparisons
from tests.conftest import only_folder, options, run_script

SCALE = np.arange(1, 6)


def rated(ratings):
    return RatedReviews(ratings, 5, [], torch.empty(0), np.zeros(len(ratings)))


def test_redrawn_noise_leaves_one_in_five_of_the_chosen_ratings_as_it_was():
    ratings = np.random.default_rng(0).integers(5, size=20_000)
    noisy = redrawn(rated(ratings), 0.5, np.random.default_rng(1))
    assert stats.binomtest(int((noisy != ratings).sum()), 10_000, 0.8).pvalue > 1e-3


def test_redrawn_off_scale_noise_removes_one_in_five_and_never_gives_the_lowest_rating():
    noisy = redrawn_off_scale(rated(np.zeros(5000, dtype=int)), 1.0, np.random.default_rng(1))
    assert set(noisy) == {1, 2, 3, 4, -1}
    assert stats.binomtest(int((noisy == -1).sum()), 5000, 0.2).pvalue > 1e-3


def test_a_review_off_the_scale_is_in_no_comparison():
    ratings = np.random.default_rng(0).integers(-1, 5, size=500)
    for config in (Config("multiclass", k=2), Config("binary")):
        lists = build_comparisons(config, ratings, SCALE, np.random.default_rng(0))
        assert (ratings[lists] >= 0).all()


def test_row_order_gives_the_same_lists_in_order_of_row_numbers():
    ratings = np.random.default_rng(0).integers(5, size=300)
    by_rating, by_row = (
        build_comparisons(Config("multiclass", k=3, list_order=order), ratings, SCALE, np.random.default_rng(1))
        for order in ("rating", "row")
    )
    assert (np.diff(by_row, axis=1) > 0).all()
    assert (np.sort(by_rating, axis=1) == by_row).all()
    assert (np.diff(ratings[by_rating], axis=1) < 0).all()


def test_every_departure_chooses_one_ordinary_option():
    assert published_choices("multiclass", []) == {}
    expected = {"validation_ratings": "misaligned", "noise": "redrawn", "list_order": "row"}
    assert published_choices("multiclass", DEPARTURES) == expected
    assert published_choices("binary", ["noise"]) == {"noise": "redrawn-off-scale"}


OPTIONS = {"labels": "validation_ratings", "noise": "noise", "order": "list_order"}
ASKED = [subset for size in (1, 2) for subset in combinations(DEPARTURES, size)]


@pytest.mark.parametrize("asked", [(), *ASKED], ids="+".join)
def test_a_departure_that_is_not_asked_for_is_off(separable_reviews, tmp_path, asked):
    """`--as-published` alone means all of them."""
    more = ["--as-published", *asked, "--epochs-t", 1, "--epochs-f", 1]
    run_script("multiclass/main.py", options(separable_reviews, tmp_path, *more))
    config = json.loads((only_folder(tmp_path) / "run.json").read_text())["config"]
    chosen = {name: config[option] for name, option in OPTIONS.items()}
    published = {"labels": "misaligned", "noise": "redrawn", "order": "row"}
    described = {"labels": "own", "noise": "uniform", "order": "rating"}
    assert chosen == {name: (published if name in asked or not asked else described)[name] for name in OPTIONS}


TRIPADVISOR = np.array([1421, 1793, 2184, 6039, 9054]) / 20491  # shares of 1 to 5 stars


@pytest.fixture(scope="module")
def certain_reviews(tmp_path_factory):
    """Reviews in TripAdvisor's shares whose embeddings show the rating without doubt."""
    folder = tmp_path_factory.mktemp("certain")
    rng = np.random.default_rng(0)
    ratings = rng.choice(5, size=6000, p=TRIPADVISOR)
    vectors = rng.normal(size=(5, 16))[ratings] + 0.1 * rng.normal(size=(6000, 16))
    rows = pd.DataFrame({"Review": [f"review {n}" for n in range(6000)], "Rating": ratings + 1})
    rows.to_csv(folder / "reviews.csv", index=False)
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return folder / "reviews.csv"


@pytest.mark.parametrize("protocol", ["multiclass", "binary"])
def test_misaligned_validation_ratings_score_at_chance_while_the_model_is_right(certain_reviews, tmp_path, protocol):
    more = ["--as-published", "--epochs-t", 10, "--epochs-f", 3]
    run_script(f"{protocol}/main.py", options(certain_reviews, tmp_path, *more))
    folder = only_folder(tmp_path)
    curves = pd.read_csv(folder / "curves.csv")
    validation = curves[curves["phase"] == "training"]["validation_accuracy"].mean()
    chance = (TRIPADVISOR**2).sum()  # 0.306: two independent ratings are equal; the level of the published curves
    assert validation == pytest.approx(chance, abs=3 * (chance * (1 - chance) / 600) ** 0.5)
    assert json.loads((folder / "run.json").read_text())["before"]["accuracy"] > 0.95


def test_a_departure_switched_on_alone_changes_only_what_it_is_about(overlapping_reviews, tmp_path):
    for name, more in {"described": [], "order": ["--as-published", "order"]}.items():
        run_script("multiclass/main.py", options(overlapping_reviews, tmp_path / name, *more, "--ratio", 0.5))
    described, order = (pd.read_csv(only_folder(tmp_path / name) / "curves.csv") for name in ("described", "order"))
    training = described["phase"] == "training"
    pd.testing.assert_frame_equal(described[training], order[training])
    assert not described[~training].equals(order[~training])
