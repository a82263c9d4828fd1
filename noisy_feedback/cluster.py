"""A sweep's runs on a Dask cluster: groups of seeds as tasks, the embeddings sent once per worker."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from noisy_feedback.errors import InputError
from noisy_feedback.experiment import Material, run_all
from noisy_feedback.results import Outcome
from noisy_feedback.settings import SEEDS_AT_ONCE, Settings, groups_of_seeds

LOCAL = "local"  # --dask local: a cluster of this machine's cores
TRIES = 5  # of a group whose worker was lost
TIMEOUT = 5  # seconds for a scheduler to answer


def check_installed() -> None:
    """Refuse --dask where its library is missing."""
    if find_spec("distributed") is None:
        raise InputError(
            '--dask: distributed is not installed: in the project folder pip install -c constraints.txt -e ".[cluster]"'
        )


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of the cluster at `address`. Errors: InputError where nobody answers."""
    import distributed

    with ExitStack() as stack:
        if address == LOCAL:
            cluster = distributed.LocalCluster(threads_per_worker=1, dashboard_address=None)
            address = stack.enter_context(cluster).scheduler_address
        try:
            client = stack.enter_context(distributed.Client(address, timeout=TIMEOUT))
        except (OSError, ValueError) as error:
            raise InputError(f"--dask {address}: no scheduler answers there ({type(error).__name__})") from None
        yield client


def run_on_cluster(client: Any, runs: Sequence[Settings], material: Material) -> Iterator[list[Outcome]]:
    """Run every group of seeds on the cluster; give each group's outcomes as it finishes.

    A lost worker costs its tasks another try. Errors: InputError where the cluster keeps losing the same work.
    """
    from distributed import KilledWorker, as_completed

    if not client.scheduler_info()["workers"]:
        print("waiting for the cluster's first worker", file=sys.stderr)
        client.wait_for_workers(1)  # a queue may keep it for hours
    workers = max(1, len(client.scheduler_info()["workers"]))
    seeds = len({run.seed for run in runs})
    waiting = list(groups_of_seeds(runs, size=min(SEEDS_AT_ONCE, max(1, seeds // (4 * workers)))))
    for _ in range(TRIES):
        arrays = (material.vectors.cpu().numpy(), material.ratings, material.labels)
        sent = client.scatter(arrays, broadcast=True, hash=False)
        futures = {client.submit(run_group, group, sent, material.origin, pure=False): group for group in waiting}
        for future in as_completed(futures):
            if future.status == "finished":
                yield future.result()
                waiting.remove(futures[future])
            elif future.status == "error" and not isinstance(future.exception(), KilledWorker):
                raise future.exception()  # not a lost worker: it would only happen again
        if not waiting:
            return
    raise InputError(f"--dask: the cluster lost the same runs {TRIES} times; see its workers' logs")


def run_group(
    runs: Sequence[Settings], arrays: tuple[np.ndarray, np.ndarray, np.ndarray], origin: dict[str, Any]
) -> list[Outcome]:
    """One task: some runs, on one thread of a worker, to the same bits as anywhere else."""
    torch.set_num_threads(1)
    vectors, ratings, labels = arrays
    device = origin["device"] if torch.cuda.is_available() else "cpu"
    # A copy: arrays that came over the network may be read-only, and torch takes none of those.
    material = Material(torch.from_numpy(np.array(vectors)).to(device), ratings, labels, origin)
    found = run_all(runs, material, workers=1, progress=lambda phase, count: None, tell=lambda text: None)
    return [outcome for outcome, _ in found]
