"""Runs over seeds -> means, intervals and paired tests."""

import numpy as np
import pandas as pd
from scipy import stats

from noisy_feedback.metrics import METRICS
from noisy_feedback.settings import COMBINATION

CONFIDENCE = 0.95
RESAMPLES = 9999
ROUNDING = 1e-12  # values that differ by less are the same but for the order of sums
STAGES = ("before", "best", "last")


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per combination, ratio, stage and metric: mean, deviation and 95 % bootstrap interval over seeds.

    And, seed by seed, the difference to ratio 0 (`difference`) and to the model before fine-tuning (`change`), each
    with the interval and p-value of the paired t-test. `runs` has one row per seed, combination (preference_loss,
    anchor, noise) and ratio, with a column for each stage_metric. NaN where there are too few seeds, nothing to
    compare with, or nothing that differs. Source of the bootstrap intervals: Efron and Tibshirani 1993, chapter 14
    (BCa), through scipy.stats, at the level that `expanded_level` gives.
    """
    rows = []
    for combination, found in runs.groupby(list(COMBINATION), sort=False):
        named = dict(zip(COMBINATION, combination, strict=True))
        for stage in STAGES:
            if found[f"{stage}_accuracy"].isna().all():  # nothing was fine-tuned
                continue
            for metric in METRICS:
                by_seed, before = (
                    found.pivot(index="seed", columns="ratio", values=f"{of}_{metric}") for of in (stage, "before")
                )
                for ratio in by_seed:
                    values = by_seed[ratio].to_numpy()
                    noiseless = by_seed[0.0].to_numpy() if 0.0 in by_seed and ratio != 0 else None
                    untuned = before[ratio].to_numpy() if stage != "before" else None
                    rows.append(
                        named
                        | {"ratio": ratio, "stage": stage, "metric": metric}
                        | describe(values)
                        | paired("difference", values, noiseless)
                        | paired("change", values, untuned)
                    )
    return pd.DataFrame(rows)


def describe(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation and bootstrap interval of the mean of values (seeds,)."""
    low, high = bootstrap_interval(values)
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {"seeds": len(values), "mean": float(values.mean()), "sd": spread, "low": low, "high": high}


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % BCa bootstrap interval of the mean, expanded; the same for the same values. NaN for fewer than two.

    It covers the mean of a normal population in about 95 % of cases from ten values on, in 91 % for five, in 75 %
    for three: the interval of so few can be no wider than their range.
    """
    if len(values) < 2 or np.isnan(values).any():
        return float("nan"), float("nan")
    if np.ptp(values) < ROUNDING:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=expanded_level(len(values)),
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def expanded_level(n: int) -> float:
    """The level at which a bootstrap interval of n values is about as wide as the t interval at CONFIDENCE.

    At CONFIDENCE itself it is too narrow, by sqrt((n - 1) / n) and by the normal in place of t quantile: of five
    values it covers in 84 % of cases. Source: Hesterberg 2015, What teachers should know about the bootstrap, The
    American Statistician 69(4) (the expanded percentile interval).
    """
    quantile = np.sqrt(n / (n - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    return min(1 - 2 * stats.norm.sf(quantile), 1 - 1 / RESAMPLES)


def paired(name: str, values: np.ndarray, reference: np.ndarray | None) -> dict[str, float]:
    """Mean difference of values (seeds,) to the reference (seeds,), with its t interval and p-value."""
    empty = dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_p"), float("nan"))
    if reference is None:
        return empty
    difference = values - reference
    if len(values) < 2 or np.isnan(difference).any() or np.ptp(difference) < ROUNDING:
        return empty | {name: float(difference.mean())}
    test = stats.ttest_rel(values, reference)
    interval = test.confidence_interval(CONFIDENCE)
    return {
        name: float(difference.mean()),
        f"{name}_low": float(interval.low),
        f"{name}_high": float(interval.high),
        f"{name}_p": float(test.pvalue),
    }
