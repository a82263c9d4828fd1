"""Which embeddings a command uses, on which device, and what is said of where they come from."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import (
    choose_device,
    load_embeddings,
    split_of,
)
from noisy_feedback.data.reviews import read_reviews
from noisy_feedback.rng import rng_for
from tests.conftest import pooled, write_separable


@pytest.fixture
def place(tmp_path, tiny_encoder):
    """Reviews with an `embeddings.pt`, and the configuration of a run on them with the tiny encoder."""
    file = write_separable(tmp_path / "data", [1, 2, 3, 4, 5] * 8)
    return SimpleNamespace(
        folder=file.parent,
        reviews=read_reviews(file),
        given=torch.load(file.parent / "embeddings.pt"),
        config=Config("multiclass", path=file, model_name=str(tiny_encoder)),
        given_only=Config("multiclass", path=file, model_name=str(tiny_encoder), pc=True),
    )


def load(place, config, sha256=None):
    return load_embeddings(config, place.reviews.texts, place.folder, "cpu", iter, sha256)


# --- the four parts


def test_parts_follow_the_file_or_the_seeds_permutation_and_hold_every_row_once():
    for seed in (None, 1, 3):
        options = {} if seed is None else {"shuffle": True, "seed": seed}
        parts = list(split_of(Config("multiclass", **options), 50).by_name().values())
        expected = np.arange(50) if seed is None else rng_for(seed, "split").permutation(50)
        assert (np.concatenate(parts) == expected).all()
        assert [len(part) for part in parts] == [20, 5, 20, 5]


# --- embeddings


def test_new_texts_are_embedded_and_stored_and_the_screen_says_which(place, tmp_path):
    for folder, more in ((tmp_path / "store", {"embeddings": tmp_path / "store"}), (place.folder / "embeddings", {})):
        config = replace(place.config, pooling="cls", **more)
        embeddings, how = load(place, config)
        assert how == "computed now"
        assert torch.allclose(embeddings.vectors, pooled(config.model_name, place.reviews.texts, "cls"), atol=1e-5)
        again, how = load(place, config)
        assert how == (f"stored in {folder}" if more else "stored beside the data")
        assert torch.equal(again.vectors, embeddings.vectors)
        assert list(folder.glob("*/*.safetensors"))
    place.reviews.texts[3] += " more"
    assert load(place, config)[1] == "1 of 40 computed now"


def test_given_embeddings_are_used_when_asked_for_unless_some_are_stored(place):
    embeddings, how = load(place, place.given_only)
    assert how == f"read from {place.folder / 'embeddings.pt'}"
    assert torch.equal(embeddings.vectors, place.given)
    assert (embeddings.info.model, embeddings.info.pooling) == ("embeddings.pt", None)
    stored, _ = load(place, place.config)
    embeddings, how = load(place, place.given_only)
    assert torch.equal(embeddings.vectors, stored.vectors)
    assert how == "stored beside the data (not embeddings.pt: remove embeddings/ to use it)"


# --- devices


def test_the_cpu_is_the_default_and_used_where_there_is_no_gpu_which_is_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(Config("multiclass")) == "cpu"
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(Config("multiclass", use_cuda=True)) == "cpu"
    assert capsys.readouterr().out == "no GPU found: running on the CPU\n"
