"""What a user can do wrong: each is one line that names it, exit status 2, and nothing written."""

import gzip
import io
import json
import os
import pickle
import re
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from noisy_feedback.files import written_atomically
from tests.conftest import ROOT, start, write_planted

ROWS = 40
MIXED = [1, 2, 3, 4, 5] * 8


def contents(folder):
    return {file: file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a script with these arguments; check what is the same for all that is wrong, and give the one line."""

    def run(*arguments, study="multiclass"):
        before = contents(tmp_path)
        monkeypatch.chdir(ROOT / study)
        monkeypatch.setattr(sys, "argv", ["main.py", "--output", str(tmp_path / "results"), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path("main.py", run_name="__main__")
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("main.py: error: ")
        assert contents(tmp_path) == before
        return line

    return run


@pytest.fixture
def data(tmp_path):
    """A folder for what is wrong."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def put(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def as_csv(reviews, header="Review,Rating"):
    return "\n".join([header, *(f"{text},{rating}" for text, rating in reviews)]).encode() + b"\n"


def rated(ratings):
    return as_csv((f"review {row}", rating) for row, rating in enumerate(ratings))


def as_parquet(reviews):
    file = io.BytesIO()
    pd.DataFrame(reviews, columns=["Review", "Rating"]).to_parquet(file)
    return file.getvalue()


def as_parquet_in_latin1():
    """As a program writes it that takes Latin-1 bytes for text."""
    texts = pa.array([b"\xe9t\xe9"] * ROWS).cast(pa.string(), safe=False)
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"Review": texts, "Rating": MIXED}), file)
    return file.getvalue()


def as_jsonl(reviews):
    return "".join(json.dumps({"Review": text, "Rating": rating}) + "\n" for text, rating in reviews).encode()


# --- arguments


WRONG_ARGUMENTS = {
    "--ratio 1.5": "argument --ratio: 1.5 is outside 0..1 (0.2 for 20 %)",
    "--ratio=-0.1": "argument --ratio: -0.1 is outside 0..1",
    "--ratio nan": "argument --ratio: nan is outside 0..1",
    "--ratio some": "argument --ratio: 'some' is not a number",
    "--k 0": "argument --k: 0 is less than 1",
    "--k 2.5": "argument --k: '2.5' is not a whole number",
    "--epochs-t=-1": "argument --epochs-t: -1 is less than 0",
    "--epochs-f=-1": "argument --epochs-f: -1 is less than 0",
    "--seed=-1": "argument --seed: -1 is less than 0",
    "--lr-f 0": "argument --lr-f: 0 is not a positive number",
    "--lr-f inf": "argument --lr-f: inf is not a positive number",
    "--batch-f 0": "argument --batch-f: 0 is less than 1",
    "--pooling max": "argument --pooling: invalid choice: 'max'",
    "--rat 0.2": "unrecognized arguments: --rat 0.2",
}


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS)
def test_a_wrong_argument_is_named(refused, arguments):
    line = refused(*arguments.split())
    assert WRONG_ARGUMENTS[arguments] in line
    assert line.endswith("(see --help)")


def test_binary_pairs_have_no_k(refused):
    assert "unrecognized arguments: --k 2" in refused("--k", "2", study="binary")


def test_a_wrong_argument_ends_the_program_with_status_2(tmp_path):
    process = start("multiclass/main.py", "--ratio", "1.5", "--output", tmp_path / "results")
    says = "main.py: error: argument --ratio: 1.5 is outside 0..1 (0.2 for 20 %) (see --help)\n"
    assert process.communicate() == ("", says)
    assert process.returncode == 2


def test_an_output_below_a_file_is_refused_before_the_work(refused, data):
    file = write_planted(data)
    line = refused("--path", file, "--pc", "--output", file / "results")
    assert f"--output {file / 'results'}: {file} is not a folder" in line


# --- files


def test_a_missing_path_is_named(refused, data):
    assert f"--path {data / 'nowhere'}: no such file or folder" in refused("--path", data / "nowhere")


def test_a_missing_path_ends_the_program_with_status_2(data):
    process = start("binary/main.py", "--path", data / "nowhere", "--output", data / "results")
    _, error = process.communicate()
    assert error == f"main.py: error: --path {data / 'nowhere'}: no such file or folder\n"
    assert process.returncode == 2


def test_of_a_folder_with_nothing_to_read_both_files_it_could_have_are_named(refused, data):
    line = refused("--path", data)
    assert str(data) in line
    assert "neither tripadvisor_hotel_reviews.csv" in line
    assert "nor sample_hotel_reviews.csv" in line


