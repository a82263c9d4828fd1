"""Kills, full disks, unwritable folders, two at once, a clock set back: nothing is lost, nothing is half-written.

`--thorough N` injects N times as many faults, at random moments of their own.
"""

import csv
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("faults are injected by Linux's means", allow_module_level=True)

from tests import children

MAIN, CONFIG = "multiclass/main.py", "multiclass/config.py"
ROWS = 1100  # five chunks of embeddings
WRITES = {MAIN: 5 + 1 + 4, CONFIG: 5 + 1 + 22 + 8}  # chunks and the store; a run's files, or kept runs and tables


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny_encoder):
    """Reviews to be embedded by a tiny encoder, in a folder that anybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o755)
    generator = random.Random(0)
    with (folder / "hotels.csv").open("w", newline="", encoding="utf-8") as lines:
        reviews = [("".join(generator.choices("abcd efgh", k=30)) + "z", generator.randint(1, 5)) for _ in range(ROWS)]
        csv.writer(lines).writerows([("Review", "Rating"), *reviews])
    shutil.copytree(tiny_encoder, folder / "encoder")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def place(original):
    """A fresh folder beside it for everything that is written: `data` and `results`; anybody may write there."""
    folder = Path(tempfile.mkdtemp(prefix="place-", dir=original))
    (folder / "data").mkdir()
    shutil.copy(original / "hotels.csv", folder / "data")
    for each in (folder, folder / "data"):
        each.chmod(0o777)
    yield folder
    for each in folder.rglob("*"):
        if each.is_dir():
            each.chmod(0o777)
    shutil.rmtree(folder)


def given(folder, script=MAIN):
    encoder = next(parent for parent in folder.parents if parent.name.startswith("faults-")) / "encoder"
    options = ["--path", folder / "data" / "hotels.csv", "--model_name", encoder, "--output", folder / "results"]
    epochs = 40 if script == MAIN else 3  # learning takes as long as embedding
    options += ["--epochs-t", epochs, "--epochs-f", epochs, "--k", 2, "--ratio"]
    return [*options, 0.2] if script == MAIN else [*options, 0, 0.5, "--seeds", *range(11)]


def result(folder, script, *faults):
    return children.Child(script, given(folder, script), *faults).result()


def files_of(folder):
    """Every whole file that was written: name -> content, wherever it lies. No locks, temporary files, chunks."""
    found = {}
    for part in ("data/embeddings", "results"):
        for file in (folder / part).rglob("*"):
            name = file.relative_to(folder / part).as_posix()
            if file.is_file() and not file.name.startswith(".") and file.suffix != ".lock" and ".partial/" not in name:
                found[f"{part}/{name}"] = file.read_bytes().replace(str(folder).encode(), b"HERE")
    return found


@pytest.fixture(scope="module")
def undisturbed(original):
    """script -> what it leaves when nothing happens, and how long that takes."""
    found = {}
    for script in (MAIN, CONFIG):
        folder = original / f"undisturbed-{Path(script).stem}"
        (folder / "data").mkdir(parents=True)
        shutil.copy(original / "hotels.csv", folder / "data")
        result(folder, script, partial(children.kill_at_write, 1, "half"))  # the server starts
        shutil.rmtree(folder / "data/embeddings")
        before = time.monotonic()
        assert result(folder, script) == (0, [])
        found[script] = files_of(folder), time.monotonic() - before
    return found


def assert_whole(folder, expected):
    """What is there is whole: every file is as it would be if nothing had happened."""
    for name, content in files_of(folder).items():
        assert content == expected[name], f"{name} is corrupt"


def ends_as_undisturbed(folder, script, undisturbed):
    status, said = result(folder, script)
    assert (status, said) == (0, []), said
    assert files_of(folder) == undisturbed[script][0]
    assert not list(folder.rglob("*.partial"))


PHASES = ("starting", "embedding", "learning", "writing")


def under_way(folder):
    """What the process was at when it was killed, from what it has left."""
    if list(folder.glob("data/embeddings/*.safetensors")):
        with suppress(FileNotFoundError):  # a folder that comes and goes
            return "writing" if any(file.is_file() for file in folder.glob("results/*/[!.]*")) else "learning"
        return "learning"
    return "embedding" if list(folder.glob("data/embeddings/*.partial/*")) else "starting"


def some(of, script, thorough, seed):
    """Some of the places where a fault may strike, another choice for every thoroughness; a sweep takes longer."""
    return random.Random(f"{seed}{thorough}").sample(of, min(len(of), (3 if script == MAIN else 1) * thorough))


# --- kills


@pytest.mark.parametrize("script", [MAIN, CONFIG])
def test_killed_at_random_moments_the_next_start_ends_as_if_nothing_had_happened(place, undisturbed, script, thorough):
    expected, seconds = undisturbed[script]
    moments = random.Random(f"{script}{thorough}")
    kills = Counter()
    for _ in range(thorough):
        for folder in (place / "data" / "embeddings", place / "results"):
            shutil.rmtree(folder, ignore_errors=True)
        for phase in ("embedding", "embedding", "learning", "writing"):  # from where the last kill has left it
            child = children.Child(script, given(place, script))
            while child.process.is_alive() and PHASES.index(under_way(place)) < PHASES.index(phase):
                time.sleep(0.002)
            child.process.join(0.15 * seconds * moments.random())
            child.process.kill()
            if child.result()[0] == -9:
                kills[under_way(place)] += 1
            assert_whole(place, expected)
        ends_as_undisturbed(place, script, undisturbed)
    print(f"\n{script}: {dict(kills)} killed at random moments, 0 runs lost, 0 files corrupt")
    assert kills.total() > 0


@pytest.mark.parametrize("moment", ["half", "before", "after"])
@pytest.mark.parametrize("script", [MAIN, CONFIG])
def test_killed_at_a_write_the_next_start_ends_as_if_nothing_had_happened(place, undisturbed, script, moment, thorough):
    expected, _ = undisturbed[script]
    numbers = some(range(1, WRITES[script] + 1), script, thorough, seed=moment)
    for number in numbers:
        status, _ = result(place, script, partial(children.kill_at_write, number, moment))
        assert status == -9
        assert_whole(place, expected)
        ends_as_undisturbed(place, script, undisturbed)
        for folder in (place / "data" / "embeddings", place / "results"):
            shutil.rmtree(folder)
    print(f"\n{script}: {len(numbers)} kills at writes ({moment}), 0 runs lost, 0 files corrupt")


# --- full disks


def one_line(status, said):
    """The fault was told in one line, after warnings at most."""
    assert status == 2, (status, said)
    *warnings, line = said
    assert all(text.startswith("warning: ") for text in warnings), said
    assert ".py: error: " in line, said
    return line


@pytest.mark.parametrize("script", [MAIN, CONFIG])
def test_when_a_file_cannot_grow_the_program_says_so_and_goes_on_when_it_can(place, undisturbed, script, thorough):
    expected, _ = undisturbed[script]
    sizes = sorted({len(content) for content in expected.values()})
    points = [0, *(size - 1 for size in sizes)]
    chosen = some(points, script, thorough, seed="size")
    for size in chosen:
        line = one_line(*result(place, script, partial(children.limit_files, size)))
        assert "File too large" in line
        assert_whole(place, expected)
        ends_as_undisturbed(place, script, undisturbed)
        for folder in (place / "data" / "embeddings", place / "results"):
            shutil.rmtree(folder)
    print(f"\n{script}: {len(chosen)} files that could not grow, 0 runs lost, 0 files corrupt")


@pytest.fixture
def small_disk(place):
    """A disk of two megabytes for everything that is written; gives its folder."""
    import subprocess

    folder = place / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.decode().strip()}")
    (folder / "data").mkdir()
    shutil.copy(place / "data" / "hotels.csv", folder / "data")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_the_program_says_so_and_goes_on_when_there_is_room(small_disk, undisturbed, thorough):
    expected, _ = undisturbed[MAIN]
    needed = sum(map(len, expected.values())) * 2
    rooms = random.Random(thorough)
    ballast = small_disk / "ballast"
    full = 0
    for _ in range(5 * thorough):
        room = rooms.randrange(0, needed)
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - room)))
        status, said = result(small_disk, MAIN)
        if status:
            full += 1
            assert "No space left on device" in one_line(status, said)
        assert_whole(small_disk, expected)
        ballast.unlink()
        ends_as_undisturbed(small_disk, MAIN, undisturbed)
        for folder in (small_disk / "data" / "embeddings", small_disk / "results"):
            shutil.rmtree(folder)
    print(f"\n{full} full disks, 0 runs lost, 0 files corrupt")
    assert full > 0


# --- unwritable folders


@pytest.mark.parametrize(
    ("script", "name"),
    [*((MAIN, f"data{name}") for name in ("", "/embeddings", "/embeddings/*.partial")), (MAIN, "results"),
     (MAIN, "results/k2_*"), (CONFIG, "results/sweep_*"), (CONFIG, "results/sweep_*/runs")],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_told_or_costs_nothing(place, undisturbed, script, name):
    nobody = children.obey_permissions
    expected, _ = undisturbed[script]
    if name.endswith("partial"):  # there is one after a kill only
        result(place, script, nobody, partial(children.kill_at_write, 3, "after"))
    else:
        assert result(place, script, nobody)[0] == 0
    folders = list(place.glob(name))
    for file in place.glob("data/embeddings/*.safetensors") if name.startswith("data") else folders[0].rglob("*.json"):
        file.unlink()  # so that there is something to write
    folders[0].chmod(0o555)
    status, said = result(place, script, nobody)
    if name in ("data", "data/embeddings") and status == 0:  # embeddings that cannot be stored cost a warning
        assert all(line.startswith("warning: embeddings cannot be stored in ") for line in said)
    elif status:
        line = one_line(status, said)
        assert "ermission denied" in line or "cannot be written" in line
    assert_whole(place, expected)
    folders[0].chmod(0o777)
    ends_as_undisturbed(place, script, undisturbed)


# --- two at once, and the clock


def test_several_at_once_on_one_store_some_killed_all_end_with_the_same_bytes(place, undisturbed, thorough):
    expected, seconds = undisturbed[MAIN]
    moments = random.Random(thorough)
    killed = 0
    for _ in range(thorough):
        start = partial(children.wait_until, time.time() + 0.5)
        at_a_write = partial(children.kill_at_write, moments.randint(1, 4), "half")
        together = [children.Child(MAIN, given(place), start, at_a_write)]
        together += [children.Child(MAIN, given(place), start) for _ in range(3)]
        together[1].process.join(0.5 + seconds * moments.random())
        together[1].process.kill()
        statuses = [child.result()[0] for child in together]
        killed += statuses.count(-9)
        assert statuses[0] == -9
        assert statuses[2:] == [0, 0]
        assert files_of(place) == expected
        for folder in (place / "data" / "embeddings", place / "results"):
            shutil.rmtree(folder)
    print(f"\n{4 * thorough} processes on one store, {killed} of them killed, 0 runs lost, 0 files corrupt")


@pytest.mark.parametrize("script", [MAIN, CONFIG])
def test_a_clock_that_is_set_back_changes_nothing(place, undisturbed, script):
    assert result(place, script, children.set_clock_back) == (0, [])
    assert files_of(place) == undisturbed[script][0]


def test_files_from_the_future_are_found(place, undisturbed):
    import os

    assert result(place, CONFIG)[0] == 0
    for file in place.rglob("*"):
        os.utime(file, (time.time() + 10**8,) * 2)
    kept = files_of(place)
    assert result(place, CONFIG) == (0, [])
    assert files_of(place) == kept == undisturbed[CONFIG][0]
    with suppress(FileNotFoundError):
        assert not list((place / "data/embeddings").glob("*.partial"))
