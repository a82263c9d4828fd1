"""A sweep on a Dask cluster of real worker processes on this machine."""

import gc
import inspect
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack

import pytest
import torch

from noisy_feedback import cluster
from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset, Provenance
from noisy_feedback.errors import InputError
from noisy_feedback.output.records import versions
from tests.conftest import ROOT, only_folder, options, run_script
from tests.slow.children import patience

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_client_remains():
    """A client that could not connect is collected now: later, its end can wait forever for another one's start."""
    yield
    gc.collect()


SWEEP = ("--k", 2, "--seeds", *range(4), "--ratio", 0, 0.5)


class Cluster:
    """A scheduler and its workers, started as a user would; each ends with `stack`."""

    def __init__(self, stack, **environment):
        self.stack = stack
        line = self.begin("dask_scheduler", "Scheduler at:", "--host", "127.0.0.1", "--port", "0", **environment)[1]
        self.address = line.split()[-1]

    def worker(self, *more, **environment):
        """Start a worker of one thread, and wait until the scheduler knows it."""
        arguments = (self.address, "--nthreads", "1", *more)
        return self.begin("dask_worker", "Registered to:", *arguments, **environment)[0]

    def begin(self, program, ready, *arguments, **environment):
        """Start one of Dask's programs; the process, and the line with which it says that it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *arguments, "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=ROOT.parent,  # Python takes the current folder's packages first
            env={**os.environ, **environment},
        )
        self.stack.callback(end, process)
        line = next(line for line in process.stderr if ready in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop it
        return process, line


def end(process):
    """Kill a program and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def dask():
    """A cluster without workers."""
    with patience(), ExitStack() as stack:
        yield Cluster(stack)


def preload(tmp_path, function, **values):
    """A file that a worker runs when it starts: the body of a function, after these values."""
    body = textwrap.dedent(inspect.getsource(function).partition("\n")[2])
    file = tmp_path / f"{function.__name__}.py"
    file.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()) + body)
    return "--preload", str(file)


def contents(output):
    """The files of the one sweep: name -> content."""
    folder = only_folder(output)
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def kept_runs(output):
    return list(output.glob("*/runs/*.json"))


def sweep(reviews, output, *more, status=0):
    return run_script("multiclass/config.py", options(reviews, output, *SWEEP, *more), status)


def error_line(capsys):
    """The last line on stderr; there is no traceback before it."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


# --- the results


def block():
    """A worker that takes a task and never ends it."""
    import time
    from pathlib import Path

    import noisy_feedback.cluster

    def never_ends(*_):
        Path(taken).touch()  # noqa: F821 (a value of the preload)
        while True:
            time.sleep(1)

    noisy_feedback.cluster.train_model = never_ends


def test_a_cluster_gives_the_bytes_of_this_machine_though_a_worker_is_killed(overlapping_reviews, dask, tmp_path):
    sweep(overlapping_reviews, tmp_path / "here")
    taken = tmp_path / "taken"
    blocked = dask.worker("--no-nanny", *preload(tmp_path, block, taken=str(taken)))

    def replace_when_it_has_a_task():
        while not taken.exists():
            time.sleep(0.01)
        dask.worker("--no-nanny")
        end(blocked)

    thread = threading.Thread(target=replace_when_it_has_a_task, daemon=True)
    thread.start()
    sweep(overlapping_reviews, tmp_path / "there", "--dask", dask.address)
    thread.join()
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


# --- what is refused


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:port"])
def test_a_wrong_address_is_one_line_before_anything_is_embedded(overlapping_reviews, tmp_path, capsys, address):
    data = shutil.copytree(overlapping_reviews.parent, tmp_path / "data")
    (data / "embeddings.pt").unlink()
    arguments = ["--path", data, "--output", tmp_path / "results", "--dask", address]
    with patience():
        run_script("multiclass/config.py", arguments, status=2)
    assert error_line(capsys).startswith(f"config.py: error: --dask {address}: no scheduler answers there")
    assert [file.name for file in data.iterdir()] == [overlapping_reviews.name]


@pytest.mark.parametrize("name", ["code", "numpy"])
def test_a_worker_of_another_version_that_comes_late_is_refused_too(name):
    with pytest.raises(InputError, match=rf"a worker has {name} [\w.]+, this program has 0; restart the workers"):
        cluster.run_seed([Config("multiclass")], None, None, {**versions(), name: "0"})


@pytest.mark.parametrize(("found", "name"), [(False, "no GPU"), (True, "NVIDIA A100")])
def test_a_worker_of_another_device_is_refused(monkeypatch, found, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    dataset = Dataset(torch.empty(0), None, None, [], Provenance(None, None, "NVIDIA H100"))
    with pytest.raises(InputError, match=rf"^--dask: a worker has {name}, this program has NVIDIA H100; "):
        cluster.run_seed([Config("multiclass")], dataset, torch.ones(1, 1).numpy(), versions())
