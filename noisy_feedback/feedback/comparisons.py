"""What fine-tuning learns from, and how each protocol makes it from ratings: lists of row numbers, best first.

To add a protocol, write a function and add it to BUILDERS.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.rng import rng_for

GAP = 3  # stars between the reviews of a selective pair: 1 against 4, 2 against 5
CALIBRATION_DRAWS = 10  # each uses every review once at most


@dataclass(frozen=True)
class Feedback:
    """The comparisons of one run, as its annotators give them.

    `lists` (L, k+1) are numbers of texts, best first; `ratings` (L, k+1) the classes that the annotators claim, or -1.
    `changed` of `total` ratings are noisy; with `reversed` noise, as many lists are reversed. `flipped` (L, k) says of
    adjacent items in a list whether their order is wrong: 1, 0, a half where the two are truly alike, or NaN where the
    truth is not known. Of human judgements `pairs` (L,) numbers the pairs of texts and `annotators` (L,) who judged
    them; of `ties` pairs there is no comparison, since as many judgements say one order as the other. `judged` holds
    all judgements, where the comparisons are one order a pair.
    """

    lists: np.ndarray
    ratings: np.ndarray
    changed: int
    total: int
    flipped: np.ndarray
    pairs: np.ndarray | None = None
    annotators: np.ndarray | None = None
    ties: int = 0
    judged: "Feedback | None" = None

    def subset(self, which: np.ndarray) -> "Feedback":
        """The lists at `which` alone."""
        chosen: dict[str, Any] = {
            name: rows[which] for name, rows in vars(self).items() if isinstance(rows, np.ndarray)
        }
        return replace(self, total=len(which), **chosen)

    def reverse(self, which: np.ndarray) -> "Feedback":
        """The same ratings are claimed of the lists at `which` in reversed order; no judgement behind them says so."""
        lists, flipped = self.lists.copy(), self.flipped.copy()
        lists[which] = lists[which, ::-1]
        flipped[which] = 1 - flipped[which, ::-1]
        return replace(self, lists=lists, flipped=flipped, judged=None if len(which) else self.judged)

    def reverse_share(self, ratio: float, rng: np.random.Generator) -> "Feedback":
        """The noise `reversed`: a share of the lists, drawn at random, in reversed order."""
        count = len(self.lists)
        chosen = rng.permutation(count)[: round(ratio * count)]
        return replace(self.reverse(chosen), changed=len(chosen), total=count)


def adjacent_pairs(lists: np.ndarray) -> np.ndarray:
    """Every two adjacent items (L * k, 2) of lists (L, k+1)."""
    return sliding_window_view(lists, 2, axis=1).reshape(-1, 2)


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
    return found.reverse_share(config.ratio, rng_for(config.seed, "noise"))


def build_comparisons(config: Config, ratings: np.ndarray, scale: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lists (L, k+1) of positions, best rating first; at most `config.lists` of them, drawn at random.

    With `lists_per_review` above 1 they are drawn as often anew, so that a review is in up to so many lists; those
    that are kept are then of all rounds.
    """
    on_scale = np.flatnonzero(ratings >= 0)
    build = BUILDERS[config.protocol]
    rounds = [build(config, ratings[on_scale], scale, rng) for _ in range(config.lists_per_review)]
    found = on_scale[np.concatenate(rounds)]
    if len(rounds) > 1:  # the lists of one round are in random order, but all rounds together are not
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
    return adjacent_pairs(lists)