UNREADABLE = {
    "empty.csv": (b"", "the file is empty"),
    "empty.csv.gz": (gzip.compress(b""), "unreadable or cut short as csv"),
    "header.csv": (b"Review,Rating\n", "0 reviews are too few to split in four; 10 are the least"),
    "short.csv": (rated(MIXED[:9]), "9 reviews are too few to split in four; 10 are the least"),
    "cut.csv": (b'Review,Rating\n"half a review', "unreadable or cut short as csv"),
    "cut.csv.gz": (gzip.compress(rated(MIXED))[:-20], "unreadable or cut short as csv"),
    "not-zipped.csv.gz": (rated(MIXED), "unreadable or cut short as csv"),
    "ragged.csv": (rated(MIXED) + b"one,2,three\n", "unreadable or cut short as csv"),
    "cut.jsonl": (as_jsonl([("good", 5)] * ROWS)[:-20], "unreadable or cut short as jsonl"),
    "cut.parquet": (as_parquet([("good", 5)] * ROWS)[:-20], "unreadable or cut short as parquet"),
    "text.parquet": (rated(MIXED), "unreadable or cut short as parquet"),
    "latin1.csv": (rated(MIXED).replace(b"review", b"\xe9t\xe9"), "convert it, say with iconv -f latin1"),
    "latin1.jsonl": (b'{"Review": "\xe9t\xe9", "Rating": 1}\n' * ROWS, "convert it, say with iconv -f latin1"),
    "latin1.parquet": (as_parquet_in_latin1(), "latin1.parquet"),
    "utf16.csv": (rated(MIXED).decode().encode("utf-16"), "not UTF-8 text"),
    "reviews.xlsx": (b"PK", "unknown kind of file; one of .csv, .tsv, .jsonl, .parquet, or gzipped (.gz)"),
    "reviews.gz": (gzip.compress(rated(MIXED)), "unknown kind of file; one of .csv, .tsv, .jsonl, .parquet"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_with_its_reason(refused, data, name):
    content, says = UNREADABLE[name]
    file = put(data, name, content)
    line = refused("--path", file)
    assert f"{file}: " in line
    assert says in line


# --- columns


@pytest.mark.parametrize("column", ["--text-column", "--rating-column"])
def test_a_missing_column_is_named_with_those_that_are_there(refused, data, column):
    file = put(data, "hotels.csv", rated(MIXED))
    line = refused("--path", file, column, "Stars")
    assert "no column 'Stars'; it has 'Review', 'Rating'" in line
    assert column in line


@pytest.mark.parametrize("name", ["hotels.csv", "hotels.tsv"])
def test_a_column_named_twice_is_refused(refused, data, name):
    content = as_csv([("good,1", 2)] * ROWS, header="Review,Rating,Rating")
    file = put(data, name, content.replace(b",", b"\t") if name.endswith(".tsv") else content)
    assert "more than one column 'Rating'" in refused("--path", file)


# --- rows


@pytest.mark.parametrize("rating", ["", "five", "2.5", "nan", "inf", "1e300"])
def test_a_rating_that_is_no_whole_number_is_named_with_its_row(refused, data, rating):
    file = put(data, "hotels.csv", rated([*MIXED[:3], rating, *MIXED]))
    line = refused("--path", file)
    assert f"review 4 has the rating {rating!r}" in line
    assert "column 'Rating'" in line


@pytest.mark.parametrize("rating", [None, 2.5, [5], {"stars": 5}, "five"])
def test_a_rating_in_json_that_is_no_whole_number_is_named_with_its_row(refused, data, rating):
    file = put(data, "hotels.jsonl", as_jsonl(("good", star) for star in [*MIXED[:3], rating, *MIXED]))
    line = refused("--path", file)
    assert "review 4 has the rating" in line
    assert "np." not in line


def test_ratings_of_one_value_are_refused(refused, data):
    assert "is 4; two values are the least" in refused("--path", put(data, "hotels.csv", rated([4] * ROWS)))


def test_a_column_of_more_than_100_values_is_no_rating(refused, data):
    line = refused("--path", put(data, "hotels.csv", rated(range(101))))
    assert "column 'Rating' has 101 different values" in line
    assert "--rating-column" in line


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_review_is_named_by_its_row(refused, data, text):
    reviews = [("good", rating) for rating in MIXED]
    reviews[6] = (text, 3)
    line = refused("--path", put(data, "hotels.csv", as_csv(reviews)))
    assert "review 7 is empty; every review must be text (column 'Review')" in line


@pytest.mark.parametrize("text", [None, 7, ["good"], True])
def test_a_review_that_is_no_text_is_named_by_its_row(refused, data, text):
    reviews = [("good", rating) for rating in MIXED]
    reviews[6] = (text, 3)
    assert "review 7 is " in refused("--path", put(data, "hotels.jsonl", as_jsonl(reviews)))


# --- comparisons


def test_k_has_to_be_less_than_the_number_of_ratings(refused, data):
    line = refused("--path", put(data, "hotels.csv", rated(MIXED)), "--k", "5")
    assert re.search("--k 5: .* 6 different ratings, and there are 5; k must be 1 to 4$", line)


def test_a_fine_tuning_part_without_a_list_is_refused(refused, data):
    sorted_file = put(data, "hotels.csv", rated(np.repeat([1, 2, 3, 4, 5], [10, 8, 20, 1, 1])))
    line = refused("--path", sorted_file, "--k", "2")
    assert "--k 2: no list of 3 different ratings can be made" in line
    assert "--shuffle" in line


def test_a_scale_without_ratings_three_apart_has_no_pairs(refused, data):
    line = refused("--path", put(data, "hotels.csv", rated([1, 2, 3, 4] * 4 + [1, 2, 3] * 12)), study="binary")
    assert "no pair of ratings exactly 3 stars apart in the fine-tuning part: it has 1, 2, 3" in line


# --- embeddings.pt


def test_pc_with_nothing_stored_says_how_to_make_embeddings(refused, data):
    file = put(data, "hotels.csv", rated(MIXED))
    line = refused("--path", file, "--pc")
    assert f"no {data / 'embeddings.pt'}" in line
    assert "run once without --pc" in line


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


VECTORS = torch.randn(ROWS, 4)
WRONG_EMBEDDINGS = {
    "too few rows": (saved(VECTORS[1:]), "(39, 4) numbers for 40 reviews"),
    "no columns": (saved(VECTORS[:, :0]), "(40, 0) numbers for 40 reviews"),
    "NaN": (saved(VECTORS * torch.nan), "NaN or infinite"),
    "infinite": (saved(VECTORS / 0), "NaN or infinite"),
    "beyond float32": (saved(VECTORS.double() * 1e300), "NaN or infinite"),
    "whole numbers": (saved(VECTORS.long()), "no tensor of shape"),
    "one vector": (saved(VECTORS[0]), "no tensor of shape"),
    "sparse": (saved(VECTORS.to_sparse()), "no tensor of shape"),
    "dict": (saved({"embeddings": VECTORS}), "no tensor of shape"),
    "numpy array": (saved(VECTORS.numpy()), "not a plain tensor"),
    "cut short": (saved(VECTORS)[:-100], "not a plain tensor"),
    "cut short in the old format": (b"\x80\x02X\x01", "not a plain tensor"),
    "empty": (b"", "not a plain tensor"),
    "text": (b"0.1 0.2\n", "not a plain tensor"),
}


@pytest.mark.parametrize("kind", WRONG_EMBEDDINGS)
def test_wrong_embeddings_are_refused(refused, data, kind):
    content, says = WRONG_EMBEDDINGS[kind]
    file = put(data, "hotels.csv", rated(MIXED))
    stored = put(data, "embeddings.pt", content)
    line = refused("--path", file, "--pc")
    assert f"{stored}: " in line
    assert says in line


class Attack:
    """Touches a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


DUMPS = {
    "saved": saved,
    "saved in the old format": lambda value: saved(value, _use_new_zipfile_serialization=False),
    "pickled": lambda value: pickle.dumps(value, protocol=2),
}


@pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)
def test_code_in_embeddings_does_not_run(refused, data, tmp_path, dump):
    file = put(data, "hotels.csv", rated(MIXED))
    put(data, "embeddings.pt", dump(Attack(tmp_path / "ran")))
    assert "not a plain tensor" in refused("--path", file, "--pc")
    assert not (tmp_path / "ran").exists()


# --- encoders


@pytest.mark.parametrize("name", ["nobody/no-such-model", "not a name", "../no/such/folder"])
def test_of_an_encoder_that_cannot_be_had_the_ways_out_are_named(refused, data, name):
    file = put(data, "hotels.csv", rated(MIXED))
    line = refused("--path", file, "--model_name", name)
    assert f"--model_name {name}: neither a folder nor reachable on the hub" in line
    assert "local copy" in line
    assert "[offline]" in line


def test_a_model_folder_that_wants_to_run_code_is_refused(refused, data, tmp_path):
    file = put(data, "hotels.csv", rated(MIXED))
    model = tmp_path / "model"
    model.mkdir()
    (model / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "attack.Module"}]))
    (model / "attack.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Module: pass\n")
    line = refused("--path", file, "--model_name", model)
    assert f"{model}: modules.json asks for attack.Module" in line
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_no_model_is_refused(refused, data, tmp_path):
    file = put(data, "hotels.csv", rated(MIXED))
    (tmp_path / "model").mkdir()
    line = refused("--path", file, "--model_name", tmp_path / "model")
    assert f"--model_name {tmp_path / 'model'}: cannot be loaded" in line


# --- Ctrl-C


@pytest.fixture
def ctrl_c():
    """Children that can be interrupted, even where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.SIGINT
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupted(tmp_path, ctrl_c):
    """A script that was sent Ctrl-C in the middle of its training: the lines on stderr, and the exit status."""
    file = write_planted(tmp_path / "data")
    process = start("multiclass/main.py", "--path", file, "--pc", "--epochs-t", 10**6, "--output", tmp_path / "results")
    error = b""
    while b"[00:01<" not in error and (more := os.read(process.stderr.fileno(), 10_000)):
        error += more
    process.send_signal(ctrl_c)
    rest = process.communicate(timeout=60)[1]
    return (error.decode() + rest).splitlines(), process.returncode


def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(interrupted, tmp_path):
    lines, status = interrupted
    assert status == 130
    assert lines[-1] == "main.py: interrupted; files already written are whole"
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "results").exists()
    assert {file.name for file in (tmp_path / "data").iterdir()} == {"hotels.csv", "embeddings.pt"}


def test_ctrl_c_while_a_file_is_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "run.json"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_atomically(file) as temporary:
        temporary.write_text("half of the ne")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {file: b"old"}
