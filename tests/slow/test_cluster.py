"""A sweep on a Dask cluster of real worker processes on this machine."""

import gc
import inspect
import os
import shutil
import signal
import textwrap
import threading
import time

import pytest
import torch
from distributed import LocalCluster

from noisy_feedback import cluster
from noisy_feedback.config import Config
from noisy_feedback.errors import InputError
from noisy_feedback.output.records import versions
from tests.conftest import files_of, only_folder, options, run_script
from tests.slow.children import patience

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_client_remains():
    """A client that could not connect is collected now: later, its end can wait forever for another one's start."""
    with patience():
        yield
    gc.collect()


# --- the results


def block():
    """The first worker takes a task and never ends it."""
    import os
    import time
    from pathlib import Path

    import noisy_feedback.cluster

    def never_ends(*_):
        Path(taken).symlink_to(str(os.getpid()))  # noqa: F821 (a value before the body)
        while True:
            time.sleep(1)

    if not Path(taken).is_symlink():  # noqa: F821
        noisy_feedback.cluster.train_model = never_ends


def test_a_cluster_gives_the_bytes_of_this_machine_though_a_worker_is_killed(overlapping_reviews, tmp_path):
    """Dask starts another worker in place of one that was killed."""
    sweep = ("--k", 2, "--seeds", *range(4), "--ratio", 0, 0.5)
    taken, preload = tmp_path / "taken", tmp_path / "block.py"
    run_script("multiclass/config.py", options(overlapping_reviews, tmp_path / "here", *sweep))
    body = textwrap.dedent(inspect.getsource(block).partition("\n")[2])
    preload.write_text(f"taken = {str(taken)!r}\n{body}")

    def kill_when_it_has_a_task():
        while not taken.is_symlink():
            time.sleep(0.01)
        os.kill(int(str(taken.readlink())), signal.SIGKILL)

    thread = threading.Thread(target=kill_when_it_has_a_task, daemon=True)
    thread.start()
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, preload=str(preload)) as local:
        more = ("--dask", local.scheduler_address)
        run_script("multiclass/config.py", options(overlapping_reviews, tmp_path / "there", *sweep, *more))
    thread.join()
    assert files_of(only_folder(tmp_path / "there")) == files_of(only_folder(tmp_path / "here"))


# --- what is refused


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:port"])
def test_a_wrong_address_is_one_line_before_anything_is_embedded(overlapping_reviews, tmp_path, capsys, address):
    data = shutil.copytree(overlapping_reviews.parent, tmp_path / "data")
    (data / "embeddings.pt").unlink()
    arguments = ["--path", data, "--output", tmp_path / "results", "--dask", address]
    run_script("multiclass/config.py", arguments, status=2)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith(f"config.py: error: --dask {address}: no scheduler answers there")
    assert [file.name for file in data.iterdir()] == [overlapping_reviews.name]


@pytest.mark.parametrize("name", ["code", "numpy"])
def test_a_worker_of_another_version_is_refused(name):
    expected = {**versions(), "device": "cpu", name: "0"}
    with pytest.raises(InputError, match=rf"a worker has {name} [\w.]+, this program has 0; restart the workers"):
        cluster.run_seed([Config("multiclass")], None, expected)


@pytest.mark.parametrize(("found", "name"), [(False, "no GPU"), (True, "NVIDIA A100")])
def test_a_worker_of_another_device_is_refused(monkeypatch, found, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    with pytest.raises(InputError, match=rf"^--dask: a worker has device {name}, this program has NVIDIA H100; "):
        cluster.run_seed([Config("multiclass")], None, {**versions(), "device": "NVIDIA H100"})