def build_lists(ratings: np.ndarray, k: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """As many lists of k+1 reviews with pairwise different ratings as there can be, each review at most once.

    `ratings` (n,) in 0..classes-1; returns row numbers (L, k+1), the best rating first, in random order. Where more
    reviews could be used than L lists hold, each of them is as likely to be unused as any other, so that the used ones
    are a fair sample; given these, every way to put them into lists is equally likely. (Then not every largest set of
    lists is.) Takes O(n log n). Errors: InputError for k outside 1..classes-1, or where no list is possible.
    """
    if not 1 <= k < classes:
        raise InputError(
            f"--k {k}: a list needs {k + 1} different ratings, and there are {classes}; k must be 1 to {classes - 1}"
        )
    available = np.bincount(ratings, minlength=classes)
    length = max_lists(available, k + 1)
    if length == 0:
        raise InputError(
            f"--k {k}: no list of {k + 1} different ratings can be made: only "
            f"{np.count_nonzero(available)} occur in the fine-tuning part (--shuffle mixes sorted files)"
        )
    usable = np.minimum(available, length)  # a list holds a rating once
    spare = usable.sum() - (k + 1) * length
    used = usable - rng.multivariate_hypergeometric(usable, spare)
    membership = sample_membership(used, length, rng)
    # From the highest rating down, so that each list comes out best first.
    rating = classes - 1 - np.nonzero(membership[:, ::-1])[1].reshape(length, k + 1)
    result = np.empty_like(rating)
    for c in range(classes):
        rows = rng.permutation(np.flatnonzero(ratings == c))
        result[rating == c] = rows[: used[c]]
    return rng.permutation(result)


def build_pairs(stars: np.ndarray, gap: int, rng: np.random.Generator) -> np.ndarray:
    """As many pairs of reviews exactly `gap` stars apart as there can be, each review at most once.

    `stars` (n,) are ratings; returns row numbers (L, 2), the better first. The study's *selective* pairs: 1 star
    against 4, and 2 against 5. Errors: InputError where there is none.
    """
    rows_of = {int(star): rng.permutation(np.flatnonzero(stars == star)) for star in np.unique(stars)}
    found = []
    for star in sorted(rows_of):
        if star + gap in rows_of:
            better, worse = rows_of[star + gap], rows_of[star]
            count = min(len(better), len(worse))
            found.append(np.stack([better[:count], worse[:count]], axis=1))
            rows_of[star + gap] = better[count:]  # on scales of more than 2 * gap stars a rating meets two others
    if not sum(map(len, found)):
        raise InputError(
            f"no pair of ratings exactly {gap} stars apart in the fine-tuning part: it has "
            f"{', '.join(map(str, sorted(rows_of)))} (--shuffle mixes sorted files; multiclass compares any ratings)"
        )
    return rng.permutation(np.concatenate(found))


def max_lists(available: np.ndarray, size: int) -> int:
    """The largest number of lists of `size` different ratings that `available` (C,) reviews allow.

    L lists are possible if and only if sum_c min(available_c, L) >= size * L: each list holds a rating at most
    once, and dealing out the reviews rating by rating, list after list, then fills all lists.
    """
    lengths = np.arange(available.sum() // size + 1)
    usable = np.minimum(available[:, None], lengths).sum(axis=0)
    return int(lengths[usable >= size * lengths].max())


def sample_membership(used: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Which ratings each list holds: a table (length, C) of booleans, uniform over those with these sums.

    All rows have the same sum, column c sums to `used[c]`. Ratings are dealt out in turn; then, round after round,
    lists form random pairs, and the two lists of a pair redistribute at random the ratings that only one of them holds
    (global curveball trades: Carstens et al. 2018, ESA; uniformity: Carstens 2015, Phys. Rev. E 91, 042812).
    """
    dealt = np.repeat(np.arange(len(used)), used)
    membership = np.zeros((length, len(used)), dtype=bool)
    membership[np.arange(len(dealt)) % length, dealt] = True
    if (used == length).all():
        return membership  # every list holds every rating: there is nothing to trade
    # A rating can reach every list in log2(length) rounds: twice that, and a few more.
    for _ in range(8 + 2 * max(length, 2).bit_length()):
        order = rng.permutation(length)
        first, second = order[: length // 2], order[length // 2 : length // 2 * 2]
        a, b = membership[first], membership[second]
        contested = a ^ b
        # Each list of a pair holds as many contested ratings as the other: the half with the highest
        # random numbers goes to the first.
        keys = np.where(contested, rng.random(contested.shape, dtype=np.float32), -1)
        rank = np.argsort(np.argsort(-keys, axis=1), axis=1)
        to_first = contested & (rank < contested.sum(axis=1, keepdims=True) // 2)
        common = a & b
        membership[first] = common | to_first
        membership[second] = common | (contested & ~to_first)
    return membership


# From ratings (n,), classes 0..C-1, and their stars, the scale (C,): lists (L, k+1) of positions, best first, in random
# order. Errors: InputError where there is none.
Builder = Callable[[Config, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
BUILDERS: dict[str, Builder] = {
    "multiclass": lambda config, ratings, scale, rng: build_lists(ratings, config.k, len(scale), rng),
    "binary": lambda config, ratings, scale, rng: build_pairs(scale[ratings], GAP, rng),
}
BUILDERS["human"] = BUILDERS["multiclass"]  # for its audit's calibration alone
