"""Random numbers: one independent generator per purpose, derived from the seed."""

import numpy as np

# Each stream has its own generator, so drawing more from one leaves the others unchanged. Append only: the place
# in this list is part of the seed.
RNG_STREAMS = (
    "split",
    "initial weights",
    "training batches",
    "noise",
    "comparisons",
    "fine-tuning batches",
    "calibration",
    "cross-fitting",
    "text effects",
)


def rng_for(seed: int, stream: str) -> np.random.Generator:
    """The generator of one stream of one run."""
    return np.random.default_rng([seed, RNG_STREAMS.index(stream)])
