"""Means over seeds, with intervals and paired tests; and the interval of one preference accuracy.

What the intervals are of: seeds on ONE data set. Seeds differ in the initial weights, the order of the batches, the
noise and, with --shuffle, in how that data set is split. An interval covers the mean that many more seeds on the same
reviews would give, not the mean over data sets: with --shuffle a 95 % interval covers that in only 70 to 87 % of cases,
and more seeds do not help. Intervals of paired differences (to noise ratio 0, to before fine-tuning) do cover 95 %
there, since both runs of a pair share the data.
"""

from itertools import product

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit  # Student's t; scipy.stats takes a second to import

from noisy_feedback.config import SETTING_AXES
from noisy_feedback.metrics import METRICS, STAGES

CONFIDENCE = 0.95
ROUNDING = 1e-12  # values that differ by less are equal but for the order of sums


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, ratio, stage and metric: mean, standard deviation and 95 % interval over seeds.

    `runs` has one row per run: seed, the columns of SETTING_AXES, ratio, comparisons, and {stage}_{metric} for every
    stage and metric; it need not be a full grid. `vs_noise0` is the mean difference to ratio 0 of the same setting,
    over the seeds that both have; `vs_before` that to the same run before fine-tuning. All intervals are t intervals,
    and p-values those of paired t-tests. NaN where there are too few seeds, nothing to compare with, or nothing that
    differs.
    """
    rows = []
    for setting, of_setting in runs.set_index("seed").groupby(list(SETTING_AXES), sort=False):
        noise0 = of_setting[of_setting["ratio"] == 0]
        for stage, metric in product(STAGES, METRICS):
            needed = "preference_accuracy" if metric == "preference_accuracy" else "accuracy"
            if of_setting[f"{stage}_{needed}"].isna().all():  # no human comparisons, no ratings, or no fine-tuning
                continue
            column = f"{stage}_{metric}"
            for ratio, group in of_setting.groupby("ratio"):
                seeds = group.index.intersection(noise0.index if ratio else [])
                tuned = group[:0] if stage == "before" else group
                rows.append(
                    dict(zip(SETTING_AXES, setting, strict=True))
                    | {"ratio": ratio, "comparisons": group["comparisons"].mean(), "stage": stage, "metric": metric}
                    | mean_and_interval(group[column].to_numpy())
                    | paired_t_test("vs_noise0", *(side.loc[seeds, column].to_numpy() for side in (group, noise0)))
                    | paired_t_test("vs_before", tuned[column].to_numpy(), tuned[f"before_{metric}"].to_numpy())
                )
    return pd.DataFrame(rows)


def mean_and_interval(values: np.ndarray) -> dict[str, float]:
    """Number, mean, standard deviation and 95 % t interval of the mean of values (seeds,)."""
    low, high = t_interval(values)
    sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {"seeds": len(values), "mean": float(values.mean()), "sd": sd, "ci_low": low, "ci_high": high}


def t_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % t interval of the mean of values (n,): exact where they are normal. NaN for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def interval_over_pairs(right: np.ndarray, pairs: np.ndarray) -> list[float] | None:
    """95 % interval of the mean of `right` (V,), 0..1 for each judgement; those of a pair are not independent.

    `pairs` (V,) are the numbers of their pairs. Source: the variance of a ratio of sums over pairs (Cochran 1977,
    Sampling techniques, equation 2.46 applied to clusters). None for fewer than two pairs.
    """
    _, own = np.unique(pairs, return_inverse=True)
    residuals = np.bincount(own, right - right.mean())  # of each pair
    if (count := len(residuals)) < 2:
        return None
    half = ndtri((1 + CONFIDENCE) / 2) * np.sqrt(count / (count - 1) * np.square(residuals).sum()) / len(right)
    return [float(max(right.mean() - half, 0)), float(min(right.mean() + half, 1))]


def paired_t_test(name: str, values: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Mean of values (n,) - reference (n,), with its 95 % t interval and p-value, under keys that start with `name`.

    Interval and p-value are NaN for fewer than two pairs, and where all differences are equal; the mean for no pair.
    """
    found = dict.fromkeys((name, f"{name}_ci_low", f"{name}_ci_high", f"{name}_p"), float("nan"))
    if len(values):
        difference = values - reference
        found[name] = float(difference.mean())
        if np.ptp(difference) >= ROUNDING:  # NaN is not
            found[f"{name}_ci_low"], found[f"{name}_ci_high"] = t_interval(difference)
            t = difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference)))
            found[f"{name}_p"] = float(2 * stdtr(len(difference) - 1, -abs(t)))
    return found
