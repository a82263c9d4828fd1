"""Read all data of a command and check it, before the long work."""

from collections.abc import Sequence

import numpy as np
import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset, choose_device, load_embeddings, make_dataset, split_of
from noisy_feedback.data.reviews import Reviews, find_reviews, read_reviews, warn_about
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.noise import RatedReviews
from noisy_feedback.feedback.simulate import (
    build_comparisons,
    corrupt_ratings,
    find_function,
    has_comparison,
    simulate_feedback,
)
from noisy_feedback.learning import losses
from noisy_feedback.learning.objective import fine_tuning_objective, flip_rate_parameters
from noisy_feedback.output import console
from noisy_feedback.rng import rng_for


def prepare(runs: Sequence[Config], embeddings_sha256: str | None = None) -> Dataset:
    """Read the reviews and get their embeddings. What can go wrong is found before the long work."""
    config = runs[0]
    device = choose_device(config)
    reviews = load_reviews(config)
    splits = split_of(config, len(reviews.ratings))
    print(console.reviews(reviews, splits))
    for warning in warn_about(reviews, splits, config.shuffle):
        print(f"warning    {warning}")
    if config.epochs_f:
        check_feedback(runs, reviews)
    embeddings, how = load_embeddings(config, reviews, device, console.embedding_bar, embeddings_sha256)
    print(console.embeddings(embeddings, how))
    return make_dataset(reviews, embeddings, device)


def load_reviews(config: Config) -> Reviews:
    file = find_reviews(config.path)
    if config.path.is_dir():
        print(console.file_choice(config.path, file))
    return read_reviews(file, config.text_column, config.rating_column, config.drop_empty, config.drop_duplicates)


def check_feedback(runs: Sequence[Config], reviews: Reviews) -> None:
    """Refuse runs whose noisy ratings allow no comparison, or whose loss cannot learn from them, before the long work.

    Noise is tried with equal confidence and embeddings, since there is neither a model nor embeddings yet. A kind of
    one's own that fails on these is tried again when it is used.
    """
    if runs[0].flip_rate is not None and not any(flip_rate_parameters(run.loss) for run in runs):
        raise InputError(f"--flip-rate: --loss {runs[0].loss} takes none; leave it out, or give a loss that does")
    for config in runs:
        if not flip_rate_parameters(config.loss):  # one of the user's own may be wrong
            outputs = 1 if config.head == "scalar" else len(reviews.scale)
            losses.check_loss(config.loss, find_function(losses, "loss", config.loss), config.k, outputs)
        if config.noise != "reversed" and config.noise not in noise.TRANSITION_MATRICES:
            continue
        splits = split_of(config, len(reviews.ratings))
        ratings = reviews.ratings[splits.fine_tuning]
        texts = [reviews.texts[row] for row in splits.fine_tuning]
        equal = torch.zeros(len(ratings), 1), np.zeros(len(ratings))
        rated = RatedReviews(ratings, len(reviews.scale), texts, *equal)
        try:
            noisy = corrupt_ratings(config, rated, rng_for(config.seed, "noise"))
        except InputError:
            continue
        try:
            if not has_comparison(config, noisy, reviews.scale):
                build_comparisons(config, noisy, reviews.scale, rng_for(config.seed, "comparisons"))  # says why
            if flip_rate_parameters(config.loss):
                priors = np.bincount(reviews.ratings[splits.train], minlength=len(reviews.scale)) / len(splits.train)
                fine_tuning_objective(config, simulate_feedback(config, rated, reviews.scale), priors)
        except InputError as error:
            where = f" (seed {config.seed}, {config.noise} noise, ratio {config.ratio:g})" if len(runs) > 1 else ""
            raise InputError(f"{error}{where}") from None
