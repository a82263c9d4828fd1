"""`python -m noisy_feedback.reproduce FOLDER`: a result is the same to the last bit, and what differs is reported."""

import json
import re
import shutil
from typing import Any
from unittest import mock

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from noisy_feedback import reproduce
from tests.conftest import only_folder, options, reproduced, run_script, write_overlapping

MAIN, CONFIG = "multiclass/main.py", "multiclass/config.py"

COMMANDS = {  # options of every kind: several values, none, flags, numbers
    "run": (MAIN, ["--k", 2, "--ratio", 0.3, "--seed", 7, "--loss", "label-smoothing", "--shuffle", "--as-published"]),
    "sweep": (CONFIG, ["--k", 2, "--ratio", 0, 0.3, "--seeds", 7, 3, "--loss", "study", "hinge", "--hidden", 8]),
    "binary run": ("binary/main.py", ["--flip-rate", 0.25, "--loss", "robust", "--kl-weight", 1, "--head", "scalar"]),
    "run without fine-tuning": (MAIN, ["--epochs-f", 0, "--name", "mine"]),
}
RUN = [
    "run.json",
    "curves.csv",
    "feedback.csv",
    *(f"model_{stage}.safetensors" for stage in ("before", "best", "last")),
]
SWEEP = ["sweep.json", "runs.csv", "curves.csv", "summary.csv"]
FILES = {name: SWEEP if "sweep" in name else RUN for name in COMMANDS}  # that are compared
FILES["run without fine-tuning"] = ["run.json", "curves.csv", "model_before.safetensors"]


pytestmark = pytest.mark.usefixtures("quick_sweeps")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_overlapping(tmp_path_factory.mktemp("data"), rows=300)


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    """What every command has written. For tests that only read."""
    outputs = {name: tmp_path_factory.mktemp("results") for name in COMMANDS}
    for name, (script, more) in COMMANDS.items():
        run_script(script, options(data, outputs[name], "--epochs-t", 2, "--epochs-f", 2, *more))
    return {name: only_folder(output) for name, output in outputs.items()}


@pytest.fixture
def copy(results, tmp_path):
    """A copy of the run, to be changed."""
    return shutil.copytree(results["run"], tmp_path / "copy")


def refusal(capsys, folder, *more):
    """The one line with which it ends when nothing can be reproduced."""
    assert reproduced(folder, *more, status=2) == ""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m noisy_feedback.reproduce: error: ")
    return line


def change(folder, name="run.json", **changes):
    """Change values of a record; None removes them."""
    content = {**json.loads((folder / name).read_text()), **changes}
    removed = {key for key, value in changes.items() if value is None}
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if key not in removed}))


def compared(screen):
    """What is said of every compared file."""
    return dict(re.findall(r"^(\w+\.\w+) +(.*)$", screen[screen.index("\nreproduced ") :], re.MULTILINE))


def part_of(folder, part, name="run.json"):
    return json.loads((folder / name).read_text())[part]


# --- the same


@pytest.mark.parametrize("name", COMMANDS)
def test_a_result_is_reproduced_to_the_last_bit_and_nothing_is_left(results, tmp_path, name):
    screen = reproduced(results[name], "--output", tmp_path)
    assert compared(screen) == dict.fromkeys(FILES[name], "the same")
    assert screen.splitlines()[-1] == "all files match; temporary results deleted"
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_is_no_full_grid_is_reproduced_beside_the_old_one_and_not_found_in_it(data, tmp_path):
    """Extended by other losses with other seeds."""
    for more in (["--seeds", 1, 2, "--ratio", 0], ["--seeds", 2, "--ratio", 0.3, "--loss", "hinge"]):
        run_script(CONFIG, options(data, tmp_path, *more, "--epochs-t", 2, "--epochs-f", 2))
    folder = only_folder(tmp_path)
    assert len(part_of(folder, "runs", "sweep.json")) == 3
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    screen = reproduced(folder)
    assert "3 runs, 0 kept already" in screen
    assert compared(screen) == dict.fromkeys(SWEEP, "the same")
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_reviews_may_have_moved_and_other_versions_are_named_and_are_no_difference(copy, data, tmp_path, monkeypatch):
    elsewhere = shutil.copytree(data.parent, tmp_path / "elsewhere")
    moved = (elsewhere / data.name).rename(elsewhere / "renamed.csv")
    versions = part_of(copy, "versions")
    encoder = {**part_of(copy, "encoder"), "library": "sentence-transformers 1.0"}
    change(copy, versions={**versions, "numpy": "1.0"}, identity="00000000", encoder=encoder)
    screen = reproduced(copy / "run.json", "--output", tmp_path / "out", "--path", moved)  # may be named itself
    assert f"version    numpy: 1.0 before, {versions['numpy']} now" in screen
    assert compared(screen) == dict.fromkeys(RUN, "the same")
    shutil.copytree(data.parent, tmp_path / "project" / "data")  # a recorded path is that from the script's folder
    (tmp_path / "project" / "multiclass").mkdir()
    monkeypatch.setattr(reproduce, "PROJECT", tmp_path / "project")
    change(copy, path="../data/reviews.csv")
    assert "all files match" in reproduced(copy, "--output", tmp_path / "out")


