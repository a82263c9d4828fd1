"""What a user can do wrong ends in one line that names it, exit status 2, and no file written.

Each message is tested once, where it is made; here the scripts pass on one of each kind.
"""

import os
import pickle
import re
import signal
from pathlib import Path

import pytest
import torch

from tests.conftest import content_of, run_script, start_script, write_separable

MIXED = [1, 2, 3, 4, 5] * 8
PATIENCE = 600  # seconds; only a program that hangs takes as long


def contents(folder):
    return {file: file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs a script with wrong arguments, checks what all refusals have in common, and returns the line on stderr."""

    def run(*arguments, script="multiclass/main.py"):
        before = contents(tmp_path)
        run_script(script, ["--output", tmp_path / "results", *arguments], status=2)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{Path(script).name}: error: ")
        assert contents(tmp_path) == before
        return line

    return run


def rated(ratings):
    return content_of([{"Review": f"review {row}", "Rating": rating} for row, rating in enumerate(ratings)], ".csv")


@pytest.fixture
def data(tmp_path):
    """A folder for the files of a test, with a good file of reviews."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hotels.csv").write_bytes(rated(MIXED))
    return tmp_path / "data"


# --- arguments


def test_a_wrong_argument_ends_the_program_with_status_2(tmp_path):
    process = start_script("multiclass/main.py", "--ratio", "1.5", "--output", tmp_path / "results")
    out, error = process.communicate()
    assert (process.returncode, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("main.py: error: --ratio: ")


# --- files

WRONG_FILES = {
    "--path {data}/nowhere": "{data}/nowhere: no such file or directory ({data}/nowhere)",
    "--path {data}/half-stars.csv": "{data}/half-stars.csv: review 3 has the rating '4.5' (column 'Rating'); ",
    "--path {data}/hotels.csv --output {data}/hotels.csv": "--output {data}/hotels.csv: {data}/hotels.csv is not a fol",
    "--path {data}/hotels.csv --export {data}/hotels.csv": "--export {data}/hotels.csv: ",
    "--path {data}/hotels.csv --pc": "no {data}/embeddings.pt",
    "--path {data}/hotels.csv --k 5": "--k 5: ",
    "--path {data}/hotels.csv --model_name ../no/such/folder": "--model_name ../no/such/folder: neither a folder nor",
    "--path {data}/hotels.csv --model_name {data}": "--model_name {data}: cannot be loaded",
}


def test_a_file_that_is_missing_or_does_not_fit_is_named(refused, data):
    (data / "half-stars.csv").write_bytes(rated(["3", "4", "4.5", *MIXED]))
    for arguments, says in WRONG_FILES.items():
        assert says.format(data=data) in refused(*arguments.format(data=data).split())


# --- embeddings.pt and encoders

VECTORS = torch.randn(40, 4)
WRONG_EMBEDDINGS = {
    "too few rows": (VECTORS[1:], "holds no 40 vectors of floating-point numbers, one of each text, but of shape (39"),
    "no columns": (VECTORS[:, :0], "holds no 40 vectors"),
    "beyond float32": (VECTORS.double() * 1e300, "holds NaN or infinite values"),
    "integers": (VECTORS.long(), "holds no 40 vectors"),
    "one vector": (VECTORS[0], "holds no 40 vectors"),
    "one number": (torch.zeros(1, 1).expand(40, 10**11), "holds no 40 vectors"),  # a kilobyte
    "sparse": (VECTORS.to_sparse(), "holds no 40 vectors"),
    "numpy array": (VECTORS.numpy(), "not a plain tensor"),
    "empty": (b"", "not a plain tensor"),
    "cut short": (b"\x80\x02X\x01", "not a plain tensor"),
}


def test_wrong_embeddings_are_refused(refused, data):
    file = data / "embeddings.pt"
    for kind, (value, reason) in WRONG_EMBEDDINGS.items():
        file.write_bytes(value) if isinstance(value, bytes) else torch.save(value, file)
        assert f"{file}: {reason}" in refused("--path", data / "hotels.csv", "--pc"), kind


class Attack:
    """Touches a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


DUMPS = {
    "saved": torch.save,
    "saved in the old format": lambda value, file: torch.save(value, file, _use_new_zipfile_serialization=False),
    "pickled": lambda value, file: file.write_bytes(pickle.dumps(value, protocol=2)),
}


def test_code_in_embeddings_does_not_run(refused, data, tmp_path):
    for kind, dump in DUMPS.items():
        dump(Attack(tmp_path / "ran"), data / "embeddings.pt")
        assert f"{data / 'embeddings.pt'}: not a plain tensor" in refused("--path", data / "hotels.csv", "--pc"), kind
        assert not (tmp_path / "ran").exists(), kind


# --- Ctrl-C


@pytest.fixture
def ctrl_c():
    """SIGINT, to which children react even if a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.SIGINT
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_during_training_is_one_line_and_leaves_no_incomplete_file(tmp_path, ctrl_c):
    file = write_separable(tmp_path / "data")
    arguments = ("--path", file, "--pc", "--epochs-t", 10**6, "--output", tmp_path / "results")
    process = start_script("multiclass/main.py", *arguments)
    try:
        error = b""
        while not re.search(rb" [1-9]\d*/1000000 ", error) and (more := os.read(process.stderr.fileno(), 10_000)):
            error += more
        process.send_signal(ctrl_c)
        error = error.decode() + process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.splitlines()[-1] == "main.py: interrupted; files already written are complete"
    assert "Traceback" not in error
    assert {path.name for path in tmp_path.rglob("*")} == {"data", "hotels.csv", "embeddings.pt"}
