"""`--as-published` gives the level of the published curves."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import only_folder, options, run_script

TRIPADVISOR = np.array([1421, 1793, 2184, 6039, 9054]) / 20491  # shares of 1 to 5 stars


def test_misaligned_validation_ratings_score_at_chance_while_the_model_is_right(tmp_path):
    """On reviews in TripAdvisor's shares whose embeddings show the rating without doubt."""
    rng = np.random.default_rng(0)
    ratings = rng.choice(5, size=4000, p=TRIPADVISOR)
    vectors = rng.normal(size=(5, 16))[ratings] + 0.1 * rng.normal(size=(4000, 16))
    rows = pd.DataFrame({"Review": [f"review {n}" for n in range(4000)], "Rating": ratings + 1})
    rows.to_csv(tmp_path / "reviews.csv", index=False)
    torch.save(torch.from_numpy(vectors).float(), tmp_path / "embeddings.pt")
    more = ["--as-published", "--epochs-t", 10, "--epochs-f", 1]
    run_script("binary/main.py", options(tmp_path / "reviews.csv", tmp_path / "results", *more))
    folder = only_folder(tmp_path / "results")
    curves = pd.read_csv(folder / "curves.csv")
    validation = curves[curves["phase"] == "training"]["validation_accuracy"].mean()
    chance = (TRIPADVISOR**2).sum()  # 0.306: two independent ratings are equal
    assert validation == pytest.approx(chance, abs=3 * (chance * (1 - chance) / 400) ** 0.5)
    assert json.loads((folder / "run.json").read_text())["before"]["accuracy"] > 0.95
