"""Noisy ratings -> lists of row numbers, best first."""

import numpy as np

from noisy_feedback.errors import InputError


def lists(ratings: np.ndarray, k: int, classes: int, generator: np.random.Generator) -> np.ndarray:
    """As many lists of k+1 reviews with pairwise different ratings as there can be, each review at most once.

    `ratings` (n,) in 0..classes-1; returns row numbers (L, k+1), the best rating first. Which reviews of a
    rating are left out, and which ratings meet in a list, is uniform over what a largest set of lists
    allows. Linear in n but for a logarithmic number of rounds of mixing. Errors: InputError for k outside
    1..classes-1, or where not one list is possible.
    """
    if not 1 <= k < classes:
        raise InputError(
            f"--k {k}: a list needs {k + 1} different ratings, and there are {classes}; k must be 1 to {classes - 1}"
        )
    available = np.bincount(ratings, minlength=classes)
    length = most_lists(available, k + 1)
    if length == 0:
        raise InputError(
            f"--k {k}: no list of {k + 1} different ratings can be made: only "
            f"{np.count_nonzero(available)} occur in the fine-tuning part (--shuffle mixes sorted files)"
        )
    usable = np.minimum(available, length)  # a rating fits into a list once
    spare = usable.sum() - (k + 1) * length
    used = usable - generator.multivariate_hypergeometric(usable, spare)
    members = random_members(used, length, k + 1, generator)
    result = np.empty((length, k + 1), dtype=np.int64)
    # From the highest rating down, so that each list is read off best first.
    _, place = np.nonzero(members[:, ::-1])
    rating = (classes - 1 - place).reshape(length, k + 1)
    for c in range(classes):
        rows = generator.permutation(np.flatnonzero(ratings == c))
        result[rating == c] = rows[: used[c]]
    return generator.permutation(result)


def pairs(stars: np.ndarray, gap: int, generator: np.random.Generator) -> np.ndarray:
    """As many pairs of reviews exactly `gap` stars apart as there can be, each review at most once.

    `stars` (n,) are ratings on their scale; returns row numbers (L, 2), the better first. The study's
    *selective* pairs: 1 star against 4, and 2 against 5. Errors: InputError where there is none.
    """
    rows_of = {int(star): generator.permutation(np.flatnonzero(stars == star)) for star in np.unique(stars)}
    found = []
    for star in sorted(rows_of):
        if star + gap in rows_of:
            better, worse = rows_of[star + gap], rows_of[star]
            count = min(len(better), len(worse))
            found.append(np.stack([better[:count], worse[:count]], axis=1))
            rows_of[star + gap] = better[count:]  # on scales of more than 2 * gap stars a rating meets two others
    if not sum(map(len, found)):
        raise InputError(
            f"no pair of ratings exactly {gap} stars apart in the fine-tuning part: "
            f"it has {', '.join(map(str, sorted(rows_of)))} (--shuffle mixes sorted files)"
        )
    return generator.permutation(np.concatenate(found))


def most_lists(available: np.ndarray, size: int) -> int:
    """The largest number of lists of `size` different ratings that `available` (C,) reviews allow.

    L lists are possible if and only if sum_c min(available_c, L) >= size * L: a rating fits into each list
    once, and dealing the ratings out one after the other, list after list, then fills them all.
    """
    low, high = 0, int(available.sum()) // size
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(available, middle).sum() >= size * middle:
            low = middle
        else:
            high = middle - 1
    return low


def random_members(used: np.ndarray, length: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Which ratings each list holds: a table (length, C) of booleans, uniform over those with these sums.

    Each row sums to `size`, column c to `used[c]`. Lists are dealt out in turn; then, round after round,
    lists meet in random pairs and share out anew, at random, the ratings that only one of the two holds
    (global curveball trades: Carstens et al. 2018, "Parallel and I/O-efficient randomisation of massive
    networks using Global Curveball Trades", ESA; uniformity: Carstens 2015, Phys. Rev. E 91, 042812).
    """
    dealt = np.repeat(np.arange(len(used)), used)
    members = np.zeros((length, len(used)), dtype=bool)
    members[np.arange(len(dealt)) % length, dealt] = True
    if size == len(used):
        return members  # every list holds every rating: nothing to trade
    for _ in range(mixing_rounds(length)):
        order = generator.permutation(length)
        first, second = order[: length // 2], order[length // 2 : length // 2 * 2]
        a, b = members[first], members[second]
        contested = a ^ b
        # Each list of a pair holds as many contested ratings as the other: the half with the highest
        # random numbers goes to the first.
        keys = np.where(contested, generator.random(contested.shape, dtype=np.float32), -1)
        rank = np.argsort(np.argsort(-keys, axis=1), axis=1)
        to_first = contested & (rank < contested.sum(axis=1, keepdims=True) // 2)
        common = a & b
        members[first] = common | to_first
        members[second] = common | (contested & ~to_first)
    return members


def mixing_rounds(length: int) -> int:
    """Rounds of trades: information about a list reaches all others in log2(length) rounds; twice that, and some."""
    return 8 + 2 * max(length, 2).bit_length()
