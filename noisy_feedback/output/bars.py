"""Progress bars of the long steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm


def embedding_bar(chunks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The chunks, one after the other, under a bar that counts their texts."""
    with tqdm(total=sum(map(len, chunks)), desc="embedding", unit=" texts", leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))


@contextmanager
def epoch_bar(phase: str, epochs: int) -> Iterator[Callable[[], None]]:
    """A bar over the epochs of a phase; yields what to call after each epoch."""
    with tqdm(total=epochs, desc=phase, unit=" epochs", leave=False) as bar:
        yield lambda: bar.update() and None


def print_above_bar(text: str) -> None:
    """Print text without disturbing a bar."""
    tqdm.write(text)
