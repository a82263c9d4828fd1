"""The tables of a sweep, in the terms of its screen and figures."""

from collections.abc import Sequence

import pandas as pd

from noisy_feedback.config import LABELS, SETTING_AXES

ONE_SEED = "1 seed"


class SweepTables:
    """The tables of a sweep as its screen and figures show them: by `setting`, at one `place` for each of the `ticks`.

    The places are the noise ratios, or the labels where there is one ratio; a setting is all else that varies but the
    seed. `runs`, `curves` and `summary` are runs.csv, curves.csv and summary.csv with these two columns.
    """

    def __init__(self, runs: pd.DataFrame, curves: pd.DataFrame, summary: pd.DataFrame, classes: int) -> None:
        """`classes` is the number of ratings; 0 where there are human comparisons alone."""
        ratios = sorted(set(runs["ratio"]))
        column, values, self.axis, self.ticks = "ratio", ratios, "noise ratio", [f"{ratio:g}" for ratio in ratios]
        if len(ratios) == 1 and runs["labels"].nunique() > 1:
            column = self.axis = "labels"
            values = self.ticks = [name for name in LABELS if name in set(runs["labels"])]
        varied = [axis for axis in SETTING_AXES if axis != column and (axis == "loss" or runs[axis].nunique() > 1)]
        places = {value: place for place, value in enumerate(values)}
        self.runs, self.curves, self.summary = (
            table.assign(setting=setting_names(table, varied), place=table[column].map(places))
            for table in (runs, curves, summary)
        )
        self.settings = list(dict.fromkeys(self.runs["setting"]))
        known = set(summary["metric"])
        of_ratings = ["macro_f1", "quadratic_weighted_kappa", "pairwise_accuracy"]
        of_judgements = ["preference_accuracy", "quadratic_weighted_kappa"]
        wanted = of_judgements if "preference_accuracy" in known else of_ratings
        self.metrics = [metric for metric in wanted if metric in known]
        # By kind of noise: the ratio at which noisy ratings are independent of the true ones, if the sweep reaches it.
        without = {"uniform": (classes - 1) / classes, "redrawn": 1.0} if classes else {}
        noises = [noise for noise in without if noise in set(runs["noise"])]
        self.no_information = {noise: without[noise] for noise in noises if ratios[0] <= without[noise] <= ratios[-1]}
        seeds = runs.groupby([*SETTING_AXES, "ratio"])["seed"].nunique()
        least, most = seeds.min(), seeds.max()
        self.seeds = ONE_SEED if most == 1 else f"mean of {most if least == most else f'{least} to {most}'} seeds"

    def information_notes(self) -> list[str]:
        """Where noisy ratings hold no information, in words."""
        text = "{} noise of ratio {:.3g} leaves no information"
        return [text.format(*found) for found in self.no_information.items()]


def setting_names(table: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """For each row the values of these axes in words."""
    words = {"loss": "{}", "kl_weight": "KL weight {}", "noise": "{} noise"}
    patterns = [words.get(axis, f"{axis.replace('_', ' ')} {{}}") for axis in axes]
    return [
        ", ".join(pattern.format(str(value).removesuffix(".0")) for pattern, value in zip(patterns, row, strict=True))
        for row in table[list(axes)].to_numpy(dtype=object)  # a row also where nothing varies
    ]
