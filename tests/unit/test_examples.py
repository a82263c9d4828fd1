"""What a model learns from and is scored on, against the data set it comes from."""

import numpy as np
import pytest
import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.reviews import split_dataset
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning import examples

SPLITS, RATINGS = split_dataset(20), np.random.default_rng(0).integers(3, size=20)
DATASET = Dataset(torch.zeros(20, 2), RATINGS, np.arange(1, 4), [""] * 20, provenance=None)  # type: ignore[arg-type]


def test_the_validation_part_is_scored_against_its_own_ratings_or_as_published_the_first_training_ratings():
    for kind, rows in (("own", SPLITS.validation), ("misaligned", SPLITS.train[: len(SPLITS.validation)])):
        found = examples.validation_part(Config("multiclass", validation_ratings=kind), DATASET, SPLITS)
        assert found.rows.tolist() == SPLITS.validation.tolist()
        assert found.ratings.tolist() == RATINGS[rows].tolist()


@pytest.mark.parametrize("head", ["categorical", "scalar"])
def test_comparisons_keep_the_claimed_ratings_and_for_a_kl_penalty_what_the_model_says_before(head):
    feedback = Feedback(np.array([[12, 13], [15, 14]]), np.array([[2, 1], [1, 0]]), 0, 4, np.zeros((2, 1)))
    output = np.random.default_rng(1).dirichlet(np.ones(3), size=20)
    output[12] = [0, 0, 1]  # the logarithm of a probability of 0 is that of the smallest float
    output, before = (output[:, :1] - 0.5, output[:, :1] - 0.5) if head == "scalar" else (output, output.clip(1.18e-38))
    for weight in (0.0, 0.5):
        config = Config("multiclass", kl_weight=weight, head=head, loss="bradley-terry")
        found = examples.compared_reviews(config, feedback, output, torch.device("cpu"))
        assert (found.rows.tolist(), found.ratings.tolist()) == (feedback.lists.tolist(), feedback.ratings.tolist())
        assert (found.reference is None) == (weight == 0)
    assert found.reference.dtype == torch.float32
    expected = before if head == "scalar" else np.log(before)
    np.testing.assert_allclose(found.reference, expected[feedback.lists], rtol=1e-4)
