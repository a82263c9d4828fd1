from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from noisy_feedback.experiment import Material, run_all
from noisy_feedback.metrics import METRICS
from noisy_feedback.settings import Settings
from noisy_feedback.summary import bootstrap_interval, expanded_level, paired, summarise
from noisy_feedback.training import one_thread


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


def test_a_metric_that_is_nowhere_defined_keeps_its_rows():
    runs = planted_runs().assign(
        **{f"{stage}_quadratic_weighted_kappa": np.nan for stage in ("before", "best", "last")}
    )
    summary = summarise(runs)
    assert len(summary) == len(summarise(planted_runs()))
    assert np.isnan(row_of(summary, 0.5, metric="quadratic_weighted_kappa")["mean"])


def test_stages_that_nothing_was_tested_in_have_no_rows():
    runs = planted_runs()
    runs[[name for name in runs if name.startswith(("best_", "last_"))]] = np.nan
    assert set(summarise(runs)["stage"]) == {"before"}


def test_combinations_are_summarised_apart():
    one, other = planted_runs(), planted_runs(effect=0.2, seed=1).assign(preference_loss="sigmoid")
    both = summarise(pd.concat([one, other]))
    assert len(both) == 2 * len(summarise(one))
    chosen = both[both["preference_loss"] == "sigmoid"].drop(columns="preference_loss").reset_index(drop=True)
    alone = summarise(other).drop(columns="preference_loss").reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen, alone)


# --- intervals and p-values hold what they promise

POPULATIONS = {
    "normal": lambda generator, n: generator.normal(size=n),
    "uniform": lambda generator, n: generator.random(n) - 0.5,
}


def coverage(population, n, draws=2000):
    """How often the interval of n values holds the population's mean, which is 0."""
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(POPULATIONS[population](generator, n)) for _ in range(draws)]
    return np.mean([low <= 0 <= high for low, high in intervals])


@pytest.fixture
def fewer_resamples(monkeypatch):
    monkeypatch.setattr("noisy_feedback.summary.RESAMPLES", 1999)


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [10, 20])
def test_bootstrap_intervals_cover_the_mean_at_their_rate(fewer_resamples, population, n):
    # Two points off is four standard errors of this count; without its expansion the level is off by three to five.
    assert coverage(population, n) == pytest.approx(0.95, abs=0.02)


def test_five_values_cover_as_often_as_the_docstring_says(fewer_resamples):
    assert coverage("normal", 5) == pytest.approx(0.91, abs=0.02)


@pytest.mark.parametrize("n", [2, 3])
def test_the_interval_of_two_or_three_values_is_their_range(n):
    values = np.random.default_rng(0).normal(size=n)
    assert bootstrap_interval(values) == pytest.approx((values.min(), values.max()))


def test_the_level_tends_to_95_percent_for_many_values():
    assert expanded_level(10**6) == pytest.approx(0.95, abs=1e-5)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_paired_intervals_cover_at_their_rate_and_p_is_uniform_without_an_effect(seeds):
    generator = np.random.default_rng(0)
    level = generator.normal(size=(2000, seeds))  # a seed's own level, which pairing takes out
    found = [paired("change", row + generator.normal(size=seeds), row + generator.normal(size=seeds)) for row in level]
    assert stats.kstest([one["change_p"] for one in found], "uniform").pvalue > 1e-3
    covered = sum(one["change_low"] <= 0 <= one["change_high"] for one in found)
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def of_nothing(seed):
    """A seed's pairwise accuracies without and with noise, on reviews of its own whose embeddings tell nothing."""
    generator = np.random.default_rng([seed, 99])
    material = Material(torch.from_numpy(generator.normal(size=(120, 8))).float(), generator.integers(5, size=120),
                        np.arange(1, 6), {"device": "cpu"})  # fmt: skip
    shared = dict.fromkeys(("path", "output"), Path()) | dict.fromkeys(("text_column", "rating_column"), "")
    runs = [
        Settings(
            **shared, study="multiclass", gap=None, model_name="", pooling="model", pc=True, use_cuda=False, k=1,
            loss="study", anchor=0.0, noise="uniform", head="categorical", flip_rate=None, as_published=(),
            epochs_t=2, epochs_f=4, lr_f=1e-2, batch_f=32, seed=seed, ratio=ratio, shuffle=False,
        )
        for ratio in (0.0, 0.8)
    ]  # fmt: skip
    with one_thread():
        found = run_all(runs, material, 1, lambda phase, finished: None, lambda text: None)
    return [outcome.last.pairwise_accuracy for outcome, _ in found]


def test_where_there_is_nothing_to_learn_the_p_value_of_noise_is_uniform_through_the_whole_pipeline():
    accuracies = np.array([of_nothing(seed) for seed in range(300)]).reshape(60, 5, 2)
    p = [paired("difference", five[:, 1], five[:, 0])["difference_p"] for five in accuracies]
    assert stats.kstest(p, "uniform").pvalue > 1e-2
    assert accuracies.mean() == pytest.approx(0.5, abs=0.01)
