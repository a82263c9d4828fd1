"""What a model learns from and is scored on, against the data set it comes from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset, Provenance, ReviewsInfo
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.data.preferences import Judgements
from noisy_feedback.data.reviews import split_dataset
from noisy_feedback.feedback.comparisons import Feedback, no_feedback
from noisy_feedback.feedback.people import TEST, VALIDATION
from noisy_feedback.learning import examples

N, CLASSES = 20, 3
SPLITS = split_dataset(N)
RATINGS = np.random.default_rng(0).integers(CLASSES, size=N)
PROVENANCE = Provenance(
    ReviewsInfo("made up", N, [1, 2, 3], ""), EmbeddingsInfo("made up", None, None, None, "", None), "cpu"
)
DATASET = Dataset(torch.zeros(N, 2), RATINGS, np.arange(1, 1 + CLASSES), [""] * N, PROVENANCE)
LISTS = SPLITS.fine_tuning[np.array([[0, 1], [3, 2]])]
FEEDBACK = Feedback(LISTS, np.array([[2, 1], [1, 0]]), 0, 4, np.zeros((2, 1)))
PROBABILITIES = np.random.default_rng(1).dirichlet(np.ones(CLASSES), size=N)


def test_single_reviews_are_lists_of_one_with_their_true_ratings():
    found = examples.single_reviews(DATASET, np.array([4, 2]))
    assert found.rows.tolist() == [[4], [2]]
    assert found.ratings.tolist() == [[RATINGS[4]], [RATINGS[2]]]
    assert found.reference is None


def test_the_validation_part_is_scored_against_its_own_ratings():
    found = examples.validation_reviews(Config("multiclass"), DATASET, SPLITS)
    assert found.rows[:, 0].tolist() == SPLITS.validation.tolist()
    assert found.ratings[:, 0].tolist() == RATINGS[SPLITS.validation].tolist()


def test_as_published_the_validation_part_is_scored_against_the_first_training_ratings():
    found = examples.validation_reviews(Config("multiclass", validation_ratings="misaligned"), DATASET, SPLITS)
    assert found.rows[:, 0].tolist() == SPLITS.validation.tolist()
    assert found.ratings[:, 0].tolist() == RATINGS[SPLITS.train[: len(SPLITS.validation)]].tolist()


def test_comparisons_keep_the_ratings_that_the_annotators_claim():
    found = examples.compared_reviews(Config("multiclass"), FEEDBACK, PROBABILITIES, torch.device("cpu"))
    assert found.rows.tolist() == LISTS.tolist()
    assert found.ratings.tolist() == FEEDBACK.ratings.tolist()
    assert found.reference is None


def test_with_a_kl_penalty_comparisons_have_what_the_model_before_fine_tuning_says():
    config = Config("multiclass", kl_weight=0.5)
    found = examples.compared_reviews(config, FEEDBACK, PROBABILITIES, torch.device("cpu"))
    assert found.reference.dtype == torch.float32
    np.testing.assert_allclose(found.reference.exp().numpy(), PROBABILITIES[LISTS], rtol=1e-6)


def test_with_a_scalar_head_the_reference_of_the_kl_penalty_is_its_output():
    config, output = Config("multiclass", kl_weight=0.5, head="scalar"), np.random.default_rng(2).normal(size=(N, 1))
    found = examples.compared_reviews(config, FEEDBACK, output, torch.device("cpu"))
    assert found.reference.dtype == torch.float32
    np.testing.assert_allclose(found.reference.numpy(), output[LISTS], rtol=1e-6)


def test_a_probability_of_zero_has_a_finite_logarithm():
    assert examples.log_probabilities(np.array([0.0, 1.0])).tolist() == pytest.approx([-87.3365, 0.0])


def test_without_feedback_there_are_no_lists_and_nothing_is_changed():
    feedback = no_feedback(k=3, total=8)
    assert feedback.lists.shape == feedback.ratings.shape == (0, 4)
    assert (feedback.changed, feedback.total, feedback.wrong.shape) == (0, 8, (0, 3))


@pytest.mark.parametrize("part", [VALIDATION, TEST])
def test_where_people_compared_nothing_there_is_nothing_to_score(part):
    other = TEST if part == VALIDATION else VALIDATION
    better, worse = {VALIDATION: SPLITS.validation, TEST: SPLITS.test}[other][:2, None]
    one = Judgements("", Path(), "", [], better, worse, np.zeros(1, dtype=int), None, [], None)
    judged = replace(DATASET, judgements=one)
    assert examples.comparisons_to_score(DATASET, SPLITS, part) is None
    assert examples.comparisons_to_score(judged, SPLITS, part) is None
    assert examples.comparisons_to_score(judged, SPLITS, other).tolist() == [[*better, *worse]]
