"""Runs over seeds -> means, intervals and paired tests."""

import numpy as np
import pandas as pd
from scipy import stats

from noisy_feedback.metrics import METRICS

CONFIDENCE = 0.95
RESAMPLES = 9999
STAGES = ("before", "best", "last")


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per ratio, stage and metric: mean, standard deviation and 95 % bootstrap interval over seeds.

    And the difference to ratio 0, seed by seed, with the interval and p-value of the paired t-test. `runs` has
    one row per seed and ratio with the columns seed, ratio and stage_metric. NaN where there are too few seeds,
    nothing to compare with, or nothing that differs. Source: Efron and Tibshirani 1993, chapter 13 (percentile
    intervals of the BCa kind, chapter 14), through scipy.stats.
    """
    rows = []
    for stage in STAGES:
        for metric in METRICS:
            by_seed = runs.pivot(index="seed", columns="ratio", values=f"{stage}_{metric}").dropna(how="all", axis=1)
            for ratio in by_seed:
                row = {"ratio": ratio, "stage": stage, "metric": metric, **describe(by_seed[ratio].to_numpy())}
                compared = 0.0 in by_seed and ratio != 0.0
                rows.append(row | paired(by_seed[ratio].to_numpy(), by_seed[0.0].to_numpy() if compared else None))
    return pd.DataFrame(rows).sort_values("ratio", kind="stable").reset_index(drop=True)


def describe(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and bootstrap interval of the mean of values (seeds,)."""
    low, high = bootstrap_interval(values)
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {"seeds": len(values), "mean": float(values.mean()), "sd": spread, "low": low, "high": high}


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % BCa bootstrap interval of the mean; the same for the same values. NaN for fewer than two."""
    if len(values) < 2 or np.isnan(values).any():
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired(values: np.ndarray, reference: np.ndarray | None) -> dict[str, float]:
    """Mean difference of values (seeds,) to the reference (seeds,), with its t interval and p-value."""
    empty = {name: float("nan") for name in ("difference", "difference_low", "difference_high", "p_value")}
    if reference is None:
        return empty
    difference = values - reference
    if len(values) < 2 or np.isnan(difference).any() or np.ptp(difference) == 0:
        return empty | {"difference": float(difference.mean())}
    test = stats.ttest_rel(values, reference)
    interval = test.confidence_interval(CONFIDENCE)
    return {
        "difference": float(difference.mean()),
        "difference_low": float(interval.low),
        "difference_high": float(interval.high),
        "p_value": float(test.pvalue),
    }
