"""Kills at every kind of write, and files that cannot grow: nothing is lost, no file is incomplete.

`--thorough N` tries N times as many sizes at which files cannot grow.
"""

import csv
import random
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the faults are injected by means of Linux", allow_module_level=True)

from tests.slow import children

pytestmark = pytest.mark.slow

MAIN, CONFIG = "multiclass/main.py", "multiclass/config.py"
SCRIPTS = [MAIN, CONFIG]
ROWS = 1100  # five chunks of embeddings
CHUNK = f"{'?' * 64}.safetensors"  # a file of stored embeddings: named by its SHA-256


@pytest.fixture(autouse=True)
def patience(thorough):
    with children.patience(thorough):
        yield


@pytest.fixture(scope="module")
def original(tiny_encoder, tmp_path_factory):
    """Reviews to be embedded by a tiny encoder."""
    folder = tmp_path_factory.mktemp("faults-")
    rng = random.Random(0)
    with (folder / "hotels.csv").open("w", newline="", encoding="utf-8") as lines:
        reviews = [("".join(rng.choices("abcd efgh", k=30)) + "z", rng.randint(1, 5)) for _ in range(ROWS)]
        csv.writer(lines).writerows([("Review", "Rating"), *reviews])
    shutil.copytree(tiny_encoder, folder / "encoder")
    return folder


@pytest.fixture
def place(original):
    """A new folder for everything that is written, `data` and `results`."""
    folder = Path(tempfile.mkdtemp(prefix="place-", dir=original))
    (folder / "data").mkdir()
    shutil.copy(original / "hotels.csv", folder / "data")
    yield folder
    shutil.rmtree(folder)


def arguments(folder, script=MAIN):
    encoder = next(parent for parent in folder.parents if parent.name.startswith("faults-")) / "encoder"
    options = ["--path", folder / "data" / "hotels.csv", "--model_name", encoder, "--output", folder / "results"]
    epochs = 40 if script == MAIN else 10  # learning takes about as long as embedding
    options += ["--epochs-t", epochs, "--epochs-f", epochs, "--k", 2, "--ratio"]
    return [*options, 0.2] if script == MAIN else [*options, 0, 0.5, "--seeds", *range(6)]


def result(folder, script, *faults):
    return children.Child(script, arguments(folder, script), *faults).result()


def files_of(folder):
    """Every complete file: name -> content, wherever the folder is. No locks, no temporary files."""
    files = [file for part in ("data/embeddings", "results") for file in (folder / part).rglob("*") if file.is_file()]
    return {
        file.relative_to(folder).as_posix(): file.read_bytes().replace(str(folder).encode(), b"HERE")
        for file in files
        if not file.name.startswith(".") and file.suffix != ".lock"
    }


def empty(folder):
    """Remove what the programs have written."""
    for written in (folder / "data" / "embeddings", folder / "results"):
        shutil.rmtree(written, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(original):
    """script -> the files that it leaves without a fault."""
    found = {}
    with children.patience():
        for script in SCRIPTS:
            folder = original / f"undisturbed-{Path(script).stem}"
            (folder / "data").mkdir(parents=True)
            shutil.copy(original / "hotels.csv", folder / "data")
            assert result(folder, script) == (0, [])
            found[script] = files_of(folder)
    return found


def assert_complete(folder, expected):
    """Every file that is there is as it is without a fault."""
    for name, content in files_of(folder).items():
        assert content == expected[name], f"{name} is corrupt"


def ends_as_undisturbed(folder, script, undisturbed):
    assert result(folder, script) == (0, [])
    assert files_of(folder) == undisturbed[script]


# --- kills


WRITES = {
    MAIN: (CHUNK, CHUNK, "curves.csv", "model_before.*", "model_last.*", "feedback.csv", "run.json", "curves.png"),
    CONFIG: (
        *(CHUNK, CHUNK, "seed-0_*", "seed-5_*", "curves.csv", "runs.csv", "summary.csv", "curves.png", "metrics.pdf"),
        *("audit.png", "sweep.json"),
    ),
}


@pytest.mark.parametrize("moment", ["half", "before", "after"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_killed_at_every_kind_of_write_the_next_start_ends_as_if_nothing_had_happened(
    place, undisturbed, script, moment
):
    """One kill after another, each where the start after the last one arrives."""
    for pattern in WRITES[script]:
        status, _ = result(place, script, partial(children.kill_at_write, pattern, moment))
        assert status == -signal.SIGKILL, pattern
        assert_complete(place, undisturbed[script])
    ends_as_undisturbed(place, script, undisturbed)
    print(f"\n{script}: {len(WRITES[script])} kills at writes ({moment}), 0 runs lost, 0 files corrupt")


# --- files that cannot grow


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_file_that_cannot_grow_is_one_line_and_the_next_start_goes_on(place, undisturbed, script, thorough):
    sizes = sorted({len(content) for content in undisturbed[script].values()})
    points = [size - 1 for size in sizes]  # not 0: libraries that write a few bytes when imported print warnings then
    chosen = random.Random(f"{script}{thorough}").sample(points, min(len(points), 3 * thorough))
    for size in chosen:
        status, (*warnings, line) = result(place, script, partial(children.limit_files, size))
        assert status == 2
        assert ".py: error: " in line and "File too large" in line
        assert all(text.startswith("warning: ") for text in warnings)
        assert_complete(place, undisturbed[script])
        ends_as_undisturbed(place, script, undisturbed)
        empty(place)
    print(f"\n{script}: {len(chosen)} files that could not grow, 0 runs lost, 0 files corrupt")
