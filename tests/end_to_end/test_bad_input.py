"""What a user can do wrong: each mistake is one line that names it, exit status 2, and no file written."""

import gzip
import io
import json
import os
import pickle
import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from noisy_feedback.files import atomic_write
from tests.conftest import run_script, start_script, write_separable

ROWS = 40
MIXED = [1, 2, 3, 4, 5] * 8
LITTLE_LEARNED = ("--pc", "--epochs-t", 1, "--epochs-f", 0)
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


@pytest.fixture
def data(tmp_path):
    """A folder for the files of a test."""
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
    "--seed 4294967296": "argument --seed: 4294967296 is not below 4294967296",
    "--lr-f 0": "argument --lr-f: 0 is not a positive number",
    "--lr-f inf": "argument --lr-f: inf is not a positive number",
    "--batch-f 0": "argument --batch-f: 0 is less than 1",
    "--hidden 64 0": "argument --hidden: 0 is less than 1",
    "--lists 0": "argument --lists: 0 is less than 1",
    "--kl-weight=-1": "argument --kl-weight: -1 is not a number from 0 on",
    "--flip-rate 1.5": "argument --flip-rate: 1.5 is outside 0..1",
    "--pooling max": "argument --pooling: invalid choice: 'max'",
    "--loss hing": "argument --loss: 'hing' is none of study, bradley-terry",
    "--loss sigmoid": "argument --loss: sigmoid is now called symmetric-sigmoid",
    "--noise hard": "argument --noise: hard is now called least-confident",
    "--noise uniformly": "did you mean uniform?",
    "--anchor 0.1": "unknown argument --anchor; it is now --kl-weight",
    "--epochs 3": "unknown argument --epochs; did you mean --epochs-",
    "--seeds 1": "unknown argument --seeds; did you mean --seed?",
    "--name a/b": "--name a/b: a name without slashes; --output chooses the folder around it",
    "--head scalar --loss study": "--loss study needs a distribution over ratings",
    "--head scalar --noise least-confident": "--noise least-confident needs a distribution over ratings",
    "--loss robust --flip-rate 0.5": "--flip-rate 0.5: --loss robust needs one below 0.5",
    "--as-published noise --noise adjacent": "--noise: --as-published noise chooses the kind of noise",
    "--as-published shuffle": "argument --as-published: invalid choice: 'shuffle'",
}


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS)
def test_a_wrong_argument_is_named(refused, arguments):
    line = refused(*arguments.split())
    assert WRONG_ARGUMENTS[arguments] in line
    assert line.endswith("(see --help)")


WRONG_IN_A_SWEEP = {
    "--ratio 0,0.2": "argument --ratio: '0,0.2' is not a number; separate several by spaces",
    "--seeds 1,2": "argument --seeds: '1,2' is not a whole number; separate several by spaces",
    "--seed 1": "unknown argument --seed; did you mean --seeds?",
    "--loss study conservative": "argument --loss: conservative is now called label-smoothing",
    "--kl-weight 0 inf": "argument --kl-weight: inf is not a number from 0 on",
    "--head scalar --loss hinge study": "--loss study needs a distribution over ratings",
}


@pytest.mark.parametrize("arguments", WRONG_IN_A_SWEEP)
def test_a_wrong_argument_of_a_sweep_is_named(refused, arguments):
    line = refused(*arguments.split(), script="multiclass/config.py")
    assert WRONG_IN_A_SWEEP[arguments] in line
    assert line.endswith("(see --help)")


@pytest.mark.parametrize(
    ("script", "weights"), [("multiclass/main.py", []), ("multiclass/config.py", ["--kl-weight", 1, 0])]
)
def test_a_scalar_head_takes_the_robust_loss_only_with_a_kl_penalty(refused, script, weights):
    line = refused("--head", "scalar", "--loss", "robust", *weights, script=script)
    assert "falls without limit as the outputs grow; give a --kl-weight above 0, or another loss" in line


def test_binary_has_no_option_k(refused):
    assert "unknown argument --k" in refused("--k", "2", script="binary/main.py")


