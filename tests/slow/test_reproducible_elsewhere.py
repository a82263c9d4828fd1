"""The same command gives the same bytes elsewhere: folder, locale, time zone, hash seed, number of threads."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, output_of
from tests.end_to_end.test_reproducible import OPTIONS, write_reviews

pytestmark = pytest.mark.slow

HERE = {"HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"}
ELSEWHERE = HERE | {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7"}
ELSEWHERE |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


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
        started = {"cwd": folder / "multiclass", "env": {**kept, **environment}, **pipes}
        processes.append(subprocess.Popen([*command, *OPTIONS, "--ratio", "0.3"], **started))
        found.append(folder)
    for process in processes:
        output_of(process)
    return found


def contents(folder):
    files = [*(folder / "multiclass" / "results").rglob("*.*"), *(folder / "data" / "embeddings").rglob("*.s*")]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def test_a_run_with_its_embeddings_is_the_same_elsewhere_to_the_last_bit(folders):
    here, elsewhere = map(contents, folders)
    assert sorted(here) == sorted(elsewhere)
    assert len(here) == 8  # run.json, curves.csv, feedback.csv, curves.png, three models, the stored embeddings
    assert [name for name in here if here[name] != elsewhere[name]] == []
