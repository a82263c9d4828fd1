"""Which comparisons are of two texts that an encoder cannot tell apart, since it cuts off all that differs."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from noisy_feedback.data.embeddings import Embeddings
from noisy_feedback.data.encoder import Encoder, count_tokens, load_encoder

SHORTEST_LIMIT = 32  # tokens, and a token is a byte at least: no encoder reads less
ROUNDING = 1e-5  # share of its largest number by which a vector may differ from that of the same tokens


def find_alike(
    texts: Sequence[str], sides: np.ndarray, encoder: Encoder, stored: Callable[[], tuple[Embeddings, str]] | None
) -> np.ndarray:
    """Whether two texts, numbered by `sides` (2, J), become the same when the encoder cuts them (J,).

    By their tokens, or by `stored` embeddings of all texts, whose vectors then differ by rounding alone. What both
    texts begin (or end) with must fill what the encoder reads, so that most texts need not be tokenised, and the
    encoder not be loaded.
    """
    first, second = ([texts[text] for text in side] for side in sides)
    shared = [shared_part(*pair, encoder.truncate) for pair in zip(first, second, strict=True)]
    sizes = np.array([len(text.encode()) for text in shared])
    alike = np.zeros(len(first), dtype=bool)
    if not (sizes >= SHORTEST_LIMIT).any():
        return alike
    if stored is not None:
        found, _ = stored()
        one, other = (found.vectors[side] for side in sides)
        same = (one - other).abs().amax(1) <= ROUNDING * one.abs().amax(1)
        return same.numpy() & (sizes >= (found.max_tokens or SHORTEST_LIMIT) - 2)  # two tokens mark start and end
    model = load_encoder(encoder, "cpu")
    limit = model.max_seq_length
    if limit and callable(model.tokenizer):
        rows = np.flatnonzero(sizes >= limit - 2)
        rows = rows[count_tokens(model, [shared[row] for row in rows])[0] >= limit]
        for row in map(int, rows):  # few are left, and a token may be cut where the texts begin to differ
            one, other = model.tokenizer([first[row], second[row]], truncation=True, max_length=limit)["input_ids"]
            alike[row] = one == other
    return alike


def shared_part(first: str, second: str, truncate: str) -> str:
    """What both texts begin with, or end with where the encoder cuts on the left."""
    if truncate == "left":
        return shared_part(first[::-1], second[::-1], "right")[::-1]
    places = range(min(len(first), len(second)))
    return first[: bisect_left(places, True, key=lambda place: first[: place + 1] != second[: place + 1])]
