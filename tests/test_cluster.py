"""A sweep on a Dask cluster of real worker processes on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from tests.conftest import arguments, run, start
from tests.test_sweep import contents

SWEEP = ["--k", 2, "--seeds", *range(6), "--ratio", 0, 0.5]


def begin(stack, *command):
    """One of Dask's programs; it ends with `stack`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


@pytest.fixture
def cluster():
    """A scheduler and two worker processes, started as a user would; gives the address and the workers."""
    with ExitStack() as stack:
        scheduler = begin(stack, "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
        threading.Thread(target=scheduler.stderr.read, daemon=True).start()  # a full pipe would stop it
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        workers = [begin(stack, "dask_worker", address, *options) for _ in range(2)]
        for worker in workers:
            next(line for line in worker.stderr if "Registered to:" in line)
            threading.Thread(target=worker.stderr.read, daemon=True).start()
        yield address, workers


def test_a_cluster_gives_the_same_bytes_as_this_machine_though_a_worker_is_killed(planted_data, cluster, tmp_path):
    address, workers = cluster
    epochs = ("150", "30")
    run("multiclass/config.py", arguments(planted_data, tmp_path / "here", *SWEEP, epochs=epochs))
    killed = []

    def kill_one_half_way():
        while not list((tmp_path / "there").glob("sweep_*/runs/*.json")):
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)
        killed.append(len(list((tmp_path / "there").glob("sweep_*/runs/*.json"))))

    thread = threading.Thread(target=kill_one_half_way)
    thread.start()
    run("multiclass/config.py", arguments(planted_data, tmp_path / "there", *SWEEP, "--dask", address, epochs=epochs))
    thread.join()
    assert 0 < killed[0] < 12  # it was under way
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_local_cluster_needs_no_address(planted_data, tmp_path):
    more = ["--k", 2, "--seeds", 0, 1, "--ratio", 0, 0.5, "--dask", "local"]
    process = start("multiclass/config.py", *arguments(planted_data, tmp_path, *more))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(list(tmp_path.glob("sweep_*/runs/*.json"))) == 4


def test_a_cluster_whose_workers_are_still_queued_is_waited_for(planted_data, tmp_path):
    with ExitStack() as stack:
        scheduler = begin(stack, "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
        threading.Thread(target=scheduler.stderr.read, daemon=True).start()
        more = ["--seeds", 0, 1, "--ratio", 0, "--dask", address]
        process = start("multiclass/config.py", *arguments(planted_data, tmp_path, *more))
        for line in process.stderr:
            if "waiting for the cluster's first worker" in line:
                begin(stack, "dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
                break
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(list(tmp_path.glob("sweep_*/runs/*.json"))) == 2
