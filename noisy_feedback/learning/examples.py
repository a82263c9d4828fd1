"""What a model learns from and what it is scored on: rows of the embeddings, with ratings or in pairs."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.splits import TRAINING, VALIDATION, Splits
from noisy_feedback.feedback import human
from noisy_feedback.feedback.comparisons import Feedback


@dataclass(frozen=True)
class Examples:
    """Lists of g reviews; in training on ratings, lists of one.

    `rows` (n, g) are rows of the embeddings, `ratings` (n, g) their classes, `reference` (n, g, C) the
    log-probabilities of the model before fine-tuning, or its outputs (n, g, 1), where the objective has a KL penalty.
    """

    rows: np.ndarray
    ratings: np.ndarray
    reference: Tensor | None = None


@dataclass(frozen=True)
class Validation:
    """What a model is scored on after every epoch: reviews with ratings, comparisons, or both.

    `rows` (m,) are rows of the embeddings, `ratings` (m,) their classes, which stand for `scale` (C,) stars;
    `comparisons` (V, 2) are rows, the better text first.
    """

    rows: np.ndarray
    ratings: np.ndarray
    scale: np.ndarray
    comparisons: np.ndarray


def training_part(dataset: Dataset, splits: Splits) -> Examples:
    """The training part: reviews with their ratings, or without ratings the judgements of its pairs."""
    if dataset.judgements is None or dataset.is_rated:
        return single_reviews(dataset, splits.train)
    found = human.feedback_of(dataset.judgements, np.flatnonzero(splits.judgements == TRAINING))
    return Examples(found.lists, found.ratings)


def single_reviews(dataset: Dataset, rows: np.ndarray) -> Examples:
    """Reviews with their true ratings, as lists of one."""
    return Examples(rows[:, None], dataset.ratings[rows][:, None])


def validation_part(config: Config, dataset: Dataset, splits: Splits) -> Validation:
    """The validation part, with its ratings, or as published with those of the first training reviews."""
    comparisons = human.comparisons_to_score(dataset.judgements, splits, VALIDATION)
    rated = splits.validation if config.validation_ratings == "own" else splits.train[: len(splits.validation)]
    return Validation(splits.validation, dataset.ratings[rated], dataset.scale, comparisons)


def compared_reviews(config: Config, feedback: Feedback, output: np.ndarray, device: torch.device) -> Examples:
    """The comparisons; with a KL penalty also what the model before fine-tuning says: `output` (n, C) or (n, 1)."""
    if not config.kl_weight:
        return Examples(feedback.lists, feedback.ratings)
    before = output[feedback.lists]
    if config.head != "scalar":  # finite where a probability is 0, in single precision: log 0 times 0 would be NaN
        before = np.log(before.clip(min=np.finfo(np.float32).tiny))
    return Examples(feedback.lists, feedback.ratings, torch.from_numpy(before).float().to(device))
