"""How long the published sweep takes, against its arithmetic, an older checkout, threads and plain PyTorch.

    python benchmarks/sweep.py                              both sizes of data
    python benchmarks/sweep.py --before ../older_checkout   and the same command of another checkout
    python benchmarks/sweep.py --data-like sst5 --growth    one size; and over reviews, seeds and dimensions
    python benchmarks/sweep.py --use-cuda                   and the sweep on a GPU

The sweep is `python config.py --k 3 --pc`: 5 seeds x 5 ratios, 30 + 30 epochs, on made-up embeddings that depend on
the rating. What is compared is measured in turn, A B A B; every ratio is the median of the ratios of neighbours. On a
busy machine CPU times say more than seconds.
"""

import argparse
import ctypes
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import pandas as pd
import psutil
import torch
from torch import nn

from noisy_feedback.config import RATIOS, SEEDS, Config, default_values, grid
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.data.splits import split_dataset
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.feedback.comparisons import build_lists
from noisy_feedback.learning import losses
from noisy_feedback.learning.model import WEIGHT_DECAY
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.prepare import prepare
from noisy_feedback.processes import available_cores, start_server
from noisy_feedback.sweep import run_locally

ROOT = Path(__file__).parents[1]
ROUNDS = 3
T = TypeVar("T")
SIZES = {  # name: reviews per rating, dimensions of a usual encoder
    "tripadvisor": ((1421, 1793, 2184, 6039, 9054), 768),
    "sst5": ((1510, 3140, 2242, 3111, 1852), 384),
}


@dataclass(frozen=True)
class Checkout:
    """A version of this project: its command runs with its own modules."""

    root: Path

    def sweep(self, file: Path, *options: str) -> subprocess.Popen:
        """Start the published sweep on a file, with results in a folder of its own, so that nothing is kept."""
        output = tempfile.mkdtemp(prefix="results-", dir=file.parent)
        command = [sys.executable, "config.py", "--k", "3", "--pc", "--path", str(file), "--output", output, *options]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(self.root)}
        return subprocess.Popen(
            command,
            cwd=self.root / "multiclass",
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def cost(self, file: Path, *options: str) -> "Cost":
        """What the sweep takes, from the start of the process to its end."""
        cpu, start = cpu_of_children(), time.perf_counter()
        process = self.sweep(file, *options)
        status, seconds = process.wait(), time.perf_counter() - start
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-process.pid, 0)  # the processes that it started
        if status:
            raise SystemExit(f"config.py of {self.root} ended with status {status}")
        return Cost(seconds, cpu_of_children() - cpu)


@dataclass(frozen=True)
class Cost:
    """Seconds of a process, and CPU seconds of it and all processes that it started."""

    seconds: float
    cpu: float


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends, so that their CPU time is known. Linux."""
    pr_set_child_subreaper = 36  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_reviews(folder: Path, counts: Sequence[int], dimensions: int) -> Path:
    """Reviews with these counts of ratings in random order, and embeddings.pt: a direction per rating, and noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    ratings = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    directions = rng.normal(size=(len(counts), dimensions)).astype(np.float32)
    vectors = 0.08 * directions[ratings] + rng.standard_normal((len(ratings), dimensions), dtype=np.float32)
    torch.save(torch.from_numpy(vectors / np.float32(dimensions**0.5)), folder / "embeddings.pt")
    reviews = [f"review {number}" for number in range(len(ratings))]
    pd.DataFrame({"Review": reviews, "Rating": ratings + 1}).to_csv(folder / "reviews.csv", index=False)
    return folder / "reviews.csv"


def runs_of(file: Path, seeds: Sequence[int] = SEEDS) -> list[Config]:
    """The runs of the published sweep."""
    more = {"path": file, "pc": True, "k": 3, "seed": tuple(seeds)}
    return grid(default_values("multiclass", "config.py") | more)


def load(runs: Sequence[Config]) -> Dataset:
    with redirect_stdout(io.StringIO()):
        return prepare(runs)


def in_turn(*works: Callable[[], T], between: Callable[[], None] = lambda: None) -> list[list[T]]:
    """What each of the works returns, (works, rounds), after a first round that does not count."""
    measured = []
    for _ in range(1 + ROUNDS):
        between()
        measured.append([work() for work in works])
    return [list(values) for values in zip(*measured[1:], strict=True)]


def ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    return median(a / b for a, b in zip(values, reference, strict=True))


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """The same work, returning its seconds."""

    def measure() -> float:
        start = clock()
        work()
        return clock() - start

    return measure


def show(what: str, value: float, unit: str = "s") -> None:
    print(f"{what:62} {value:9.2f} {unit}".rstrip(), flush=True)


