from itertools import product

import numpy as np
import pytest

from noisy_feedback.config import MAX_SEED
from noisy_feedback.rng import RNG_STREAMS, rng_for


def numbers(seed, stream):
    return tuple(rng_for(seed, stream).random(4))


def test_a_stream_gives_the_same_numbers_every_time():
    assert numbers(84, "noise") == numbers(84, "noise")


def test_no_two_streams_and_no_two_seeds_share_numbers():
    seeds = (0, 1, 2, 21, 42, 84, MAX_SEED - 1)
    assert len({numbers(seed, stream) for seed, stream in product(seeds, RNG_STREAMS)}) == len(seeds) * len(RNG_STREAMS)


def test_the_streams_keep_their_places():
    # A place is part of the seed: to move a stream changes every number. New ones may follow.
    known = (
        "split",
        "initial weights",
        "training batches",
        "noise",
        "comparisons",
        "fine-tuning batches",
        "calibration",
    )
    assert RNG_STREAMS[: len(known)] == known
    assert rng_for(7, "comparisons").random() == np.random.default_rng([7, 4]).random()


def test_from_the_largest_seed_on_two_seeds_can_share_numbers():
    assert numbers(MAX_SEED, "split") == numbers(0, "initial weights")


def test_a_stream_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="tuple"):
        rng_for(0, "coffee")
