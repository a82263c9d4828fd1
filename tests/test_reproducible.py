"""The same command gives the same bytes elsewhere: folder, locale, time zone, hash seed, number of threads."""

import csv
import os
import random
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, finished

ELSEWHERE = {
    "HF_HUB_OFFLINE": "1",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "PYTHONHASHSEED": "7",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
HERE = {"HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"}
COMMAND = [
    "main.py",
    "--path",
    "../data/hôtels.csv",
    "--epochs-t",
    "3",
    "--epochs-f",
    "3",
    "--k",
    "2",
    "--ratio",
    "0.3",
]


def write_reviews(file):
    """Reviews of every length up to beyond the encoder's limit, so that its products have many shapes."""
    generator = random.Random(0)
    words = ["été", "room", "staff", "lovely", "dirty", "never", "again", "好", "breakfast", "loud", "view"]
    with file.open("w", newline="", encoding="utf-8") as lines:
        reviews = [(" ".join(generator.choices(words, k=10 * n + 1)), n % 5 + 1) for n in range(30)]
        generator.shuffle(reviews)
        csv.writer(lines).writerows([("Review", "Rating"), *reviews])


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What the command leaves in a copy of the project's folders, here and elsewhere: name -> content."""
    folders, processes = [], []
    for name, environment in (("here", HERE), ("some where elsé", ELSEWHERE)):
        folder = tmp_path_factory.mktemp("copy") / name
        shutil.copytree(ROOT / "multiclass", folder / "multiclass", ignore=shutil.ignore_patterns("results"))
        (folder / "data").mkdir()
        write_reviews(folder / "data" / "hôtels.csv")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        command = [sys.executable, *COMMAND]
        processes.append(subprocess.Popen(command, cwd=folder / "multiclass", env={**kept, **environment}, **pipes))
        folders.append(folder)
    for process in processes:
        finished(process)
    return [contents(folder) for folder in folders]


def contents(folder):
    files = [*(folder / "multiclass" / "results").rglob("*.*"), *(folder / "data" / "embeddings").glob("*.s*")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def test_a_run_with_its_embeddings_is_the_same_elsewhere_to_the_last_bit(left):
    here, elsewhere = left
    assert sorted(here) == sorted(elsewhere)
    assert len(here) == 5  # run.json, curves.csv, curves.png, model.safetensors, the stored embeddings
    assert [name for name in here if here[name] != elsewhere[name]] == []