def published_sweep(file: Path, before: Path | None) -> None:
    """The process from start to files, its multiply-adds, and the older checkout."""
    rates: list[float] = []
    works = [lambda: Checkout(ROOT).cost(file)]
    if before is not None:
        works.append(lambda: Checkout(before).cost(file))
    ours, *others = in_turn(*works, between=lambda: rates.append(multiply_add_rate()))
    count, seconds = multiply_adds(file), [cost.seconds for cost in ours]
    alone = [count / rate for rate in rates[-len(ours) :]]
    show("the published sweep, start of the process to files", median(seconds))
    show("multiply-adds of its matrix products", count / 1e9, "G")
    show(f"rate of torch.mm, float32, {torch.get_num_threads()} threads", count / median(alone) / 1e9, "G/s")
    show("the multiply-adds alone at that rate", median(alone))
    show("  the process over these (goals: tripadvisor 2.7, sst5 4.8)", ratio(seconds, alone), "")
    show("CPU time of all its processes", median(cost.cpu for cost in ours))
    for older in others:
        show("the same command of the older checkout", median(cost.seconds for cost in older))
        show("  ours over the older one (goal: at most 1.15)", ratio(seconds, [cost.seconds for cost in older]), "")
        show("CPU time of the older one", median(cost.cpu for cost in older))
        show("  ours over the older one", ratio([cost.cpu for cost in ours], [cost.cpu for cost in older]), "")


def multiply_adds(file: Path) -> int:
    """Of all matrix products: forward and both backward ones per batch row, forward ones per validation row."""
    tables = [pd.read_csv(table) for table in file.parent.glob("results-*/*/runs.csv")]
    runs = next(table for table in tables if "reviews_used" in table)  # an older checkout may have other columns
    config, dimensions = runs_of(file)[0], torch.load(file.parent / "embeddings.pt", weights_only=True).shape[1]
    reviews = len(pd.read_csv(file))
    splits = split_dataset(reviews)
    products = [n_in * n_out for n_in, n_out in pairwise((dimensions, *config.hidden, 5))]
    learn = 2 * sum(products) + sum(products[1:])  # no gradient goes into the embeddings
    validation = len(splits.validation) * sum(products)
    training = runs["seed"].nunique() * config.epochs_t * (len(splits.train) * learn + validation)
    return training + config.epochs_f * (int(runs["reviews_used"].sum()) * learn + len(runs) * validation)


def multiply_add_rate(size: int = 2048, tries: int = 20) -> float:
    """Multiply-adds per second of torch.mm on all cores, float32: the best of some tries."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return size**3 / min(timed(lambda: torch.mm(a, b))() for _ in range(tries))


def threads_and_processes(file: Path) -> None:
    """The sweep's runs without start-up and files, in threads and in processes of one thread each."""
    runs = runs_of(file)
    dataset = load(runs)
    start_server()
    processes, threads = in_turn(
        timed(lambda: list(run_locally(runs, dataset))), timed(lambda: compute_in_threads(runs, dataset))
    )
    show(f"the 25 runs alone, in {available_cores()} processes", median(processes))
    show(f"the 25 runs alone, in {available_cores()} threads", median(threads))
    show("  threads over processes", ratio(threads, processes), "")


def compute_in_threads(runs: Sequence[Config], dataset: Dataset) -> None:
    """Every seed is trained once, then fine-tuned, on as many threads as there are cores."""
    first = {run.seed: run for run in reversed(runs)}
    with ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        trained = {seed: pool.submit(train_model, run, dataset) for seed, run in first.items()}
        # The pool starts tasks in order, so every training that a fine-tuning waits for has been started.
        for task in [pool.submit(lambda r: fine_tune_model(r, dataset, trained[r.seed].result()), r) for r in runs]:
            task.result()


def plain_pytorch(file: Path) -> None:
    """One run, ours and as one would write it first: nn.Sequential, autograd, optim.Adam. CPU time on one thread."""
    config = runs_of(file)[0]
    dataset = load([config])
    trained = train_model(config, dataset)
    phases: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "training": (lambda: train_model(config, dataset), lambda: plain_training(config, dataset)),
        "fine-tuning": (
            lambda: fine_tune_model(config, dataset, trained),
            lambda: plain_fine_tuning(config, dataset),
        ),
    }
    for phase, works in phases.items():
        with single_threaded():
            ours, plain = in_turn(*(timed(work, time.process_time) for work in works))
        show(f"{phase} of one run, one thread", median(ours))
        show("  plain PyTorch over ours", ratio(plain, ours), "")


def plain_training(config: Config, dataset: Dataset) -> None:
    rows = torch.from_numpy(split_dataset(len(dataset.ratings)).train)
    plain_epochs(dataset, rows, config.epochs_t, config.batch_t, config.lr_t, nn.functional.cross_entropy)


