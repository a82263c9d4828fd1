"""A sweep: every seed with every loss, KL weight, kind of noise and ratio. Each finished run is kept at once."""

import multiprocessing
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import groupby
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from noisy_feedback import cluster, processes
from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.experiment import Trained, train_model, try_fine_tuning
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.output import console, tables
from noisy_feedback.output.records import SweepFolder
from noisy_feedback.prepare import prepare


def run_sweep(runs: Sequence[Config], embeddings_sha256: str | None = None) -> Path:
    """Run what is missing of a sweep, write its tables and figures, print the summary; returns the sweep's folder.

    `runs` are sorted and differ in SWEEP_AXES alone. A run that cannot be fine-tuned does not stop the others.
    Errors: InputError at the end that names such runs.
    """
    with ExitStack() as stack:
        client = None
        if runs[0].dask is not None:
            client = stack.enter_context(cluster.connect(runs[0].dask))  # a wrong address is found before embedding
        dataset = prepare(runs, embeddings_sha256)
        folder = SweepFolder(runs[0], dataset.provenance)
        folder.path.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(FileLock(folder.path / ".lock", blocking=False))
        except Timeout:
            way_out = "wait until it ends, or give another --output"
            raise InputError(f"another sweep is writing to {folder.path}; {way_out}") from None
        kept = folder.load()
        missing = [run for run in runs if run not in kept]
        print(f"sweep      {console.count(len(runs), 'run')}, {len(runs) - len(missing)} kept already")
        seeds = {run.seed for run in missing}  # each is trained once
        refused: dict[str, InputError] = {}  # by name of the run
        epochs = len(missing) * runs[0].epochs_f + len(seeds) * runs[0].epochs_t
        if missing:  # drawing needs matplotlib, whose import takes a second: now, while workers compute
            threading.Thread(target=import_module, args=["noisy_feedback.output.figures"], daemon=True).start()
        with tqdm(total=epochs, unit=" epochs", desc="sweep") as bar:
            results = run_locally(missing, dataset) if client is None else cluster.compute(client, missing, dataset)
            for run, result in results:
                if isinstance(result, InputError):
                    refused[folder.file_of(run).stem] = result
                else:
                    folder.save(result)
                    kept[run] = result
                bar.update(run.epochs_f + run.epochs_t * (run.seed in seeds))
                seeds.discard(run.seed)
        if kept:
            finished = [kept[run] for run in sorted(kept, key=Config.sort_key)]
            sweep, figures = tables.write(folder, finished)
            print(f"\n{console.summary_tables(sweep, finished)}")
            print(f"results    {folder.path}")
            print(f"figures    {', '.join(figure.name for figure in figures) or 'none: no epoch was run'}")
    if refused:
        names, reason = shorten(", ".join(refused), 400), next(iter(refused.values()))
        raise InputError(
            f"{len(refused)} of {console.count(len(runs), 'run')} cannot be fine-tuned: {reason} ({names})"
        )
    return folder.path


def run_locally(runs: Sequence[Config], dataset: Dataset) -> Iterator[tuple[Config, RunResult | InputError]]:
    """Compute the runs on this machine: on a GPU one after the other, else on all cores, one process and thread each.

    Processes, because threads wait for each other at Python's lock (benchmarks/README.md has the ratio). Each seed is
    trained, then its runs are fine-tuned. Fine-tunings go first, so that finished runs come early. When fewer of them
    wait than there are processes, the next seed is trained: later, the other processes would have nothing to do.
    """
    by_seed = [list(group) for _, group in groupby(runs, lambda run: run.seed)]
    workers = min(processes.available_cores(), len(runs))
    if dataset.embeddings.is_cuda or workers < 2:
        with single_threaded():
            for group in by_seed:
                trained = train_model(group[0], dataset)
                for run in group:
                    yield try_fine_tuning(run, dataset, trained)
        return
    with worker_processes(dataset, workers) as pool:
        trainings, tunings = deque(by_seed), deque[tuple[Config, Trained]]()
        pending: dict[Future, list[Config] | None] = {}  # the runs that wait for a training; None for a fine-tuning
        while trainings or tunings or pending:
            while len(pending) <= workers and (trainings or tunings):  # one task more, for the next idle process
                with processes.uninterrupted():  # it may start a worker
                    if trainings and len(tunings) < workers:
                        group = trainings.popleft()
                        pending[pool.submit(with_dataset, train_model, group[0])] = group
                    else:
                        pending[pool.submit(with_dataset, try_fine_tuning, *tunings.popleft())] = None
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: future.exception() is not None):  # keep what has finished
                waiting = pending.pop(future)
                if waiting is None:
                    yield future.result()
                else:
                    tunings.extend((run, future.result()) for run in waiting)


worker_dataset: Dataset  # of this worker process


@contextmanager
def worker_processes(dataset: Dataset, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share the embeddings through a memory-mapped file.

    However the block ends, they end with it. Errors: InputError where one of them was killed.
    """
    processes.start_server()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "embeddings.npy"
        np.save(file, dataset.embeddings.numpy())
        light = replace(dataset, embeddings=torch.empty(0))
        pool = ProcessPoolExecutor(workers, processes.CONTEXT, initializer=start_worker, initargs=(light, file))
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


def start_worker(dataset: Dataset, embeddings: Path) -> None:
    """Prepare a worker process: one thread, shared embeddings, and an end with the main process."""
    global worker_dataset
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


def with_dataset(function: Callable[..., Any], config: Config, *more: Any) -> Any:
    """Called in a worker process: the function of a run, the worker's data and more."""
    return function(config, worker_dataset, *more)
