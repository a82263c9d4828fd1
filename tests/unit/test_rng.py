from itertools import product

import numpy as np
import pytest

from noisy_feedback.config import OPTIONS
from noisy_feedback.rng import RNG_STREAMS, rng_for


def test_every_stream_of_every_seed_has_its_own_numbers_and_the_same_every_time():
    seeds = (0, 1, 2, 21, 42, 84, int(OPTIONS["seed"].values.most))
    once, again = ([rng_for(*of).random() for of in product(seeds, RNG_STREAMS)] for _ in range(2))
    assert len(set(once)) == len(once)
    assert once == again


def test_the_streams_keep_their_places_which_are_part_of_the_seed():
    known = "split, initial weights, training batches, noise, comparisons, fine-tuning batches, calibration"
    assert RNG_STREAMS[:7] == tuple(known.split(", "))  # new ones may follow
    assert rng_for(7, "comparisons").random() == np.random.default_rng([7, 4]).random()
    with pytest.raises(ValueError, match="tuple"):
        rng_for(0, "coffee")
