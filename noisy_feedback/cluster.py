"""A sweep's runs on a Dask cluster: a task is one seed, and each worker gets the data set once."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.experiment import train_model, try_fine_tuning
from noisy_feedback.output.records import versions

TIMEOUT = 5  # seconds for a scheduler to answer
RESTART = "restart the workers, with the same environment and code"


def connect(address: str) -> Any:
    """A client of the cluster at `address`. Errors: InputError where the library is missing or nobody answers."""
    try:
        import distributed
    except ImportError:
        raise InputError(
            '--dask: distributed is not installed: in the project folder pip install -c constraints.txt -e ".[cluster]"'
        ) from None
    where = {"threads_per_worker": 1, "dashboard_address": None} if address == "local" else {"address": address}
    try:
        return distributed.Client(timeout=TIMEOUT, **where)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler answers there ({type(error).__name__})") from None


def compute(client: Any, runs: Sequence[Config], dataset: Dataset) -> Iterator[tuple[Config, RunResult | InputError]]:
    """Compute every seed's runs on the cluster; give each seed's results as it finishes.

    Dask tries the seeds of a lost worker again. Errors: InputError where it gives up, where the scheduler is lost, and
    where a worker would compute something else than this program.
    """
    from distributed import CancelledError, KilledWorker, as_completed

    if not client.scheduler_info()["workers"]:
        print("waiting for a worker of the cluster", file=sys.stderr)
        client.wait_for_workers(1)  # a queue may keep it for hours
    expected = {**versions(), "device": dataset.provenance.device}
    try:
        client.run(check_worker, expected)
    except InputError:
        raise
    except Exception as error:  # Dask passes on what the worker's import raised, or its text
        raise InputError(f"--dask: a worker cannot load this program ({error}); {RESTART}") from None
    with warnings.catch_warnings(action="ignore"):  # that the task is large
        # Workers get its result from each other, and Dask repeats it where all are lost that have it.
        sent = client.submit(copy, replace(dataset, embeddings=dataset.embeddings.cpu()), pure=False)
    seeds = [list(group) for _, group in groupby(runs, lambda run: run.seed)]
    try:
        for task in as_completed(client.map(run_seed, seeds, dataset=sent, expected=expected, pure=False)):
            yield from task.result()
    except (KilledWorker, CancelledError) as error:
        raise InputError(f"--dask: {error}") from None


def check_worker(expected: Mapping[str, str]) -> None:
    """Called on a worker. Errors: InputError where it would compute with other code, packages or device."""
    found = {**versions(), "device": "cpu"}  # of the code that this worker has in memory
    if expected["device"] != "cpu":
        found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    for name, value in expected.items():
        if found.get(name) != value:
            raise InputError(f"--dask: a worker has {name} {found.get(name)}, this program has {value}; {RESTART}")


def run_seed(
    runs: Sequence[Config], dataset: Dataset, expected: Mapping[str, str]
) -> list[tuple[Config, RunResult | InputError]]:
    """One task: a training and its fine-tunings, on one thread of a worker, which may have joined after connect."""
    check_worker(expected)
    torch.set_num_threads(1)
    here = replace(dataset, embeddings=dataset.embeddings.to("cpu" if expected["device"] == "cpu" else "cuda"))
    trained = train_model(runs[0], here)
    return [try_fine_tuning(run, here, trained) for run in runs]
