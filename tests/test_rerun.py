"""--rerun: a folder made again is the same to the last bit; what differs is told; nothing is left behind."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.conftest import arguments, run

MAIN, CONFIG = "multiclass/main.py", "multiclass/config.py"
# Options of every kind: several values, none, flags, a number that is left out, defaults that differ.
OF_A_RUN = ["--k", 2, "--ratio", 0.3, "--seed", 7, "--loss", "conservative", "--shuffle", "--as-published", "labels"]
OF_A_SWEEP = ["--k", 2, "--ratio", 0, 0.3, "--seeds", 7, 3, "--loss", "study", "sigmoid", "--anchor", 0, 0.5]
COMMANDS = {
    "run": (MAIN, OF_A_RUN),
    "sweep": (CONFIG, OF_A_SWEEP),
    "binary run": ("binary/main.py", ["--flip-rate", 0.25, "--loss", "unbiased"]),
    "binary sweep": ("binary/config.py", ["--seeds", 1, 2, "--noise", "pairs", "adjacent", "--head", "categorical"]),
}


@pytest.fixture(scope="module")
def made(planted_data, tmp_path_factory):
    """What every command has left."""
    outputs = {name: tmp_path_factory.mktemp("made") for name in COMMANDS}
    for name, (script, more) in COMMANDS.items():
        run(script, arguments(planted_data, outputs[name], *more, epochs=("2", "2")))
    return {name: next(output.iterdir()) for name, output in outputs.items()}


@pytest.fixture
def copy(made, tmp_path):
    """A copy of what the run left, to be changed."""
    return shutil.copytree(made["run"], tmp_path / "copy")


def rerun(script, folder, output, *more, status=0):
    return run(script, ["--rerun", str(folder), "--output", str(output), *map(str, more)], status)


def change(folder, name="run.json", **changes):
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_made_again_is_the_same_and_leaves_nothing(made, tmp_path, name):
    script, _ = COMMANDS[name]
    said = rerun(script, made[name], tmp_path).splitlines()
    *compared, last = said[said.index(f"made again {made[name]}") + 1 :]
    assert len(compared) == (3 if script.endswith("main.py") else 4)
    assert all(line.endswith("the same") for line in compared)
    assert last == "nothing differs; what was made now is removed again"
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_computed_anew_not_found_beside_the_old_one(made):
    assert "16 runs, of which 0 are kept already" in rerun(CONFIG, made["sweep"], made["sweep"].parent)


def test_reviews_that_have_moved_are_named_with_path(made, planted_data, tmp_path):
    elsewhere = shutil.copytree(planted_data.parent, tmp_path / "elsewhere") / planted_data.name
    assert rerun(MAIN, made["run"], tmp_path / "out", "--path", elsewhere).count("the same") == 3


def test_a_number_that_differs_is_told_with_its_place_and_what_was_made_now_is_kept(copy, tmp_path):
    before = json.loads((copy / "run.json").read_text())["before"]
    accuracy = before["accuracy"]
    change(copy, before={**before, "accuracy": 0.123})
    said = rerun(MAIN, copy, tmp_path / "out", status=1)
    assert f"1 of {said.split(' values differ')[0].split()[-1]} values differ" in said
    assert f"most of all before.accuracy: 0.123 then, {accuracy} now" in said
    (remade,) = tmp_path.glob("out/rerun-*/*/run.json")
    assert json.loads(remade.read_text())["before"]["accuracy"] == accuracy
    assert f"differs    what was made now is in {remade.parent}" in said


def test_a_weight_that_differs_is_told(copy, tmp_path):
    tensors = load_file(copy / "model.safetensors")
    tensors["0.bias"][0] = np.nextafter(tensors["0.bias"][0], np.float32(9))
    save_file(tensors, copy / "model.safetensors")
    assert "model.safetensors   1 of 3333 weights differ, by " in rerun(MAIN, copy, tmp_path, status=1)


def test_weights_of_another_shape_are_told(copy, tmp_path):
    save_file({"0.bias": np.zeros(3, dtype=np.float32)}, copy / "model.safetensors")
    assert "holds tensors of other names or shapes" in rerun(MAIN, copy, tmp_path, status=1)


def test_a_row_of_a_table_that_differs_is_told(copy, tmp_path):
    file = copy / "curves.csv"
    lines = file.read_text().splitlines()
    cells = lines[2].split(",")
    lines[2] = ",".join([*cells[:2], "9", *cells[3:]])
    file.write_text("\n".join(lines) + "\n")
    assert f"most of all loss in row 2: 9 then, {cells[2]} now" in rerun(MAIN, copy, tmp_path, status=1)


@pytest.mark.parametrize("name", ["model.safetensors", "curves.csv"])
def test_a_file_that_cannot_be_read_is_told(copy, tmp_path, name):
    (copy / name).write_bytes(b"\xff\xfe")
    said = rerun(MAIN, copy, tmp_path, status=1)
    assert [line for line in said.splitlines() if line.startswith(f"{name:20}cannot be read (")]


def test_a_rerun_that_fails_leaves_nothing(copy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("noisy_feedback.experiment.run_all", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    rerun(MAIN, copy, tmp_path / "out", status=130)
    assert not (tmp_path / "out").exists()


def test_a_record_may_be_named_itself(made, tmp_path):
    assert "nothing differs" in rerun(MAIN, made["run"] / "run.json", tmp_path)


def test_a_missing_file_is_told(copy, tmp_path):
    (copy / "curves.csv").unlink()
    assert "curves.csv          is missing from the folder" in rerun(MAIN, copy, tmp_path, status=1)


def test_another_version_of_the_encoders_library_is_no_difference_by_itself(copy, tmp_path):
    encoder = json.loads((copy / "run.json").read_text())["encoder"]
    change(copy, encoder={**encoder, "library": "sentence-transformers 1.0"})
    assert rerun(MAIN, copy, tmp_path).count("the same") == 3


def test_another_version_is_told_and_is_no_difference_by_itself(copy, tmp_path):
    versions = json.loads((copy / "run.json").read_text())["versions"]
    now = versions["numpy"]
    change(copy, versions={**versions, "numpy": "1.0"})
    said = rerun(MAIN, copy, tmp_path)
    assert f"version    numpy 1.0 then, {now} now" in said
    assert "run.json            the same" in said


# --- what cannot be made again


def refused(capsys, script, folder, output, *more):
    rerun(script, folder, output, *more, status=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert not output.exists()
    return line


def test_a_folder_without_a_record_is_named(capsys, tmp_path):
    line = refused(capsys, MAIN, tmp_path, tmp_path / "out")
    assert line == f"main.py: error: --rerun {tmp_path}: holds no run.json; name one that main.py has left"


def test_a_sweeps_folder_is_for_the_sweeps_script(capsys, made, tmp_path):
    assert "holds no run.json; that is for config.py" in refused(capsys, MAIN, made["sweep"], tmp_path / "out")


def test_the_other_studys_folder_is_for_the_other_script(capsys, made, tmp_path):
    assert "made by binary/main.py; run it there" in refused(capsys, MAIN, made["binary run"], tmp_path / "out")


def test_other_reviews_are_refused_before_the_work(capsys, made, planted, tmp_path):
    line = refused(capsys, MAIN, made["run"], tmp_path / "out", "--path", planted)
    assert f"made from other reviews than {planted} (its SHA-256 differs); name theirs with --path" in line


def test_a_gap_that_is_not_the_scripts_is_refused(capsys, copy, tmp_path):
    content = json.loads((copy / "run.json").read_text())
    change(copy, arguments={**content["arguments"], "gap": 2})
    assert "made with a gap of 2, which is None in main.py" in refused(capsys, MAIN, copy, tmp_path / "out")


@pytest.mark.parametrize("content", ["", "{", "[]", "1", '{"study": "multiclass"}', '{"arguments": 3}'])
def test_a_damaged_record_is_named(capsys, copy, tmp_path, content):
    (copy / "run.json").write_text(content)
    assert f"{copy / 'run.json'}: damaged" in refused(capsys, MAIN, copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "value"), [("k", 9.5), ("ratio", 3), ("loss", "$(touch ran)"), ("seed", "--output=/")]
)
def test_a_record_with_wrong_options_is_refused_as_the_options_are(copy, tmp_path, name, value):
    content = json.loads((copy / "run.json").read_text())
    change(copy, arguments={**content["arguments"], name: value})
    with pytest.raises(SystemExit, match="2"):
        rerun(MAIN, copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--ratio", "0.1"], ["--k=3"], ["--shuffle"]])
def test_options_that_would_change_the_result_are_refused(made, tmp_path, capsys, more):
    with pytest.raises(SystemExit, match="2"):
        rerun(MAIN, made["run"], tmp_path / "out", *more)
    assert "--rerun takes its options from the folder" in capsys.readouterr().err
