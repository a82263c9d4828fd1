"""Up to a million reviews: all of main.py on made-up reviews and embeddings, its time and its peak memory, by size.

python benchmarks/large.py                   # 10,000, 100,000 and 1,000,000 reviews
python benchmarks/large.py --reviews 3000000
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
SHARES = np.array([1421, 1793, 2184, 6039, 9054]) / 20491  # TripAdvisor's
DIMENSIONS = 384
WORDS = 100  # of a review, as in TripAdvisor's


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reviews", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    print("  reviews   file  embeddings  seconds  peak memory")
    for n in parser.parse_args().reviews:
        with tempfile.TemporaryDirectory() as folder:
            file, embeddings = write(Path(folder), n)
            seconds, peak = measure(file)
            sizes = [path.stat().st_size / 2**20 for path in (file, embeddings)]
            print(f"{n:9,} {sizes[0]:3.0f} MB {sizes[1]:8.0f} MB {seconds:8.1f} {peak / 2**20:9.2f} GB")


def write(folder: Path, n: int) -> tuple[Path, Path]:
    """Reviews of made-up words, and half-precision embeddings around one centre per rating."""
    rng = np.random.default_rng(0)
    ratings = rng.choice(len(SHARES), size=n, p=SHARES)
    words = np.array([f"word{number}" for number in range(2000)])
    texts = [" ".join(words[chosen]) for chosen in tqdm(rng.integers(len(words), size=(n, WORDS)), "writing")]
    pd.DataFrame({"Review": texts, "Rating": ratings + 1}).to_csv(folder / "reviews.csv", index=False)
    centres = torch.from_numpy(rng.normal(size=(len(SHARES), DIMENSIONS))).half()
    vectors = torch.empty(n, DIMENSIONS, dtype=torch.half)
    for start in range(0, n, 50_000):
        part = centres[ratings[start : start + 50_000]]
        vectors[start : start + 50_000] = part + 3 * torch.randn(part.shape).half()
    torch.save(vectors, folder / "embeddings.pt")
    return folder / "reviews.csv", folder / "embeddings.pt"


def measure(file: Path) -> tuple[float, int]:
    """Seconds and peak resident memory (kB) of one run with one epoch of each phase."""
    options = ["--path", file, "--pc", "--epochs-t", "1", "--epochs-f", "1", "--ratio", "0.2", "--k", "3"]
    command = [sys.executable, "main.py", *map(str, options), "--output", str(file.parent / "results")]
    start = os.times().elapsed
    process = subprocess.Popen(command, cwd=ROOT / "multiclass", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"main.py ended with status {os.waitstatus_to_exitcode(status)}")
    return os.times().elapsed - start, used.ru_maxrss


if __name__ == "__main__":
    main()
