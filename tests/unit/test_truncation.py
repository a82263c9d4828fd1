"""Comparisons whose texts become the same when the encoder cuts them are found, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from noisy_feedback.data import truncation
from noisy_feedback.data.embeddings import embed
from noisy_feedback.data.encoder import find_encoder
from noisy_feedback.data.truncation import find_alike

LIMIT = 64  # tokens of the tiny encoder, of which two mark the start and the end


@pytest.fixture(params=["right", "left"])
def encoder(request, tiny_encoder):
    return replace(find_encoder(str(tiny_encoder), "mean"), truncate=request.param)


@pytest.fixture(scope="module")
def pairs():
    """Texts that share about as many tokens as the encoder reads, then differ within a word or at its end."""
    rng = np.random.default_rng(0)
    first, second = [], []
    for shared in [*range(LIMIT - 6, LIMIT + 3), 10, 200]:
        for joint in (" ", ""):
            common = " ".join(rng.choice(list("abcdefgh"), size=shared))
            first.append(common + joint + "xyz" * rng.integers(1, 30))
            second.append(common + joint + "uvw ")
            first.append("xyz" * rng.integers(1, 30) + joint + common)
            second.append("uvw" + joint + common)
    return first, second


def tokens(folder, text, truncate):
    """All tokens but the two at the ends, cut by hand."""
    from transformers import AutoTokenizer

    every = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    return every[: LIMIT - 2] if truncate == "right" else every[-(LIMIT - 2) :]


def alike(pairs, encoder, stored=None):
    """For each pair whether its texts become the same."""
    first, second = pairs
    numbers = np.arange(2 * len(first)).reshape(2, -1)
    return find_alike([*first, *second], numbers, encoder, stored).tolist()


def test_texts_are_alike_where_their_tokens_cut_by_hand_are_equal(encoder, pairs):
    first, second = ([tokens(encoder.folder, text, encoder.truncate) for text in texts] for texts in pairs)
    expected = [one == other for one, other in zip(first, second, strict=True)]
    assert 4 < sum(expected) < len(expected) - 4
    assert alike(pairs, encoder) == expected


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_stored_vectors_find_the_same(encoder, pairs, tmp_path, limit):
    texts = [*pairs[0], *pairs[1]]
    found = replace(embed(texts, encoder, tmp_path, "cpu"), max_tokens=limit)
    assert alike(pairs, encoder, lambda: (found, "")) == alike(pairs, encoder)


def test_the_encoder_is_not_loaded_where_texts_share_little(encoder, monkeypatch):
    monkeypatch.setattr(truncation, "load_encoder", None)
    assert alike((["a " * 99, "b" * 20], ["c" + "a " * 98 + "d", "b" * 20 + "c"]), encoder) == [False, False]
