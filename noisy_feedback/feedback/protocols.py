"""How each protocol makes comparisons from ratings. To add one, write a function and add it to BUILDERS."""

from collections.abc import Callable

import numpy as np

from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.feedback import noise
from noisy_feedback.feedback.comparisons import Feedback, build_lists, build_pairs
from noisy_feedback.rng import rng_for

GAP = 3  # stars between the reviews of a selective pair: 1 against 4, 2 against 5
CALIBRATION_DRAWS = 10  # each uses every review once at most


# From ratings (n,), classes 0..C-1, and their stars, the scale (C,): lists (L, k+1) of positions, best first, in random
# order. Errors: InputError where there is none.
Builder = Callable[[Config, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
BUILDERS: dict[str, Builder] = {
    "multiclass": lambda config, ratings, scale, rng: build_lists(ratings, config.k, len(scale), rng),
    "binary": lambda config, ratings, scale, rng: build_pairs(scale[ratings], GAP, rng),
}
BUILDERS["human"] = BUILDERS["multiclass"]  # for its audit's calibration alone


def compare(config: Config, noisy: np.ndarray, ratings: np.ndarray, rows: np.ndarray, scale: np.ndarray) -> Feedback:
    """The comparisons that follow from the noisy ratings (m,) of the reviews `rows` (m,); their lists hold rows.

    `ratings` (n,) are the true ones of all reviews. With `reversed` noise, `ratio` of the lists are reversed. Errors:
    InputError where no comparison is possible.
    """
    lists = build_comparisons(config, noisy, scale, rng_for(config.seed, "comparisons"))
    wrong = (1 + np.sign(np.diff(ratings[rows[lists]], axis=1))) / 2  # a half where the two are truly alike
    found = Feedback(rows[lists], noisy[lists], int((noisy != ratings[rows]).sum()), len(noisy), wrong)
    if config.noise != "reversed":
        return found
    # The annotator who reverses a list claims that its worst review is the best.
    return noise.reverse_lists(found, config.ratio, rng_for(config.seed, "noise"))


def build_comparisons(config: Config, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lists (L, k+1) of positions, best rating first; at most `config.lists` of them, drawn at random.

    With `lists_per_review` above 1 they are drawn as often anew, so that a review is in up to so many lists; those
    that are kept are then of all rounds.
    """
    on_scale = np.flatnonzero(ratings >= 0)
    build = BUILDERS[config.protocol]
    lists = [on_scale[build(config, ratings[on_scale], scale, rng)] for _ in range(config.lists_per_review)]
    found = np.concatenate(lists)
    if len(lists) > 1:  # the lists of one round are in random order, but all rounds together are not
        found = found[np.sort(rng.permutation(len(found))[: config.lists])]
    found = found[: config.lists]
    return np.sort(found, axis=1) if config.list_order == "row" else found


def known_pairs(config: Config, ratings: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of positions, the better first, that the protocol compares where these ratings (n,) are the truth.

    Drawn CALIBRATION_DRAWS times; none where no comparison is possible.
    """
    rng, build = rng_for(config.seed, "calibration"), BUILDERS[config.protocol]
    try:
        lists = np.concatenate([build(config, ratings, scale, rng) for _ in range(CALIBRATION_DRAWS)])
    except InputError:
        return np.empty((0, 2), dtype=np.int64)
    return np.stack([lists[:, :-1].ravel(), lists[:, 1:].ravel()], axis=1)