def test_a_wrong_argument_ends_the_program_with_status_2(tmp_path):
    process = start_script("multiclass/main.py", "--ratio", "1.5", "--output", tmp_path / "results")
    expected = "main.py: error: argument --ratio: 1.5 is outside 0..1 (0.2 for 20 %) (see --help)\n"
    assert process.communicate() == ("", expected)
    assert process.returncode == 2


def test_an_export_onto_the_file_of_reviews_is_refused(refused, data):
    file = put(data, "r.jsonl", as_jsonl((f"review {row}", rating) for row, rating in enumerate(MIXED)))
    torch.save(torch.zeros(ROWS, 3), data / "embeddings.pt")
    line = refused("--path", file, *LITTLE_LEARNED[:-2], "--export", file)
    assert f"--export {file}: would replace {file}, which this run reads; choose another file" in line


def test_an_output_below_a_file_is_refused_before_the_work(refused, data):
    file = write_separable(data)
    line = refused("--path", file, "--pc", "--output", file / "results")
    assert f"--output {file / 'results'}: {file} is not a folder" in line


# --- files


@pytest.mark.parametrize("script", ["multiclass/main.py", "binary/main.py", "multiclass/config.py"])
def test_a_missing_path_is_named(refused, data, script):
    line = refused("--path", data / "nowhere", script=script)
    assert line.endswith(f"--path {data / 'nowhere'}: no such file or folder")


@pytest.mark.parametrize("option", [[], ["--path", "../data"], ["--path", "data/"]])
def test_a_script_that_is_started_from_another_folder_says_where_its_path_leads(tmp_path, monkeypatch, capsys, option):
    from noisy_feedback.cli import run_main
    from tests.conftest import ROOT

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.argv", ["main.py", *option])
    assert run_main("multiclass") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such file or folder" in line
    assert line.endswith(f"paths start in the current folder, did you mean {ROOT / 'data'}?")


