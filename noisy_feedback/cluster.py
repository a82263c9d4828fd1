"""A sweep's runs on a Dask cluster: a task is one seed, and the data set is sent to each worker once."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import torch

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.experiment import train_model, try_fine_tuning
from noisy_feedback.output.records import versions

TRIES = 5  # of a seed whose worker was lost
TIMEOUT = 5  # seconds for a scheduler to answer
RESTART = "restart the workers, with the same environment and code"


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """A client of the cluster at `address`. Errors: InputError where the library is missing or nobody answers."""
    try:
        import distributed
    except ImportError:
        raise InputError(
            '--dask: distributed is not installed: in the project folder pip install -c constraints.txt -e ".[cluster]"'
        ) from None
    with ExitStack() as stack:
        if address == "local":
            local = distributed.LocalCluster(threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(local).scheduler_address
        try:
            client = stack.enter_context(distributed.Client(address, timeout=TIMEOUT))
        except (OSError, ValueError) as error:
            raise InputError(f"--dask {address}: no scheduler answers there ({type(error).__name__})") from None
        yield client


def compute(client: Any, runs: Sequence[Config], dataset: Dataset) -> Iterator[tuple[Config, RunResult | InputError]]:
    """Compute every seed's runs on the cluster; give each seed's results as it finishes.

    A lost worker costs its seeds another try. Errors: InputError where the cluster loses the same seed again and
    again, or a worker has other code, versions or another device.
    """
    from distributed import KilledWorker, as_completed

    waiting = [list(group) for _, group in groupby(runs, lambda run: run.seed)]
    parts = [replace(dataset, embeddings=torch.empty(0)), dataset.embeddings.cpu().numpy()]
    for _ in range(TRIES):
        if not waiting:
            return
        if not client.scheduler_info()["workers"]:
            print("waiting for a worker of the cluster", file=sys.stderr)
            client.wait_for_workers(1)  # a queue may keep it for hours
        try:
            sent = client.scatter(parts, broadcast=True, hash=False)
        except OSError:
            continue  # the last worker was lost just now
        except Exception as error:  # Dask passes on what the worker's import raised, or its text
            raise InputError(f"--dask: a worker cannot load this program ({error}); {RESTART}") from None
        futures = {client.submit(run_seed, group, *sent, versions(), pure=False): group for group in list(waiting)}
        for future in as_completed(futures):
            if future.status == "finished":
                yield from future.result()
                waiting.remove(futures[future])
            elif future.status == "error" and not isinstance(future.exception(), KilledWorker):
                raise future.exception()  # not a lost worker: it would only happen again
    if waiting:
        raise InputError(f"--dask: the cluster lost the same seeds {TRIES} times; see its workers' logs")


def check_versions(expected: dict[str, str]) -> None:
    """Called on a worker. Errors: InputError where it would compute with other code or packages than the client."""
    found = versions()  # of the code that this worker has in memory
    for name, version in expected.items():
        if found.get(name) != version:
            raise InputError(f"--dask: a worker has {name} {found.get(name)}, this program has {version}; {RESTART}")


def run_seed(
    runs: Sequence[Config], dataset: Dataset, embeddings: np.ndarray, expected: dict[str, str]
) -> list[tuple[Config, RunResult | InputError]]:
    """One task: a training and its fine-tunings, on one thread of a worker.

    Errors: InputError on a worker that would compute something else than this project's client.
    """
    check_versions(expected)
    wanted = dataset.provenance.device  # "cpu", or the GPU's model
    if wanted != "cpu" and (here := torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU") != wanted:
        raise InputError(f"--dask: a worker has {here}, this program has {wanted}; use the same, or no --use-cuda")
    torch.set_num_threads(1)
    # A copy: arrays from the network may be read-only, which torch refuses, and lie at any address.
    vectors = torch.tensor(embeddings, device="cpu" if wanted == "cpu" else "cuda")
    dataset = replace(dataset, embeddings=vectors)
    trained = train_model(runs[0], dataset)
    return [try_fine_tuning(run, dataset, trained) for run in runs]
