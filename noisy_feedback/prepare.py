"""Read all data of a command and check it, before anything expensive runs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from noisy_feedback.config import ESTIMATED, Config
from noisy_feedback.data import dataset as data
from noisy_feedback.data.preferences import Judgements, read_judgements
from noisy_feedback.data.reviews import Reviews, class_priors, find_reviews, read_reviews, warn_about
from noisy_feedback.data.truncation import find_alike
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import comparisons, human, noise
from noisy_feedback.files import check_writable
from noisy_feedback.learning.losses import LOSS_FUNCTIONS
from noisy_feedback.learning.objective import check_loss, fine_tuning_objective
from noisy_feedback.output import console
from noisy_feedback.output.feedback_tables import check_export


def prepare(runs: Sequence[Config], embeddings_sha256: str | None = None) -> data.Dataset:
    """Read the reviews and get their embeddings. What can go wrong is found before anything expensive runs."""
    config = runs[0]
    check_writable(config.output / (config.name or ""))
    device = data.choose_device(config)
    file = None if config.path is None else find_reviews(config.path)
    if config.export is not None:
        inputs = [each for each in (file, config.comparisons, config.texts) if each is not None]
        check_export(config.export, inputs)
        if not config.epochs_f:
            raise InputError("--export: with --epochs-f 0 there are no comparisons to write; leave out one of them")
    if config.path is not None and file not in (None, config.path):
        print(console.file_choice(config.path, file))
    reviews, judgements = read_data(config, file)
    texts = reviews.texts + (judgements.texts if judgements else [])
    if judgements is not None:
        config, judgements = without_alike(config, texts, reviews.folder, judgements, device)
    splits = data.split_of(config, len(reviews.ratings), reviews.groups, judgements)
    if file is not None:
        print(console.reviews(reviews, splits))
    if judgements is not None:
        print(console.judgements(judgements, splits))
    if config.epochs_f:
        if isinstance(config.flip_rate, float) and not any(LOSS_FUNCTIONS[run.loss].parameter for run in runs):
            raise InputError(f"--flip-rate: --loss {config.loss} takes none; leave it out, or give a loss that does")
        ratios = sorted(run.ratio for run in runs)  # what fails between the lowest and the highest fails at one of them
        for run in (run for run in runs if run.ratio in (ratios[0], ratios[-1])):
            try:
                check_feedback(run, reviews, judgements)
            except InputError as error:
                where = f"seed {run.seed}, labels {run.labels}, {run.noise} noise, ratio {run.ratio:g}"
                raise InputError(f"{error} ({where})" if len(runs) > 1 else str(error)) from None
    for warning in warn_about(reviews, splits, config.shuffle) if file else ():
        print(f"warning    {warning}")
    found = data.load_embeddings(config, texts, reviews.folder, device, console.embedding_bar, embeddings_sha256)
    print(console.embeddings(*found))
    return data.make_dataset(reviews, found[0], device, judgements)


def read_data(config: Config, file: Path | None) -> tuple[Reviews, Judgements | None]:
    """The reviews of `file`, and human comparisons; without reviews, the texts of the comparisons take their place."""
    known: list[str] = []
    if file is not None:
        columns = config.text_column, config.rating_column, config.group_column
        reviews = read_reviews(file, *columns, config.drop_empty, config.drop_unrated, config.drop_duplicates)
        known = reviews.texts
    if config.comparisons is None:
        return reviews, None
    names = {role: getattr(config, f"{role}_column") for role in ("chosen", "rejected", "prompt", "annotator")}
    names["group"] = config.group_column if file is None else None
    judgements = read_judgements(config.comparisons, known, names, config.texts, config.drop_invalid)
    if file is not None:
        return reviews, judgements
    texts = judgements.texts
    unrated = np.full(len(texts), -1), np.empty(0, dtype=np.int64)
    alone = Reviews(judgements.name, judgements.folder, judgements.sha256, texts, *unrated)
    return alone, replace(judgements, texts=[])


def without_alike(
    config: Config, texts: list[str], place: Path, judgements: Judgements, device: str
) -> tuple[Config, Judgements]:
    """Choose the side at which texts are cut, and leave out the comparisons whose texts become the same.

    Of conversations it is the side that keeps more apart. Errors: InputError where no comparison remains.
    """
    _, rows, pairs = np.unique(judgements.pairs, return_index=True, return_inverse=True)
    sides = np.stack([judgements.chosen[rows], judgements.rejected[rows]])
    alike = {}
    for truncate in (config.truncate,) if config.truncate else ("right", "left")[: 1 + judgements.conversations]:
        cut = replace(config, truncate=truncate)
        with suppress(InputError):  # no stored vectors of this side, or no such tokenizer
            stored = partial(data.load_embeddings, cut, texts, place, device, iter) if config.pc else None
            alike[truncate] = find_alike(texts, sides, data.encoder_of(cut), stored)[pairs]
    if not alike:
        return config, judgements  # the reason is found again where the texts are embedded
    truncate = min(alike, key=lambda side: alike[side].sum())
    if alike[truncate].all():
        other = "left" if truncate == "right" else "right"
        raise InputError(
            f"{judgements.name}: the encoder cuts the two texts of every comparison to the same; --truncate {other} "
            "keeps the other end of them, another --model_name may read more"
        )
    return replace(config, truncate=truncate), judgements.without(alike[truncate])


def check_feedback(config: Config, reviews: Reviews, judgements: Judgements | None) -> None:
    """Refuse a run without comparisons, or whose loss cannot learn from them.

    Noise is tried with equal confidence and embeddings, since there is neither a model nor embeddings yet. A custom
    noise function that fails here is tried again when it is used.
    """
    splits = data.split_of(config, len(reviews.ratings), reviews.groups, judgements)
    rows, scale = splits.fine_tuning, reviews.scale
    loss = LOSS_FUNCTIONS[config.loss]
    if not loss.parameter:
        check_loss(config.loss, loss.function, config.k, 1 if config.head == "scalar" else len(scale))
    if judgements is not None:
        feedback = human.feedback(config, judgements, splits, reviews.ratings)
        if config.loss == "study" and (unrated := (feedback.ratings[:, 0] < 0)).any():
            raise InputError(
                f"--loss study needs the rating of the chosen text, and {unrated.sum():,} chosen texts are not "
                "among the reviews; give another loss"
            )
        return
    texts, equal = [reviews.texts[row] for row in rows], (torch.zeros(len(rows), 1), np.zeros(len(rows)))
    try:
        noisy = noise.make_noisy(config, noise.RatedReviews(reviews.ratings[rows], len(scale), texts, *equal))
    except InputError:
        return
    feedback = comparisons.compare(config, noisy, reviews.ratings, rows, scale)
    if loss.parameter and config.flip_rate != ESTIMATED:
        fine_tuning_objective(config, feedback, class_priors(reviews.ratings[splits.train], len(scale)))
