"""How long it takes to build lists: `python benchmarks/comparisons.py`. Time should grow no faster than the ratings."""

import time

import numpy as np

from noisy_feedback.feedback.comparisons import build_lists

SHARES = np.array([1421, 1793, 2184, 6039, 9054]) / 20491  # TripAdvisor's


def main() -> None:
    rng = np.random.default_rng(0)
    print("  ratings  k     lists  seconds")
    for n in (8_196, 100_000, 1_000_000):
        ratings = rng.choice(len(SHARES), size=n, p=SHARES)
        for k in (1, 3):
            start = time.perf_counter()
            lists = build_lists(ratings, k, len(SHARES), rng)
            print(f"{n:9,} {k:2} {len(lists):9,} {time.perf_counter() - start:8.2f}")


if __name__ == "__main__":
    main()
