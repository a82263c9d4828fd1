"""Progress bars of the long steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

print_above_bar = tqdm.write  # without disturbing a bar


def embedding_bar(chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks, one after the other, under a bar that counts their texts."""
    with tqdm(total=sum(map(len, chunks)), desc="embedding", unit=" texts", leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


@contextmanager
def epoch_bar(phase: str, epochs: int) -> Iterator[tqdm]:
    """A bar over the epochs of a phase; its `update` is to be called after each. It ends where none was run, too."""
    with tqdm(total=epochs, desc=phase, unit=" epochs", leave=False) as bar:
        yield bar
        bar.update(epochs - bar.n)
