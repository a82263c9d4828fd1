"""Means over seeds, with intervals and paired tests.

What the intervals are of: seeds on ONE data set. Seeds differ in the initial weights, the order of the batches, the
noise and, with --shuffle, in how that data set is split. An interval covers the mean that many more seeds on the same
reviews would give, not the mean over data sets: with --shuffle a 95 % interval covers that in only 70 to 87 % of cases,
and more seeds do not help. Intervals of paired differences (to noise ratio 0, to before fine-tuning) do cover 95 %
there, since both runs of a pair share the data.
"""

import numpy as np
import pandas as pd
from scipy import stats

from noisy_feedback.config import COMBINATION
from noisy_feedback.evaluation.metrics import METRICS

CONFIDENCE = 0.95
RESAMPLES = 9999
ROUNDING = 1e-12  # values that differ by less are equal but for the order of sums
STAGES = ("before", "best", "last")

# How often the 95 % bootstrap interval of so few seeds covers the mean of a normal population; 0.94 to 0.95 from ten
# on. Of two or three seeds the interval is their range. The tests simulate these.
COVERAGE = {2: 0.50, 3: 0.75, 4: 0.87, 5: 0.91}
ENOUGH_SEEDS = 5  # from here on the screen and the figures print no warning


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per combination, ratio, stage and metric: mean, standard deviation and 95 % interval over seeds.

    `runs` has one row per run: seed, the columns of COMBINATION, ratio, comparisons, and {stage}_{metric} for every
    stage and metric; it need not be a full grid. `vs_noise0` is the mean difference to ratio 0 of the same
    combination, over the seeds that both have; `vs_before` that to the same run before fine-tuning. Both have the
    interval and p-value of a paired t-test. NaN where there are too few seeds, nothing to compare with, or nothing
    that differs. Source of the bootstrap intervals: Efron and Tibshirani 1993, chapter 14 (BCa), through scipy.stats,
    at the level that `expanded_level` gives.
    """
    rows = []
    for combination, of_combination in runs.groupby(list(COMBINATION), sort=False):
        by_ratio = {ratio: group.set_index("seed") for ratio, group in of_combination.groupby("ratio")}
        nothing = of_combination.iloc[:0].set_index("seed")
        noise0 = by_ratio.get(0, nothing)
        matched = {ratio: match_seeds(group, noise0 if ratio else nothing) for ratio, group in by_ratio.items()}
        for stage in STAGES:
            if of_combination[f"{stage}_accuracy"].isna().all():  # nothing was fine-tuned
                continue
            for metric in METRICS:
                column = f"{stage}_{metric}"
                if metric == "preference_accuracy" and of_combination[column].isna().all():  # no comparisons of people
                    continue
                for ratio, group in by_ratio.items():
                    tuned = nothing if stage == "before" else group
                    values, at_noise0 = (side[column].to_numpy() for side in matched[ratio])
                    rows.append(
                        dict(zip(COMBINATION, combination, strict=True))
                        | {"ratio": ratio, "comparisons": group["comparisons"].mean()}
                        | {"stage": stage, "metric": metric}
                        | mean_and_interval(group[column].to_numpy())
                        | paired_t_test("vs_noise0", values, at_noise0)
                        | paired_t_test("vs_before", tuned[column].to_numpy(), tuned[f"before_{metric}"].to_numpy())
                    )
    return pd.DataFrame(rows)


def match_seeds(runs: pd.DataFrame, reference: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of two tables, indexed by seed, of the seeds that both have, in the same order."""
    seeds = runs.index.intersection(reference.index)
    return runs.loc[seeds], reference.loc[seeds]


def mean_and_interval(values: np.ndarray) -> dict[str, float]:
    """Number, mean, standard deviation and 95 % bootstrap interval of the mean of values (seeds,)."""
    low, high = bootstrap_interval(values)
    sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {"seeds": len(values), "mean": float(values.mean()), "sd": sd, "ci_low": low, "ci_high": high}


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % BCa bootstrap interval of the mean of values (seeds,), expanded. NaN for fewer than two values.

    The same values give the same interval. With ten or more it covers the mean of a normal population in 94 to
    95 % of cases; with fewer, see COVERAGE: the interval can be no wider than the range of the values.
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

    At CONFIDENCE itself it is too narrow, by sqrt((n - 1) / n) and by the normal in place of the t quantile: of five
    values it covers in 84 % of cases. Source: Hesterberg 2015, What teachers should know about the bootstrap, The
    American Statistician 69(4) (the expanded percentile interval).
    """
    quantile = np.sqrt(n / (n - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    return min(1 - 2 * stats.norm.sf(quantile), 1 - 1 / RESAMPLES)


def paired_t_test(name: str, values: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Mean of values (n,) - reference (n,), with its 95 % t interval and p-value, under keys that start with `name`.

    Interval and p-value are NaN for fewer than two pairs, and where all differences are equal; the mean for no pair.
    """
    empty = dict.fromkeys((name, f"{name}_ci_low", f"{name}_ci_high", f"{name}_p"), float("nan"))
    if len(values) == 0:
        return empty
    difference = values - reference
    if len(values) < 2 or np.isnan(difference).any() or np.ptp(difference) < ROUNDING:
        return empty | {name: float(difference.mean())}
    test = stats.ttest_rel(values, reference)
    interval = test.confidence_interval(CONFIDENCE)
    return {
        name: float(difference.mean()),
        f"{name}_ci_low": float(interval.low),
        f"{name}_ci_high": float(interval.high),
        f"{name}_p": float(test.pvalue),
    }


def coverage_note(seeds: int) -> str | None:
    """What to know about the intervals of so few seeds, in one line; None from ENOUGH_SEEDS on."""
    if seeds >= ENOUGH_SEEDS:
        return None
    if seeds < 2:
        return "one seed has no 95 % interval"
    return f"95 % intervals of {seeds} seeds cover the mean in {100 * COVERAGE[seeds]:.0f} % of cases"


def combination_names(table: pd.DataFrame) -> list[str]:
    """For each row what sets its combination apart: the loss, and what else varies in the table."""
    varied = [axis for axis in COMBINATION if axis == "loss" or table[axis].nunique() > 1]
    words = {"loss": "{}", "kl_weight": "KL weight {}", "noise": "{} noise", "labels": "labels {}"}
    patterns = [words.get(axis, axis.replace("_", " ") + " {}") for axis in varied]
    return [
        ", ".join(pattern.format(str(value).removesuffix(".0")) for pattern, value in zip(patterns, row, strict=True))
        for row in table[varied].itertuples(index=False)
    ]


def shown_metrics(summary: pd.DataFrame) -> tuple[str, str]:
    """The two metrics that tables and figures show: of comparisons that people made the preference accuracy first."""
    if "preference_accuracy" in set(summary["metric"]):
        return "preference_accuracy", "quadratic_weighted_kappa"
    return "macro_f1", "quadratic_weighted_kappa"