def test_a_folder_without_reviews_is_refused_with_the_names_of_the_files_it_could_have(refused, data):
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
    "latin1.csv": (rated(MIXED).replace(b"review", b"\xe9t\xe9"), "with iconv -f latin1 -t utf-8"),
    "latin1.jsonl": (b'{"Review": "\xe9t\xe9", "Rating": 1}\n' * ROWS, "with iconv -f latin1 -t utf-8"),
    "latin1.parquet": (as_parquet_in_latin1(), "latin1.parquet"),
    "utf16.csv": (rated(MIXED).decode().encode("utf-16"), "UTF-16, not UTF-8 text; convert it, for example with iconv"),
    "utf16.jsonl": (as_jsonl([("good", 5)] * ROWS).decode().encode("utf-16-le"), "iconv -f utf-16 -t utf-8"),
    "semicolons.csv": (
        rated(MIXED).replace(b",", b";"),
        "separated by semicolons, and those of a .csv file by commas; save it with commas",
    ),
    "tabs.csv": (rated(MIXED).replace(b",", b"\t"), "separated by tabs, and those of a .csv file by commas; rename it"),
    "commas.tsv": (rated(MIXED), "separated by commas, and those of a .tsv file by tabs; rename it to .csv"),
    "array.jsonl": (
        json.dumps([{"Review": "good", "Rating": star} for star in MIXED]).encode(),
        "a JSON array, not one object per line; convert it, for example with jq -c '.[]'",
    ),
    "reviews.xlsx": (b"PK", "unknown kind of file; one of .csv, .tsv, .jsonl, .parquet, or gzipped (.gz)"),
    "reviews.gz": (gzip.compress(rated(MIXED)), "unknown kind of file; one of .csv, .tsv, .jsonl, .parquet"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(refused, data, name):
    content, reason = UNREADABLE[name]
    file = put(data, name, content)
    line = refused("--path", file)
    assert f"{file}: " in line
    assert reason in line


# --- columns


@pytest.mark.parametrize("column", ["--text-column", "--rating-column"])
def test_a_missing_column_is_named_with_those_that_the_file_has(refused, data, column):
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
def test_empty_reviews_are_counted_with_the_option_that_drops_them(refused, data, text):
    reviews = [(f"good {row}", rating) for row, rating in enumerate(MIXED)]
    reviews[6] = reviews[9] = (text, 3)
    line = refused("--path", put(data, "hotels.csv", as_csv(reviews)))
    assert "no text in 2 of 40 reviews (column 'Review'), the first is review 7; --drop-empty leaves them out" in line


@pytest.mark.parametrize("text", [7, ["good"], True])
def test_a_review_that_is_no_text_is_named_by_its_row(refused, data, text):
    reviews = [("good", rating) for rating in MIXED]
    reviews[6] = (text, 3)
    assert "review 7 is " in refused("--path", put(data, "hotels.jsonl", as_jsonl(reviews)))


def screen_of(file, tmp_path, *more):
    """What a short run prints."""
    return run_script("multiclass/main.py", ["--path", file, "--output", tmp_path / "out", *LITTLE_LEARNED, *more])


def put_with_embeddings(folder, content, rows):
    torch.save(torch.randn(rows, 4), folder / "embeddings.pt")
    return put(folder, "hotels.csv", content)


def test_drop_empty_leaves_out_empty_reviews_and_says_how_many(data, tmp_path):
    reviews = [(f"good {row}", rating) for row, rating in enumerate(MIXED)]
    file = put_with_embeddings(data, as_csv([("", 3), *reviews, (" ", 3)]), rows=ROWS)
    screen = screen_of(file, tmp_path, "--drop-empty")
    assert "reviews    40 from hotels.csv (1: 8, 2: 8, 3: 8, 4: 8, 5: 8)\ndropped    2 empty\n" in screen


def test_drop_duplicates_keeps_the_first_of_equal_texts_and_says_how_many_it_drops(data, tmp_path):
    reviews = [(f"good {row}", rating) for row, rating in enumerate(MIXED)]
    file = put_with_embeddings(data, as_csv([*reviews, ("good 0", 5), ("good 1", 5), ("good 0", 5)]), rows=ROWS)
    screen = screen_of(file, tmp_path, "--drop-duplicates")
    assert "(1: 8, 2: 8, 3: 8, 4: 8, 5: 8)\ndropped    3 duplicates\n" in screen
    assert "word for word" not in screen


def test_too_few_reviews_after_dropping_are_refused(refused, data):
    file = put(data, "hotels.csv", as_csv([("good", star) for star in MIXED]))
    assert "1 reviews are too few to split in four" in refused("--path", file, "--drop-duplicates")


# --- warnings


def warnings_of(screen):
    """The warnings, each with its further lines, which are indented."""
    lines = re.findall(r"^warning {4}(.*(?:\n {11}\S.*)*)", screen, re.MULTILINE)
    return [" ".join(line.split()) for line in lines]


BALANCED = [1, 2, 3, 4, 5] * 160  # more than 10 of each rating in every part


def test_a_balanced_file_of_different_texts_causes_no_warning(data, tmp_path):
    screen = screen_of(put_with_embeddings(data, rated(BALANCED), rows=800), tmp_path)
    assert not [line for line in warnings_of(screen) if "no more accurate" not in line]


WARNED = {
    "a text in two parts": (
        as_csv((f"review {row % 780}", rating) for row, rating in enumerate(BALANCED)),
        "20 of the 80 test reviews (25.0%); --drop-duplicates keeps the first of each",
    ),
    "a rating of a single review": (rated([*BALANCED[:-1], 50]), "only one review has the rating 50;"),
    "a sorted file": (rated(sorted(BALANCED)), "the file seems sorted; --shuffle puts it in random order"),
    "few reviews of a rating": (rated([*BALANCED[:-40], *[5] * 40]), "fewer than 10 reviews of a rating: "),
    "an uneven scale": (rated([1, 2, 4] * 266 + [1, 4]), "the rating scale 1, 2 and 4 has uneven steps"),
}


@pytest.mark.parametrize("name", WARNED)
def test_data_that_can_mislead_cause_a_warning(data, tmp_path, name):
    content, warning = WARNED[name]
    screen = screen_of(put_with_embeddings(data, content, rows=800), tmp_path)
    assert any(warning in line for line in warnings_of(screen)), screen


def test_shuffling_a_sorted_file_silences_the_warning(data, tmp_path):
    file = put_with_embeddings(data, rated(sorted(BALANCED)), rows=800)
    assert "seems sorted" not in screen_of(file, tmp_path, "--shuffle")


# --- comparisons


def test_k_has_to_be_less_than_the_number_of_ratings(refused, data):
    line = refused("--path", put(data, "hotels.csv", rated(MIXED)), "--k", "5")
    assert re.search(r"--k 5: .* 6 different ratings, and there are 5; k must be 1 to 4$", line)


def test_a_fine_tuning_part_without_a_list_is_refused(refused, data):
    sorted_file = put(data, "hotels.csv", rated(np.repeat([1, 2, 3, 4, 5], [10, 8, 20, 1, 1])))
    line = refused("--path", sorted_file, "--k", "2")
    assert "--k 2: no list of 3 different ratings can be made" in line
    assert "--shuffle" in line


def test_a_fine_tuning_part_without_ratings_three_apart_is_refused_with_the_advice_to_shuffle(refused, data):
    file = put(data, "hotels.csv", rated([1, 2, 3, 4] * 4 + [1, 2, 3] * 12))
    line = refused("--path", file, script="binary/main.py")
    assert "no pair of ratings exactly 3 stars apart in the fine-tuning part: it has 1, 2, 3" in line
    assert "--shuffle mixes sorted files" in line


def test_a_scale_without_ratings_three_apart_is_refused_without_the_advice_to_shuffle(refused, data):
    file = put(data, "hotels.csv", rated([1, 2, 3] * 14))
    line = refused("--path", file, script="binary/main.py")
    assert "no two ratings on the scale 1, 2, 3 are exactly 3 stars apart, which `binary` compares; use multi" in line
    assert "--shuffle" not in line


def test_a_sweep_names_the_run_that_has_no_comparisons(refused, data):
    file = put(data, "hotels.csv", rated(np.repeat([1, 2, 3, 4, 5], [10, 8, 20, 1, 1])))
    line = refused("--path", file, "--k", "2", "--seeds", "7", "--ratio", "0", script="multiclass/config.py")
    assert "no list of 3 different ratings can be made" in line
    several = refused("--path", file, "--k", "2", "--seeds", "7", "8", "--ratio", "0", script="multiclass/config.py")
    assert several.endswith("(seed 7, uniform noise, ratio 0)")


# --- embeddings.pt


def test_pc_with_nothing_stored_says_how_to_compute_embeddings(refused, data):
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
    content, reason = WRONG_EMBEDDINGS[kind]
    file = put(data, "hotels.csv", rated(MIXED))
    given = put(data, "embeddings.pt", content)
    line = refused("--path", file, "--pc")
    assert f"{given}: " in line
    assert reason in line


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
def test_an_encoder_that_cannot_be_found_is_named_with_the_ways_out(refused, data, name):
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
    """SIGINT, to which children react even if a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.SIGINT
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupted(tmp_path, ctrl_c):
    """A script that was sent Ctrl-C in the middle of its training: the lines on stderr, and the exit status."""
    file = write_separable(tmp_path / "data")
    arguments = ("--path", file, "--pc", "--epochs-t", 10**6, "--output", tmp_path / "results")
    process = start_script("multiclass/main.py", *arguments)
    try:
        error = b""
        while not re.search(rb" [1-9]\d*/1000000 ", error) and (more := os.read(process.stderr.fileno(), 10_000)):
            error += more
        process.send_signal(ctrl_c)
        rest = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    return (error.decode() + rest).splitlines(), process.returncode


def test_ctrl_c_is_one_line_and_leaves_no_incomplete_file(interrupted, tmp_path):
    lines, status = interrupted
    assert status == 130
    assert lines[-1] == "main.py: interrupted; files already written are complete"
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "results").exists()
    assert {file.name for file in (tmp_path / "data").iterdir()} == {"hotels.csv", "embeddings.pt"}


def test_ctrl_c_while_a_file_is_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "run.json"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as temporary:
        temporary.write_text("half of the ne")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {file: b"old"}