# --- the embeddings


@pytest.mark.parametrize(("script", "which"), [(MAIN, "stored"), (CONFIG, "given")])
def test_the_recorded_embeddings_are_used_where_there_are_two(tmp_path, tiny_encoder, script, which):
    file = write_overlapping(tmp_path / "data", rows=100)
    few = ["--epochs-t", 2, "--epochs-f", 2, "--model_name", tiny_encoder]
    few += ["--seeds", 1, "--ratio", 0.5] if script == CONFIG else []
    stored, given = tmp_path / "stored", tmp_path / "given"
    run_script(script, options(file, given, *few))
    run_script(script, [part for part in options(file, stored, *few) if part != "--pc"])
    assert len(list((file.parent / "embeddings").glob("*/*.safetensors"))) == 1
    screen = reproduced(only_folder(tmp_path / which), "--output", tmp_path / "out")
    assert "the recorded ones" in screen
    assert compared(screen) == dict.fromkeys(SWEEP if script == CONFIG else RUN, "the same")


# --- differences


def test_a_record_that_differs_in_any_part_is_a_difference_which_is_named(results, tmp_path):
    old, new = results["run"] / "run.json", tmp_path / "run.json"
    record = json.loads(old.read_text())

    def said(**changes):
        new.write_text(json.dumps({**record, **changes}))
        return reproduce.difference(old, new)

    for part in ("model", "sha256", "revision"):
        assert f"(encoder.{part})" in said(encoder={**record["encoder"], part: "another"})
    for part in ("device", "judgements", "seed"):
        assert part in said(**{part: "another"})
    accuracy = record["before"]["accuracy"] + 0.25
    assert said(before={**record["before"], "accuracy": accuracy}).endswith(" (before.accuracy), by at most 0.25")
    assert said(comparisons={"count": 1}).startswith("differs in ")
    assert said(path="elsewhere", data={**record["data"], "name": "another"}) == ""


def change_file(file):
    """Change one number of a result."""
    if file.suffix == ".json":
        change(file.parent, file.name, data={**part_of(file.parent, "data", file.name), "rows": 7})
    elif file.suffix == ".csv":
        first, row, *rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join([first, row.replace("0", "1"), *rows]))
    else:
        with safe_open(file, framework="np") as stored:
            metadata = stored.metadata()
        tensors = load_file(file)
        tensors["0.bias"][3] = np.nextafter(tensors["0.bias"][3], np.float32(9))  # its last bit
        save_file(tensors, file, metadata=metadata)


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_each_file_of_a_result_is_compared(results, tmp_path, kind):
    folder = shutil.copytree(results[kind], tmp_path / "copy")
    for name in FILES[kind]:
        change_file(folder / name)
    screen = reproduced(folder, "--output", tmp_path / "out", status=1)
    assert list(compared(screen)) == FILES[kind]
    assert "the same" not in compared(screen).values()
    (repeated,) = tmp_path.glob("out/reproduce-*/*/")
    assert f"differs    the new results are in {repeated}" in screen
    for name in FILES[kind]:
        assert (repeated / name).read_bytes() == (results[kind] / name).read_bytes(), name


