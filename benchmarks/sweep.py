"""How long the published sweep takes, what of it is arithmetic, and how the time grows.

    python benchmarks/sweep.py             the published sweep: 20,491 reviews, 5 seeds x 5 ratios, k = 3
    python benchmarks/sweep.py --growth    beside it, over reviews, seeds and dimensions

The embeddings are made up: a rating-dependent direction plus noise, 768 dimensions, learnable to about 0.76.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from noisy_feedback import losses
from noisy_feedback.experiment import Material, choose_parts, give_feedback, run_all
from noisy_feedback.regressor import HIDDEN
from noisy_feedback.results import SweepFolder, runs_table
from noisy_feedback.settings import Settings, Sweep
from noisy_feedback.summary import summarise
from noisy_feedback.training import TRAINING_BATCH, TRAINING_RATE, WEIGHT_DECAY, one_thread

SHARES = np.array([1421, 1793, 2184, 6039, 9054]) / 20491
SEEDS = [84, 42, 21, 2, 1]
RATIOS = [0.0, 0.2, 0.4, 0.6, 0.8]
ROOT = Path(__file__).parent.parent
SHARED = Settings(
    study="multiclass",
    gap=None,
    path=Path(),
    model_name="made up",
    pooling="model",
    pc=True,
    use_cuda=False,
    ratio=0.0,
    k=3,
    head="categorical",
    noise="uniform",
    loss="study",
    anchor=0.0,
    flip_rate=None,
    as_published=(),
    epochs_t=30,
    epochs_f=30,
    lr_f=1e-3,
    batch_f=512,
    seed=84,
    shuffle=False,
    text_column="Review",
    rating_column="Rating",
    output=Path(),
)


def made_up(n: int = 20491, dimensions: int = 768) -> Material:
    """Embeddings that tell the rating, with error, and ratings in TripAdvisor's shares."""
    generator = np.random.default_rng(0)
    ratings = generator.choice(len(SHARES), size=n, p=SHARES)
    directions = generator.normal(size=(len(SHARES), dimensions)).astype(np.float32)
    vectors = 0.08 * directions[ratings] + generator.normal(size=(n, dimensions)).astype(np.float32)
    origin = {"data": {"sha256": "made up"}, "encoder": {"sha256": "made up"}, "device": "cpu"}
    scaled = torch.from_numpy(vectors / np.float32(dimensions**0.5))
    return Material(scaled, ratings.astype(np.int64), np.arange(1, len(SHARES) + 1), origin)


def sweep_of(seeds: Sequence[int], ratios: Sequence[float]) -> Sweep:
    return Sweep(SHARED, seeds, ["study"], [0.0], ["uniform"], ratios, dask=None)


def runs_of(seeds: Sequence[int], ratios: Sequence[float]) -> list[Settings]:
    return sweep_of(seeds, ratios).runs()


def multiply_adds(runs: Sequence[Settings], material: Material) -> int:
    """Of all matrix products: forward and both backward ones per batch row, forward ones per evaluated row."""
    widths = (material.vectors.shape[1], *HIDDEN, len(material.labels))
    products = [n_in * n_out for n_in, n_out in pairwise(widths)]
    learn = 2 * sum(products) + sum(products[1:])  # no gradient goes into the embeddings
    parts = choose_parts(runs[0], len(material.ratings))
    evaluate = len(parts.validation) * sum(products)
    seeds = len({run.seed for run in runs})
    lists = sum(give_feedback(run, material, parts.fine_tuning).lists.size for run in runs)
    training = seeds * SHARED.epochs_t * (len(parts.train) * learn + evaluate)
    return training + SHARED.epochs_f * (lists * learn + len(runs) * evaluate)


