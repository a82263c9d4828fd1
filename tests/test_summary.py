import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noisy_feedback.metrics import METRICS
from noisy_feedback.summary import bootstrap_interval, summarise


def planted_runs(seeds=8, effect=-0.1, seed=0):
    """Runs whose every metric is a seed's own level, plus an effect at ratio 0.5, plus an error."""
    generator = np.random.default_rng(seed)
    level = generator.normal(0.5, 0.1, size=seeds)
    rows = []
    for ratio, shift in ((0.0, 0.0), (0.5, effect)):
        error = generator.normal(0, 0.02, size=seeds)
        for number in range(seeds):
            row = {"seed": number, "preference_loss": "study", "anchor": 0.0, "noise": "uniform", "ratio": ratio}
            for stage in ("before", "best", "last"):
                row |= {f"{stage}_{metric}": level[number] + shift + error[number] for metric in METRICS}
            rows.append(row)
    return pd.DataFrame(rows)


def row_of(summary, ratio, stage="last", metric="macro_f1"):
    chosen = (summary["ratio"] == ratio) & (summary["stage"] == stage) & (summary["metric"] == metric)
    (row,) = summary[chosen].to_dict("records")
    return row


def test_there_is_one_row_per_ratio_stage_and_metric():
    assert len(summarise(planted_runs())) == 2 * 3 * len(METRICS)


def test_mean_and_standard_deviation_are_over_seeds():
    runs = planted_runs()
    values = runs[runs["ratio"] == 0.5]["last_macro_f1"]
    row = row_of(summarise(runs), 0.5)
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["seeds"] == 8


def test_the_difference_is_paired_by_seed_as_scipys_test_is():
    runs = planted_runs()
    shuffled = runs.sample(frac=1, random_state=0)
    values, reference = (runs[runs["ratio"] == ratio]["last_macro_f1"].to_numpy() for ratio in (0.5, 0.0))
    known = stats.ttest_rel(values, reference)
    row = row_of(summarise(shuffled), 0.5)
    assert row["difference_p"] == pytest.approx(known.pvalue)
    assert row["difference"] == pytest.approx((values - reference).mean())
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_a_planted_effect_is_found_and_its_absence_too():
    found = row_of(summarise(planted_runs(effect=-0.1)), 0.5)
    assert found["difference_high"] < 0
    assert found["difference_p"] < 0.001
    found = [row_of(summarise(planted_runs(effect=0.0, seed=seed)), 0.5)["difference_p"] for seed in range(9)]
    assert np.median(found) > 0.1


def test_ratio_0_is_compared_with_nothing():
    assert np.isnan(row_of(summarise(planted_runs()), 0.0)["difference"])


def test_without_ratio_0_nothing_is_compared():
    runs = planted_runs()
    assert np.isnan(row_of(summarise(runs[runs["ratio"] == 0.5]), 0.5)["difference"])


def test_the_bootstrap_interval_is_the_same_every_time_and_close_to_the_normal_one_for_many_seeds():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_values_that_do_not_differ_have_an_interval_of_no_width():
    assert bootstrap_interval(np.full(5, 0.3)) == (0.3, 0.3)


def test_a_metric_that_is_not_defined_stays_not_defined():
    assert np.isnan(bootstrap_interval(np.array([0.1, np.nan]))).all()


def test_the_change_is_paired_with_the_same_seeds_model_before_fine_tuning():
    runs = planted_runs()
    runs["last_macro_f1"] = runs["before_macro_f1"] - 0.05 + np.random.default_rng(1).normal(0, 0.01, size=len(runs))
    values, before = (runs[runs["ratio"] == 0.5][f"{stage}_macro_f1"] for stage in ("last", "before"))
    row = row_of(summarise(runs), 0.5)
    assert row["change"] == pytest.approx((values - before).mean())
    assert row["change_p"] == pytest.approx(stats.ttest_rel(values, before).pvalue)
    assert np.isnan(row_of(summarise(runs), 0.5, stage="before")["change"])


def test_combinations_are_summarised_apart():
    one, other = planted_runs(), planted_runs(effect=0.2, seed=1).assign(preference_loss="sigmoid")
    both = summarise(pd.concat([one, other]))
    assert len(both) == 2 * len(summarise(one))
    chosen = both[both["preference_loss"] == "sigmoid"].drop(columns="preference_loss").reset_index(drop=True)
    alone = summarise(other).drop(columns="preference_loss").reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen, alone)
