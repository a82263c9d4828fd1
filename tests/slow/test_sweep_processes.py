"""A sweep in worker processes that is interrupted or loses a process: one line, nothing lost, nothing left running.

No test waits for a number of seconds, but for events; PATIENCE only ends what hangs.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from noisy_feedback.processes import available_cores
from tests.conftest import only_folder, options, output_of, start_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs sessions and signals"),
    pytest.mark.skipif(available_cores() < 2, reason="on one core there are no worker processes"),
]

PATIENCE = 600  # seconds, however loaded the machine is
TABLES = ("sweep.json", "runs.csv", "curves.csv", "summary.csv")
# Long enough to be struck while runs are kept one after the other.
SWEEP = ("--k", 2, "--seeds", *range(6), "--ratio", 0, 0.5, "--epochs-t", 60, "--epochs-f", 60)
FOREVER = ("--seeds", *range(6), "--epochs-t", 10**6)  # training never ends


def processes_of(session):
    """Everything that runs in a session, orphans included."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


def wait_until(condition):
    """Wait for an event, and return what is true of it."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "hangs"
        time.sleep(0.01)
    return found


@pytest.fixture
def temporary():
    """A folder for temporary files whose name is short: it holds the sockets of the worker processes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def start(overlapping_reviews, tmp_path, temporary):
    """Start a sweep in a session of its own, with a folder of its own for temporary files; ends all that is left."""
    started = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT

    def start(output, *more):
        arguments = options(overlapping_reviews, tmp_path / output, *more)
        process = start_script("multiclass/config.py", *arguments, session=True, TMPDIR=str(temporary))
        started.append(process)
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in started:
        for left in processes_of(process.pid):
            left.kill()
        process.communicate()


def server_of(process):
    """The process that worker processes are forked from; None before it is started."""
    for child in psutil.Process(process.pid).children():
        if any("forkserver" in part for part in child.cmdline()):
            return child
    return None


def workers_of(process):
    server = server_of(process)
    return server.children() if server else []


def busy_workers(process):
    """The worker processes, when every one of them has begun to compute."""
    workers = workers_of(process)
    computing = [worker for worker in workers if worker.cpu_times().user > 0.5]
    return workers if len(workers) > 1 and len(computing) == len(workers) else None


def kept_runs(output):
    return {file.name: file.read_bytes() for file in output.glob("*/runs/[!.]*.json")}


def contents(output):
    return {name: (only_folder(output) / name).read_bytes() for name in TABLES} | kept_runs(output)


def ended(process, status):
    """Wait until a program and all processes that it started have ended; returns the lines on stderr but for bars."""
    error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == status, error
    wait_until(lambda: not processes_of(process.pid))
    return [line for line in error.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]


@pytest.fixture(scope="module")
def undisturbed(overlapping_reviews, tmp_path_factory):
    """What the sweep writes when nothing happens to it."""
    output = tmp_path_factory.mktemp("undisturbed")
    output_of(start_script("multiclass/config.py", *options(overlapping_reviews, output, *SWEEP)))
    return contents(output)


# --- Ctrl-C

MOMENTS = {
    "when the server of workers starts": lambda process, output: server_of(process),
    "when the folder is made": lambda process, output: list(output.glob("*/.lock")),
    "when the first worker starts": lambda process, output: workers_of(process),
    "when all workers compute": lambda process, output: busy_workers(process),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_is_one_line_and_no_process_survives(start, tmp_path, temporary, moment):
    process = start("results", *FOREVER)
    wait_until(lambda: process.poll() is not None or MOMENTS[moment](process, tmp_path / "results"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert ended(process, 130) == ["config.py: interrupted; files already written are complete"]
    assert not list(temporary.iterdir())


# --- lost processes


def test_a_worker_that_is_killed_is_one_line_and_costs_no_finished_run(start, undisturbed, tmp_path, temporary):
    process = start("results", *SWEEP)

    def first_run_is_kept():
        assert process.poll() is None
        return kept_runs(tmp_path / "results") and workers_of(process)

    victim = wait_until(first_run_is_kept)[0]
    os.kill(process.pid, signal.SIGSTOP)  # so that the sweep does not end before its worker does
    kept = kept_runs(tmp_path / "results")
    victim.kill()
    wait_until(lambda: victim not in processes_of(process.pid))
    os.kill(process.pid, signal.SIGCONT)
    (line,) = ended(process, 2)
    assert line == (
        "config.py: error: a worker process was killed (out of memory?); runs that had finished are kept: "
        "repeat the command"
    )
    assert not list(temporary.iterdir())
    assert kept.items() <= kept_runs(tmp_path / "results").items() <= undisturbed.items()
    output_of(start("results", *SWEEP))
    assert contents(tmp_path / "results") == undisturbed


def test_when_the_main_program_is_killed_its_workers_end_too(start, undisturbed, tmp_path):
    process = start("results", *SWEEP)
    wait_until(lambda: kept_runs(tmp_path / "results"))
    process.kill()
    ended(process, -signal.SIGKILL)
    assert kept_runs(tmp_path / "results").items() <= undisturbed.items()
    output_of(start("results", *SWEEP))
    assert contents(tmp_path / "results") == undisturbed
