"""What several test files share: reviews that are learnt at a glance, and the scripts as a user starts them."""

import contextlib
import csv
import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported: so before any test is

from noisy_feedback.cli import run_config, run_main

ROOT = Path(__file__).parents[1]


def write_planted(folder, ratings=None, dimensions=16):
    """A file of reviews, and beside it an `embeddings.pt` whose vectors lie around one centre per rating."""
    generator = np.random.default_rng(0)
    if ratings is None:
        ratings = generator.integers(1, 6, size=400)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "hotels.csv"
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = [(f"review {number}", int(rating)) for number, rating in enumerate(ratings)]
        csv.writer(lines).writerows([("Review", "Rating"), *rows])
    centres = generator.normal(size=(max(ratings) + 1, dimensions))
    vectors = centres[np.asarray(ratings)] + 0.3 * generator.normal(size=(len(ratings), dimensions))
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return file


def start(script, *arguments, python=(), session=False, **environment):
    """`python main.py ...` in the folder of a study, not waited for, in a session of its own if told so."""
    return subprocess.Popen(
        [sys.executable, *python, Path(script).name, *map(str, arguments)],
        cwd=ROOT / Path(script).parent,
        env={**os.environ, **environment},
        start_new_session=session,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def finished(process):
    """What a started script has printed, on stdout and on stderr, once it has ended well."""
    screen, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return screen, error


def arguments(data, output, *more, epochs=("6", "6")):
    """The options of a small run or sweep on given embeddings."""
    given = ["--path", data, "--pc", "--output", output, "--epochs-t", epochs[0], "--epochs-f", epochs[1], *more]
    return [str(part) for part in given]


def program_of(script, given):
    """The script's program, in this process: starting Python and its libraries anew takes seconds. The exit status."""
    spec = importlib.util.spec_from_file_location("script", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = run_config if Path(script).name == "config.py" else run_main
    with mock.patch.object(sys, "argv", [Path(script).name, *given]), contextlib.chdir(ROOT / Path(script).parent):
        return program(module.STUDY)


def run(script, given, status=0):
    """What the script prints, run in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert program_of(script, given) == status
    return out.getvalue()


def folder_of(output):
    """The folder of the one sweep in it."""
    (folder,) = (path for path in Path(output).iterdir() if path.name.startswith("sweep_"))
    return folder


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A planted file of 400 reviews, for tests that only read."""
    return write_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="session")
def planted_data(tmp_path_factory):
    """A file of 1,000 reviews whose embeddings tell the rating, with some error, so that feedback noise can do harm."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    ratings = generator.choice(5, size=1000, p=[0.1, 0.1, 0.15, 0.3, 0.35])
    position = ratings[:, None] + 0.8 * generator.normal(size=(1000, 1))
    directions = generator.normal(size=(1, 16))
    vectors = position * directions + 0.3 * generator.normal(size=(1000, 16))
    rows = pd.DataFrame({"Review": [f"review {n}" for n in range(1000)], "Rating": ratings + 1})
    rows.to_csv(folder / "reviews.csv", index=False)
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return folder / "reviews.csv"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """A BERT of random weights that knows letters, in a folder: it loads and embeds at once."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **shape)).save_pretrained(folder)
    return folder


def pytest_addoption(parser):
    parser.addoption("--thorough", type=int, default=1, metavar="N", help="N times as many faults and hostile files")


@pytest.fixture(scope="session")
def thorough(request):
    return request.config.getoption("--thorough")
