"""A sweep in worker processes that is interrupted or loses a process: one line, nothing lost, nothing left running."""

import multiprocessing
import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from noisy_feedback.processes import available_cores
from tests.conftest import only_folder, options
from tests.slow.children import Child, patience

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available_cores() < 2, reason="on one core there are no worker processes"),
]

TABLES = ("sweep.json", "runs.csv", "curves.csv", "summary.csv")
# Long enough to be struck while runs are kept one after the other.
SWEEP = ("--k", 2, "--seeds", *range(6), "--ratio", 0, 0.5, "--epochs-t", 60, "--epochs-f", 60)
FOREVER = ("--seeds", *range(6), "--epochs-t", 10**6)  # training never ends


def wait_until(condition):
    """Wait for an event, and return what is true of it."""
    while not (found := condition()):
        time.sleep(0.01)
    return found


@pytest.fixture(autouse=True)
def _patience():
    with patience():
        yield


@pytest.fixture
def temporary():
    """A folder for temporary files whose name is short: it holds the sockets of the worker processes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def use_temporary(folder):
    tempfile.tempdir = str(folder)
    multiprocessing.current_process()._config.pop("tempdir", None)  # where the parent has its sockets


def start(reviews, output, *more, temporary=None):
    faults = [partial(use_temporary, temporary)] if temporary else []
    return Child("multiclass/config.py", options(reviews, output, *more), *faults)


def server_of(child):
    """The process that worker processes are forked from; None before it is started."""
    for process in psutil.Process(child.process.pid).children():
        if any("forkserver" in part for part in process.cmdline()):
            return process
    return None


def workers_of(child):
    server = server_of(child)
    return server.children() if server else []


def busy_workers(child):
    """The worker processes, when every one of them has begun to compute."""
    workers = workers_of(child)
    computing = [worker for worker in workers if worker.cpu_times().user > 0.5]
    return workers if len(workers) > 1 and len(computing) == len(workers) else None


def kept_runs(output):
    return {file.name: file.read_bytes() for file in output.glob("*/runs/[!.]*.json")}


def contents(output):
    return {name: (only_folder(output) / name).read_bytes() for name in TABLES} | kept_runs(output)


@pytest.fixture(scope="module")
def undisturbed(overlapping_reviews, tmp_path_factory):
    """What the sweep writes when nothing happens to it."""
    output = tmp_path_factory.mktemp("undisturbed")
    assert start(overlapping_reviews, output, *SWEEP).result() == (0, [])
    return contents(output)


# --- Ctrl-C

MOMENTS = {
    "when the server of workers starts": lambda child, output: server_of(child),
    "when the folder is made": lambda child, output: list(output.glob("*/.lock")),
    "when the first worker starts": lambda child, output: workers_of(child),
    "when all workers compute": lambda child, output: busy_workers(child),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_is_one_line_and_no_process_survives(overlapping_reviews, tmp_path, temporary, moment):
    child = start(overlapping_reviews, tmp_path, *FOREVER, temporary=temporary)
    wait_until(lambda: MOMENTS[moment](child, tmp_path))
    os.killpg(child.process.pid, signal.SIGINT)  # as a terminal does
    assert child.result()[0] == 130
    assert child.bytes.endswith(b"config.py: interrupted; files already written are complete\n"), child.bytes
    assert b"Traceback" not in child.bytes
    assert not list(temporary.iterdir())


# --- lost processes


@pytest.mark.parametrize("lost", ["a worker", "the main program"])
def test_a_process_that_is_killed_ends_all_others_and_costs_no_finished_run(
    overlapping_reviews, undisturbed, tmp_path, temporary, lost
):
    child = start(overlapping_reviews, tmp_path, *SWEEP, temporary=temporary)
    wait_until(lambda: kept_runs(tmp_path) and workers_of(child))
    if lost == "a worker":
        victim = workers_of(child)[0]
        os.kill(child.process.pid, signal.SIGSTOP)  # so that the sweep does not end before its worker does
        victim.kill()
        wait_until(lambda: victim.pid not in child.members())
        os.kill(child.process.pid, signal.SIGCONT)
        line = "config.py: error: a worker process was killed (out of memory?); runs that had finished are kept: "
        assert child.result() == (2, [line + "repeat the command"])
        assert not list(temporary.iterdir())
    else:
        child.process.kill()
        assert child.result()[0] == -signal.SIGKILL
    assert kept_runs(tmp_path).items() <= undisturbed.items()
    assert start(overlapping_reviews, tmp_path, *SWEEP).result() == (0, [])
    assert contents(tmp_path) == undisturbed