def test_what_a_saved_model_says_of_itself_is_compared(results, tmp_path):
    old, new = results["run"] / "model_best.safetensors", tmp_path / "model_best.safetensors"
    with safe_open(old, framework="np") as stored:
        about = json.loads(stored.metadata()["noisy_feedback"])
    save_file(load_file(old), new, metadata={"noisy_feedback": json.dumps({**about, "scale": [1, 2]})})
    assert reproduce.difference(old, new).endswith(" (scale)")
    new.write_bytes(b"\xff\xfe")
    assert reproduce.difference(old, new).startswith("cannot be compared (")


def test_a_table_that_differs_says_in_how_many_cells_and_by_how_much(tmp_path):
    tables = {
        "a,b\n1,x\n2,\n": "",
        "a,b\n3,y\n2,4\n": "differs in 3 of 4 values (a, b), by at most 2",
        "a,c\n1,x\n2,\n": "differs in 4 of 6 values (b, c)",
        "b,a\nx,1\n,2\n": "differs in its layout",
    }
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text(next(iter(tables)))
    for content, said in tables.items():
        new.write_text(content)
        assert reproduce.difference(old, new) == said
    assert reproduce.difference(tmp_path / "none.csv", old) == "is missing from the old results"
    for content in (b"", b"\xff\xfe", b"a,b\n1,x,9\n2,,9,9\n"):  # and what cannot be read
        new.write_bytes(content)
        assert reproduce.difference(old, new)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_repetition_that_fails_leaves_nothing(copy, tmp_path, monkeypatch, error):
    monkeypatch.setattr("noisy_feedback.experiment.train_model", mock.Mock(side_effect=error))
    reproduced(copy, "--output", tmp_path / "out", status=130 if error is KeyboardInterrupt else 2)
    assert not list(tmp_path.glob("out/*"))


# --- what cannot be reproduced


def test_a_folder_without_a_record_is_named(capsys, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        line = refusal(capsys, folder)
        assert f"{folder}: holds neither run.json nor sweep.json; give a folder that a script has written" in line


def test_reviews_that_are_gone_or_have_changed_are_asked_for_before_the_work(capsys, copy, data, tmp_path):
    (tmp_path / "reviews.csv").write_text(data.read_text().replace("review 0,", "review zero,"))
    line = refusal(capsys, copy, "--path", tmp_path / "reviews.csv", "--output", tmp_path / "out")
    assert f"its reviews are not at {tmp_path / 'reviews.csv'}, or have changed" in line
    assert "name the file with --path" in line
    assert not (tmp_path / "out").exists()
    change(copy, path=str(tmp_path / "gone.csv"))
    assert f"are not at {tmp_path / 'gone.csv'}" in refusal(capsys, copy)


DAMAGES: list[Any] = [b"{", b"[]", b"[" * 100_000, b"\xff"]  # in place of the record, or of parts
DAMAGES += [{part: None} for part in ("path", "config", "encoder", "versions")] + [{"config": []}, {"judgements": 3}]
WRONG_OPTIONS = {"k": 9.5, "loss": "$(touch ran)", "seed": "--output=/", "hidden": [0], "unknown": 1}


def test_a_damaged_record_or_one_with_a_value_that_no_option_could_have_given_is_named(capsys, copy, results, tmp_path):
    record, config = (copy / "run.json").read_bytes(), part_of(copy, "config")
    for damage in (*DAMAGES, *({"config": {**config, name: value}} for name, value in WRONG_OPTIONS.items())):
        (copy / "run.json").write_bytes(damage if isinstance(damage, bytes) else record)
        if isinstance(damage, dict):
            change(copy, **damage)
        assert f"{copy / 'run.json'}: damaged, or of another version of this project" in refusal(capsys, copy), damage
    copy = shutil.copytree(results["sweep"], tmp_path / "sweep")
    for runs in ([], [{"seed": 1}], {"seed": 1}, 7):
        change(copy, "sweep.json", runs=runs)
        assert "sweep.json: damaged, or of another version of this project" in refusal(capsys, copy)
