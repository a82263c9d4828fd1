"""How long the audit of comparisons takes: `python benchmarks/audit.py`. Planted data; the truth is printed too."""

import time

import numpy as np

from noisy_feedback.feedback.audit import audit_comparisons


def main() -> None:
    print("judgements  of a pair  annotators  seconds  wrong  estimate")
    for judgements, per_pair, annotators in (
        (10_000, 1, 100),
        (100_000, 1, 1_000),
        (1_000_000, 1, 0),
        (1_000_000, 1, 10_000),
        (1_000_000, 5, 10_000),
    ):
        rng = np.random.default_rng(0)
        pairs = np.repeat(np.arange(judgements // per_pair), per_pair)
        prior = rng.beta(1, 1, size=judgements // per_pair)
        first_is_better = rng.random(len(prior)) < prior
        names = rng.integers(max(annotators, 1), size=judgements)
        wrong = rng.random(judgements) >= rng.beta(8.5, 1.5, size=max(annotators, 1))[names]
        chooses_first = first_is_better[pairs] != wrong
        p_better = np.where(chooses_first, prior[pairs], 1 - prior[pairs])
        start = time.perf_counter()
        found = audit_comparisons(p_better, 2 * pairs + ~chooses_first, pairs, names if annotators else None)
        seconds = time.perf_counter() - start
        rates = f"{wrong.mean():6.3f} {found.estimated_flip_rate:9.3f}"
        print(f"{judgements:10,} {per_pair:10} {annotators:11,} {seconds:8.2f} {rates}")


if __name__ == "__main__":
    main()
