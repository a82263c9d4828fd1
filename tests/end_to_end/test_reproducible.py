"""The same command gives the same bytes elsewhere: folder, locale, time zone, hash seed, number of threads."""

import json
import os
import random
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from tests.conftest import ROOT, only_folder, output_of, run_script

HERE = {"HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"}
ELSEWHERE = {
    "HF_HUB_OFFLINE": "1",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "PYTHONHASHSEED": "7",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
OPTIONS = ["--epochs-t", "3", "--epochs-f", "3", "--k", "2", "--ratio", "0.3"]


def write_reviews(file):
    """Reviews of every length up to beyond the encoder's limit, so that its products have many shapes."""
    rng = random.Random(0)
    words = ["été", "room", "staff", "lovely", "dirty", "never", "again", "好", "breakfast", "loud", "view"]
    reviews = [(" ".join(rng.choices(words, k=2 * n + 1)), n % 5 + 1) for n in range(60)]
    rng.shuffle(reviews)
    file.parent.mkdir(parents=True)
    pd.DataFrame(reviews, columns=["Review", "Rating"]).to_csv(file, index=False, encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_encoder):
    """Two copies of the project's folders, in each of which the command has started for the first time."""
    found, processes = [], []
    for name, environment in (("here", HERE), ("some where elsé", ELSEWHERE)):
        folder = tmp_path_factory.mktemp("copy") / name
        shutil.copytree(ROOT / "multiclass", folder / "multiclass", ignore=shutil.ignore_patterns("results"))
        write_reviews(folder / "data" / "hôtels.csv")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
        command = [sys.executable, "main.py", "--path", "../data/hôtels.csv", "--model_name", str(tiny_encoder)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        processes.append(
            subprocess.Popen([*command, *OPTIONS], cwd=folder / "multiclass", env={**kept, **environment}, **pipes)
        )
        found.append(folder)
    for process in processes:
        output_of(process)
    return found


def contents(folder):
    files = [*(folder / "multiclass" / "results").rglob("*.*"), *(folder / "data" / "embeddings").glob("*.s*")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def test_a_run_with_its_embeddings_is_the_same_elsewhere_to_the_last_bit(folders):
    here, elsewhere = map(contents, folders)
    assert sorted(here) == sorted(elsewhere)
    assert len(here) == 7  # run.json, curves.csv, curves.png, three models, the stored embeddings
    assert [name for name in here if here[name] != elsewhere[name]] == []


def test_a_second_start_with_the_stored_embeddings_gives_the_same_bytes(folders, tiny_encoder, tmp_path):
    first = only_folder(folders[0] / "multiclass" / "results")
    arguments = ["--path", folders[0] / "data" / "hôtels.csv", "--model_name", tiny_encoder, "--output", tmp_path]
    assert "stored beside the data" in run_script("multiclass/main.py", [*arguments, *OPTIONS])
    second = only_folder(tmp_path)
    assert second.name == first.name
    names = sorted(file.name for file in first.iterdir())
    assert names == sorted(file.name for file in second.iterdir())
    differing = [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()]
    assert differing == ["run.json"]  # which holds the path as it was given
    one, other = (json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (first, second))
    assert one | {"path": None} == other | {"path": None}
