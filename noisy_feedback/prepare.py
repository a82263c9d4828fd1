"""Read all data of a command and check it, before the long work."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from noisy_feedback.config import ESTIMATED, Config
from noisy_feedback.data.dataset import (
    Dataset,
    choose_device,
    load_embeddings,
    load_text_embeddings,
    make_dataset,
    split_of,
)
from noisy_feedback.data.preferences import Judgements, read_judgements
from noisy_feedback.data.reviews import Reviews, class_priors, find_reviews, read_reviews, warn_about
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise, people
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
from noisy_feedback.output.comparisons import check_export
from noisy_feedback.output.records import check_named_result
from noisy_feedback.rng import rng_for


def prepare(runs: Sequence[Config], embeddings_sha256: str | None = None) -> Dataset:
    """Read the reviews and get their embeddings. What can go wrong is found before the long work."""
    config = runs[0]
    device = choose_device(config)
    if config.export is not None:
        comparisons = [] if config.comparisons is None else [config.comparisons]
        check_export(config.export, [find_reviews(config.path), *comparisons])
        if not config.epochs_f:
            raise InputError("--export: with --epochs-f 0 there are no comparisons to write; leave out one of them")
    reviews = load_reviews(config)
    splits, *_ = [split_of(run, len(reviews.ratings), reviews.groups) for run in one_of_each_seed(runs)]  # or fail
    judgements = None if config.comparisons is None else read_judgements(config.comparisons, reviews.texts)
    check_named_result(config, {"data": reviews.sha256, "judgements": judgements and judgements.sha256})
    print(console.reviews(reviews, splits))
    if judgements is not None:
        print(console.judgements(judgements, people.part_of_judgements(judgements, splits)))
    for warning in warn_about(reviews, splits, config.shuffle):
        print(f"warning    {warning}")
    if config.epochs_f:
        check_flip_rate(runs)
        check_losses(runs, reviews)
        if judgements is None:
            check_simulated_feedback(runs, reviews)
        else:
            check_judged_feedback(runs, reviews, judgements)
    embeddings, how = load_embeddings(config, reviews, device, console.embedding_bar, embeddings_sha256)
    print(console.embeddings(embeddings, how))
    others = None
    if judgements is not None:
        others = load_text_embeddings(config, judgements, embeddings.info, device, console.embedding_bar)
        if others is not None:
            print(console.embeddings(others, f"for the texts of {judgements.name}"))
    return make_dataset(reviews, embeddings, device, judgements, others)


def one_of_each_seed(runs: Sequence[Config]) -> list[Config]:
    """The first run of every seed, in order: the split depends on nothing else that a sweep varies."""
    return list({run.seed: run for run in reversed(runs)}.values())[::-1]


def load_reviews(config: Config) -> Reviews:
    file = find_reviews(config.path)
    if config.path.is_dir():
        print(console.file_choice(config.path, file))
    return read_reviews(
        file, config.text_column, config.rating_column, config.drop_empty, config.drop_duplicates, config.group_column
    )


def check_flip_rate(runs: Sequence[Config]) -> None:
    """Refuse a flip rate that is given to losses that take none."""
    given = isinstance(runs[0].flip_rate, float)
    if given and not any(flip_rate_parameters(run.loss) for run in runs):
        raise InputError(f"--flip-rate: --loss {runs[0].loss} takes none; leave it out, or give a loss that does")


def check_losses(runs: Sequence[Config], reviews: Reviews) -> None:
    """Try every loss on a small example: one of the user's own may be wrong."""
    for run in {run.loss: run for run in runs}.values():
        if not flip_rate_parameters(run.loss):
            outputs = 1 if run.head == "scalar" else len(reviews.scale)
            losses.check_loss(run.loss, find_function(losses, "loss", run.loss), run.k, outputs)


def check_judged_feedback(runs: Sequence[Config], reviews: Reviews, judgements: Judgements) -> None:
    """Refuse runs for which people made no comparison, or none that the loss can learn from."""
    for run in runs:
        with naming_the_run(run, runs):
            feedback = people.feedback(
                run, judgements, split_of(run, len(reviews.ratings), reviews.groups), reviews.ratings
            )
            if run.loss == "study" and (unrated := (feedback.ratings[:, 0] < 0)).any():
                raise InputError(
                    f"--loss study needs the rating of the chosen text, and {unrated.sum():,} chosen texts are not "
                    "among the reviews; give another loss"
                )


def check_simulated_feedback(runs: Sequence[Config], reviews: Reviews) -> None:
    """Refuse runs whose noisy ratings allow no comparison, or whose loss cannot learn from them, before the long work.

    Noise is tried with equal confidence and embeddings, since there is neither a model nor embeddings yet. A kind of
    one's own that fails on these is tried again when it is used.
    """
    for config in runs:
        if config.noise != "reversed" and config.noise not in noise.TRANSITION_MATRICES:
            continue
        splits = split_of(config, len(reviews.ratings), reviews.groups)
        ratings = reviews.ratings[splits.fine_tuning]
        texts = [reviews.texts[row] for row in splits.fine_tuning]
        equal = torch.zeros(len(ratings), 1), np.zeros(len(ratings))
        rated = RatedReviews(ratings, len(reviews.scale), texts, *equal)
        try:
            noisy = corrupt_ratings(config, rated, rng_for(config.seed, "noise"))
        except InputError:
            continue
        with naming_the_run(config, runs):
            if not has_comparison(config, noisy, reviews.scale):
                build_comparisons(config, noisy, reviews.scale, rng_for(config.seed, "comparisons"))  # says why
            if flip_rate_parameters(config.loss) and config.flip_rate != ESTIMATED:
                priors = class_priors(reviews.ratings[splits.train], len(reviews.scale))
                fine_tuning_objective(config, simulate_feedback(config, rated, reviews.scale), priors)


@contextmanager
def naming_the_run(run: Config, runs: Sequence[Config]) -> Iterator[None]:
    """Add to an error which of several runs it is about."""
    try:
        yield
    except InputError as error:
        kind = f"{run.noise} noise" if run.comparisons is None else f"labels {run.labels}"
        where = f" (seed {run.seed}, {kind}, ratio {run.ratio:g})" if len(runs) > 1 else ""
        raise InputError(f"{error}{where}") from None
