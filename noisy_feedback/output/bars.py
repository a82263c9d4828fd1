"""Progress bars of the long steps."""

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

print_above_bar = tqdm.write  # without disturbing a bar


def embedding_bar(chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks, one after the other, under a bar that counts their texts."""
    with tqdm(total=sum(map(len, chunks)), desc="embedding", unit=" texts", leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


def epoch_bar(phase: str, epochs: int) -> tqdm:
    """A bar over the epochs of a phase; its `update` is to be called after each."""
    return tqdm(total=epochs, desc=phase, unit=" epochs", leave=False)