def matrix_rate(size: int = 2048, tries: int = 20) -> float:
    """Multiply-adds per second of torch.mm on all cores, float32: the best of some tries."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return size**3 / min(seconds)


def as_one_process(folder: Path, material: Material, *more: str) -> float:
    """Seconds of `python config.py --k 3 --pc`, and whatever more, from its start to its files."""
    reviews = [f"review {number}" for number in range(len(material.ratings))]
    frame = pd.DataFrame({"Review": reviews, "Rating": material.ratings + 1})
    frame.to_csv(folder / "reviews.csv", index=False)
    torch.save(material.vectors, folder / "embeddings.pt")
    command = [sys.executable, "config.py", "--k", "3", "--pc", *more]
    command += ["--path", str(folder / "reviews.csv"), "--output", str(folder / "results")]
    start = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=ROOT / "multiclass", check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def breakdown(runs: Sequence[Settings], material: Material, folder: Path) -> dict[str, float]:
    """Seconds of each part of a sweep, in this process."""
    reached: dict[str, float] = {}

    def progress(phase: str, _: int) -> None:
        reached[phase] = time.perf_counter()

    start = time.perf_counter()
    with one_thread() as cores:
        found = run_all(runs, material, cores, progress, tell=lambda text: None)
    computed = time.perf_counter()
    outcomes = [outcome for outcome, _ in found]
    summary = summarise(runs_table(outcomes))
    sweep = sweep_of(SEEDS, RATIOS)
    SweepFolder(replace(sweep, run=replace(SHARED, output=folder)), material.origin).write_tables(outcomes, summary)
    written = time.perf_counter()
    return {
        "training": reached["training"] - start,
        "noise, lists, fine-tuning": reached["fine_tuning"] - reached["training"],
        "test metrics": computed - reached["fine_tuning"],
        "statistics, tables, figures": written - computed,
    }


def seconds_to_import() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import noisy_feedback.sweep"], check=True)
    return time.perf_counter() - start


def plain_pytorch(material: Material) -> tuple[float, float]:
    """Seconds of one training and of one fine-tuning (noise 0) as one would write them first: nn, autograd, Adam."""
    parts = choose_parts(SHARED, len(material.ratings))
    vectors, ratings = material.vectors, torch.from_numpy(material.ratings)
    widths = (vectors.shape[1], *HIDDEN, len(material.labels))
    model = nn.Sequential(
        nn.Linear(widths[0], widths[1]),
        nn.ReLU(),
        nn.Linear(widths[1], widths[2]),
        nn.ReLU(),
        nn.Linear(widths[2], widths[3]),
    )
    generator = np.random.default_rng(0)

    def epoch(rows: np.ndarray, batch: int, optimiser: torch.optim.Optimizer, tuning: bool) -> None:
        order = torch.from_numpy(generator.permutation(rows))
        for chosen in order.split(batch):
            logits = model(vectors[chosen])
            if tuning:
                loss = losses.study(logits.unsqueeze(0), ratings[chosen].unsqueeze(0)).sum()
            else:
                loss = nn.functional.cross_entropy(logits, ratings[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            model(vectors[torch.from_numpy(parts.validation)]).argmax(-1)

    lists = parts.fine_tuning[give_feedback(SHARED, material, parts.fine_tuning).lists]
    seconds = []
    for rows, batch, rate, count, tuning in (
        (parts.train, TRAINING_BATCH, TRAINING_RATE, SHARED.epochs_t, False),
        (lists, SHARED.batch_f, SHARED.lr_f, SHARED.epochs_f, True),
    ):
        optimiser = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
        start = time.perf_counter()
        for _ in range(count):
            epoch(rows, batch, optimiser, tuning)
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def mlp_classifier(material: Material) -> float:
    """Seconds of scikit-learn's MLPClassifier for the training of one seed."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.utils._testing import ignore_warnings

    rows = choose_parts(SHARED, len(material.ratings)).train
    classifier = MLPClassifier(
        HIDDEN, batch_size=TRAINING_BATCH, learning_rate_init=TRAINING_RATE, max_iter=SHARED.epochs_t, tol=0
    )
    start = time.perf_counter()
    ignore_warnings(category=ConvergenceWarning)(classifier.fit)(material.vectors[rows].numpy(), material.ratings[rows])
    return time.perf_counter() - start


def published_sweep() -> None:
    material, runs = made_up(), runs_of(SEEDS, RATIOS)
    with tempfile.TemporaryDirectory() as folder:
        total = as_one_process(Path(folder), material)
        parts = breakdown(runs, material, Path(folder))
    count, rate = multiply_adds(runs, material), matrix_rate()
    print(f"the published sweep as one process, start to files   {total:8.2f} s")
    print(f"  starting Python, importing libraries               {seconds_to_import():8.2f} s")
    for name, seconds in parts.items():
        print(f"  {name:50} {seconds:8.2f} s")
    print(f"multiply-adds of its matrix products                 {count / 1e9:8.0f} G")
    print(f"torch.mm, float32, {torch.get_num_threads()} threads                          {rate / 1e9:8.0f} G/s")
    print(f"the multiply-adds alone at that rate                 {count / rate:8.2f} s")
    print(f"  the whole process takes                            {total * rate / count:8.2f} times that")
    print(f"  training and fine-tuning take                      {sum(list(parts.values())[:2]) * rate / count:8.2f}")
    with one_thread():  # networks this small gain nothing from more, and on a busy machine lose much
        train, tune = plain_pytorch(material)
    plain = len(SEEDS) * len(RATIOS) * (train + tune)
    print(f"plain PyTorch, one run: training                     {train:8.2f} s, fine-tuning {tune:.2f} s")
    print(f"  25 such runs, each with its training, would take   {plain / total:8.2f} times the whole process")
    print(f"scikit-learn's MLPClassifier, training of one seed   {mlp_classifier(material):8.2f} s")


def on_the_gpu() -> None:
    """The published sweep on the GPU, once to wake it up, against the CPU in the same run."""
    if not torch.cuda.is_available():
        print("\nno GPU that torch can use: not measured")
        return
    seconds = {}
    for name, more in (("warm-up", ["--use-cuda"]), ("GPU", ["--use-cuda"]), ("CPU", [])):
        with tempfile.TemporaryDirectory() as folder:
            seconds[name] = as_one_process(Path(folder), made_up(), *more)
    print(f"\nthe published sweep on {torch.cuda.get_device_name()}   {seconds['GPU']:8.2f} s")
    print(f"  the CPU takes                                      {seconds['CPU'] / seconds['GPU']:8.2f} times that")


def growth() -> None:
    print("\nseconds of run_all, ratios 0 to 0.8, one seed unless said")
    cases = [("reviews", n, made_up(n), runs_of([1], RATIOS)) for n in (5_000, 50_000, 500_000)]
    cases += [("seeds", n, made_up(), runs_of(range(n), RATIOS)) for n in (1, 10, 100)]
    cases += [("dimensions", n, made_up(dimensions=n), runs_of([1], RATIOS)) for n in (96, 384, 1536)]
    for what, size, material, runs in cases:
        start = time.perf_counter()
        with one_thread() as cores:
            run_all(runs, material, cores, lambda phase, count: None, tell=lambda text: None)
        print(f"{size:8,} {what:12} {time.perf_counter() - start:8.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true", help="also over reviews, seeds and dimensions")
    parser.add_argument("--use-cuda", action="store_true", help="also on the GPU")
    arguments = parser.parse_args()
    published_sweep()
    if arguments.use_cuda:
        on_the_gpu()
    if arguments.growth:
        growth()