def plain_fine_tuning(config: Config, dataset: Dataset) -> None:
    """On lists made from the true ratings; making them is part of the time, as it is of ours."""
    rows = split_dataset(len(dataset.ratings)).fine_tuning
    lists = build_lists(dataset.ratings[rows], config.k, len(dataset.scale), np.random.default_rng(0))

    def loss(logits: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
        return losses.study(logits, ratings).sum()

    plain_epochs(dataset, torch.from_numpy(rows[lists]), config.epochs_f, config.batch_f, config.lr_f, loss)


def plain_epochs(
    dataset: Dataset, rows: torch.Tensor, epochs: int, batch: int, learning_rate: float, loss: Callable
) -> None:
    """Epochs over rows (n,), or lists of rows (n, k+1), each followed by predictions for the validation part."""
    x, ratings = dataset.embeddings, torch.from_numpy(dataset.ratings)
    validation = torch.from_numpy(split_dataset(len(ratings)).validation)
    layers = [nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, len(dataset.scale))]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    for _ in range(epochs):
        for chosen in rows[torch.randperm(len(rows))].split(batch):
            optimizer.zero_grad()
            loss(model(x[chosen]), ratings[chosen]).backward()
            optimizer.step()
        with torch.no_grad():
            (model(x[validation]).argmax(-1) == ratings[validation]).double().mean().item()


def memory(file: Path) -> None:
    """Peak memory of the sweep with 2 + 2 epochs, by the number of seeds."""
    print("peak memory, 2 + 2 epochs: main process, server and workers together, shared pages counted once (PSS)")
    peaks = [peak_memory(file, seeds) for seeds in (5, 20)]
    for seeds, peak in zip((5, 20), peaks, strict=True):
        show(f"  {seeds} seeds, {seeds * len(RATIOS)} runs", peak / 2**30, "GiB")
    show("  20 seeds over 5 (goal: 1)", peaks[1] / peaks[0], "")


def peak_memory(file: Path, seeds: int) -> int:
    """The largest sum of PSS over the processes of a sweep, looked at every 50 ms. Linux."""
    numbers = map(str, range(1, seeds + 1))
    sweep = Checkout(ROOT).sweep(file, "--seeds", *numbers, "--epochs-t", "2", "--epochs-f", "2")
    main, peak = psutil.Process(sweep.pid), 0
    while sweep.poll() is None:
        peak = max(peak, sum(map(pss, [main, *main.children(recursive=True)])))
        time.sleep(0.05)
    if sweep.returncode:
        raise SystemExit(f"config.py ended with status {sweep.returncode}")
    return peak


def pss(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:  # it has ended
        return 0


def growth(folder: Path) -> None:
    """Seconds of the runs alone by reviews, seeds and dimensions: 768 dimensions and one seed unless said."""
    shares = np.array(SIZES["tripadvisor"][0]) / sum(SIZES["tripadvisor"][0])
    cases = [("reviews", n, n, 1, 768) for n in (5_000, 50_000, 500_000)]
    cases += [("seeds", n, 20_491, n, 768) for n in (1, 10, 100)]
    cases += [("dimensions", n, 20_491, 1, n) for n in (96, 384, 1536)]
    print("\nthe runs alone, ratios 0 to 0.8; 20,491 reviews, 1 seed, 768 dimensions unless said")
    for what, size, reviews, seeds, dimensions in cases:
        file = write_reviews(folder / f"{what}{size}", np.round(shares * reviews).astype(int).tolist(), dimensions)
        dataset = load(runs_of(file))
        start = time.perf_counter()
        for _ in run_locally(runs_of(file, range(seeds)), dataset):
            pass
        show(f"  {size:9,} {what}", time.perf_counter() - start)


def on_the_gpu(file: Path) -> None:
    """The whole process on the GPU against the CPU."""
    if not torch.cuda.is_available():
        print("no GPU that torch can use: not measured")
        return
    gpu, cpu = in_turn(lambda: Checkout(ROOT).cost(file, "--use-cuda"), lambda: Checkout(ROOT).cost(file))
    show(f"the published sweep on {torch.cuda.get_device_name()}", median(cost.seconds for cost in gpu))
    show("  the CPU over the GPU", ratio([cost.seconds for cost in cpu], [cost.seconds for cost in gpu]), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="folder of an older checkout of this project")
    parser.add_argument("--data-like", choices=SIZES, nargs="+", default=list(SIZES), help="sizes of the made-up data")
    parser.add_argument("--growth", action="store_true", help="also over reviews, seeds and dimensions")
    parser.add_argument("--use-cuda", action="store_true", help="also on the GPU")
    given = parser.parse_args()
    before = given.before and given.before.resolve()
    if before and not (before / "multiclass" / "config.py").is_file():
        parser.error(f"--before {given.before}: holds no multiclass/config.py")
    adopt_orphans()
    with tempfile.TemporaryDirectory() as name:
        for size in given.data_like:
            counts, dimensions = SIZES[size]
            file = write_reviews(Path(name) / size, counts, dimensions)
            print(f"\n{sum(counts):,} reviews, {dimensions} dimensions ({size})")
            published_sweep(file, before)
            threads_and_processes(file)
            plain_pytorch(file)
            memory(file)
            if given.use_cuda:
                on_the_gpu(file)
        if given.growth:
            growth(Path(name))


if __name__ == "__main__":
    main()
