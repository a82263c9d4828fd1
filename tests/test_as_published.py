"""The published code's departures show their signature, and only when they are asked for."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from noisy_feedback import as_published
from noisy_feedback.settings import DEPARTURES
from tests.conftest import arguments, folder_of, run


def test_noise_as_published_leaves_a_rating_as_it_was_once_in_five_times():
    ratings = np.random.default_rng(0).integers(5, size=20_000)
    noisy = as_published.noise(ratings, 0.5, 5, np.random.default_rng(1))
    assert stats.binomtest(int((noisy != ratings).sum()), 10_000, 0.8).pvalue > 1e-3


def test_noise_as_published_in_binary_leaves_the_scale():
    noisy = as_published.noise(np.zeros(5000, dtype=int), 1.0, 5, np.random.default_rng(1), first=1)
    assert set(noisy) == {1, 2, 3, 4, 5}


def test_lists_as_published_stand_in_order_of_row_number():
    lists = np.random.default_rng(0).permutation(300).reshape(100, 3)
    ordered = as_published.order(lists)
    assert (np.diff(ordered, axis=1) > 0).all()
    assert (np.sort(lists, axis=1) == ordered).all()


def test_every_departure_that_the_flag_takes_is_a_function():
    assert all(callable(getattr(as_published, departure)) for departure in DEPARTURES)


TRIPADVISOR = np.array([1421, 1793, 2184, 6039, 9054]) / 20491


@pytest.fixture(scope="module")
def separable_data(tmp_path_factory):
    """Reviews in TripAdvisor's shares whose embeddings tell the rating for certain."""
    folder = tmp_path_factory.mktemp("separable")
    generator = np.random.default_rng(0)
    ratings = generator.choice(5, size=6000, p=TRIPADVISOR)
    vectors = generator.normal(size=(5, 16))[ratings] + 0.1 * generator.normal(size=(6000, 16))
    rows = pd.DataFrame({"Review": [f"review {n}" for n in range(6000)], "Rating": ratings + 1})
    rows.to_csv(folder / "reviews.csv", index=False)
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return folder / "reviews.csv"


@pytest.mark.parametrize("folder", ["multiclass", "binary"])
def test_validation_as_published_is_at_chance_while_the_model_is_not(separable_data, tmp_path, folder):
    given = arguments(separable_data, tmp_path, "--as-published", "--seeds", 1, 2, epochs=("5", "3"))
    run(f"{folder}/config.py", given)
    curves, runs = (pd.read_csv(folder_of(tmp_path) / name) for name in ("curves.csv", "runs.csv"))
    seen = curves[curves["phase"] == "training"]["validation_accuracy"].mean()
    chance = (TRIPADVISOR**2).sum()  # 0.306, the level of the published figures
    assert seen == pytest.approx(chance, abs=3 * (chance * (1 - chance) / 600) ** 0.5)
    assert runs["before_accuracy"].mean() > 0.95


def test_a_departure_switched_on_alone_leaves_the_others_off(planted_data, tmp_path):
    for name, more in (("corrected", []), ("order", ["--as-published", "order"])):
        run("multiclass/config.py", arguments(planted_data, tmp_path / name, *more, "--ratio", 0.5, "--seeds", 1))
    corrected, order = (pd.read_csv(folder_of(tmp_path / name) / "curves.csv") for name in ("corrected", "order"))
    training = corrected["phase"] == "training"
    pd.testing.assert_frame_equal(corrected[training], order[training])
    assert not corrected[~training].equals(order[~training])
