"""A sweep: every seed with every loss, KL weight, kind of noise and ratio. Each finished run is kept at once."""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from signal import SIG_BLOCK, SIG_IGN, SIG_SETMASK, SIGINT, pthread_sigmask, signal
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from noisy_feedback import cluster
from noisy_feedback.config import Config, Sweep
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.errors import InputError
from noisy_feedback.experiment import Trained, fine_tune_model, prepare, train_model
from noisy_feedback.files import check_writable
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.output import console
from noisy_feedback.output.records import RunResult, SweepFolder


def run_sweep(sweep: Sweep, embeddings_sha256: str | None = None) -> Path:
    """Run what is missing of a sweep, write its tables and figures, print the summary; returns the sweep's folder."""
    check_writable(sweep.config.output / (sweep.config.name or ""))
    with ExitStack() as stack:
        client = None
        if sweep.dask is not None:
            client = stack.enter_context(cluster.connect(sweep.dask))  # a wrong address is found before embedding
        else:
            start_workers_early()
        dataset = prepare(sweep.runs, embeddings_sha256)
        folder = SweepFolder(sweep, dataset.provenance)
        lock(folder.path, stack)
        missing = [run for run in sweep.runs if not folder.has(run)]
        print(f"sweep      {len(sweep.runs)} runs, of which {len(sweep.runs) - len(missing)} are kept already")
        with tqdm(total=epochs_of(missing), unit=" epochs", desc="sweep") as bar:
            results = compute_here(missing, dataset) if client is None else cluster.compute(client, missing, dataset)
            seeds: set[int] = set()
            for result in results:
                folder.save(result)
                bar.update(len(result.fine_tuning) + len(result.training) * (result.config.seed not in seeds))
                seeds.add(result.config.seed)
        from noisy_feedback.output import tables  # imports scipy and matplotlib, which worker processes do without

        kept = folder.load_all()
        summary, figures = tables.write(folder, kept)
    print(f"\n{console.summary_tables(summary, kept)}")
    print(f"results    {folder.path}")
    print(f"figures    {', '.join(figure.name for figure in figures) or 'none: no epoch was run'}")
    return folder.path


def epochs_of(runs: Sequence[Config]) -> int:
    """How many epochs it takes: every seed is trained once."""
    return sum(run.epochs_f for run in runs) + sum(next(group).epochs_t for _, group in groupby(runs, seed_of))


def seed_of(run: Config) -> int:
    return run.seed


def lock(folder: Path, stack: ExitStack) -> None:
    """Lock the folder until `stack` closes. Errors: InputError where another sweep holds the lock."""
    folder.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(folder / ".lock")
    try:
        file_lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another sweep is writing to {folder}; wait until it ends, or give another --output"
        ) from None
    stack.callback(file_lock.release)


def compute_here(runs: Sequence[Config], dataset: Dataset) -> Iterator[RunResult]:
    """Compute the runs on this machine: on a GPU one after the other, else on all cores, one process and thread each.

    Processes, because threads wait for each other at Python's lock (benchmarks/README.md has the ratio).
    """
    by_seed = [list(group) for _, group in groupby(runs, seed_of)]
    workers = min(available_cores(), len(runs))
    if dataset.embeddings.is_cuda or workers < 2:
        with single_threaded():
            for group in by_seed:
                trained = train_model(group[0], dataset)
                for run in group:
                    yield fine_tune_model(run, dataset, trained)[0]
        return
    with worker_processes(dataset, workers) as pool:
        yield from schedule(pool, workers, by_seed)


def schedule(pool: ProcessPoolExecutor, workers: int, by_seed: Sequence[list[Config]]) -> Iterator[RunResult]:
    """Train each seed, then fine-tune its runs; fine-tunings go first, so that finished runs come early."""
    trainings, tunings = deque(by_seed), deque[tuple[Config, Trained]]()
    pending: dict[Future, list[Config] | None] = {}  # the runs that wait for a training; None for a fine-tuning
    while trainings or tunings or pending:
        while len(pending) < workers and (trainings or tunings):
            with delayed_interrupt():  # a worker process that was started half is not known and outlives Ctrl-C
                if tunings:
                    pending[pool.submit(fine_tune_in_worker, *tunings.popleft())] = None
                else:
                    group = trainings.popleft()
                    pending[pool.submit(train_in_worker, group[0])] = group
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda future: future.exception() is not None):  # keep what has finished
            waiting = pending.pop(future)
            if waiting is None:
                yield future.result()
            else:
                tunings.extend((run, future.result()) for run in waiting)


# --- worker processes. They are forked from a server that has imported this module and computes nothing, which is
# safe whatever threads the main program has (a fork of the main program itself is not), on Linux and macOS.
CONTEXT = multiprocessing.get_context("forkserver")
worker_dataset: Dataset  # of this worker process


def start_workers_early() -> None:
    """Let the server import its libraries while this process reads the data.

    Errors: InputError where the folder for temporary files has too long a name for a socket.
    """
    if available_cores() < 2:
        return
    CONTEXT.set_forkserver_preload(["noisy_feedback.sweep"])
    multiprocessing.resource_tracker.ensure_running()  # which would unblock the signal
    before = pthread_sigmask(SIG_BLOCK, {SIGINT})  # the server inherits this: Ctrl-C reaches the whole group, and
    try:  # the main process reports it
        multiprocessing.forkserver.ensure_running()
    except OSError as error:
        raise InputError(
            f"worker processes cannot be started ({error}); set the environment variable TMPDIR to a short path, /tmp"
        ) from None
    finally:
        pthread_sigmask(SIG_SETMASK, before)


@contextmanager
def worker_processes(dataset: Dataset, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share the embeddings through a memory-mapped file.

    However the block ends, they end with it. Errors: InputError where one of them was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "embeddings.npy"
        np.save(file, dataset.embeddings.numpy())
        light = replace(dataset, embeddings=torch.empty(0))
        pool = ProcessPoolExecutor(workers, CONTEXT, initializer=start_worker, initargs=(light, file))
        try:
            yield pool
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed (out of memory?); runs that had finished are kept: repeat the command"
            ) from None
        finally:
            for child in multiprocessing.active_children():
                child.terminate()  # idle, or working for nobody: results are written by this process alone
            pool.shutdown(cancel_futures=True)


@contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Ctrl-C takes effect when the block ends."""
    received: list[Any] = []
    handler = signal(SIGINT, lambda *given: received.append(given))
    try:
        yield
    finally:
        signal(SIGINT, handler)
    if received and callable(handler):
        handler(*received[0])


def start_worker(dataset: Dataset, embeddings: Path) -> None:
    """Prepare a worker process: one thread, shared embeddings, and an end with the main process."""
    global worker_dataset
    signal(SIGINT, SIG_IGN)  # Ctrl-C reaches the whole group; the main process reports it
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()
    # Copy on write: PyTorch wants writable memory, and nothing writes.
    worker_dataset = replace(dataset, embeddings=torch.from_numpy(np.load(embeddings, mmap_mode="c")))


def end_with_parent() -> None:
    """End this process when the main process has ended, however it did."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def train_in_worker(config: Config) -> Trained:
    return train_model(config, worker_dataset)


def fine_tune_in_worker(config: Config, trained: Trained) -> RunResult:
    return fine_tune_model(config, worker_dataset, trained)[0]


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
