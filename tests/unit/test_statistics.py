"""Means, intervals and p-values of a sweep's runs, compared with pandas and scipy.stats."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from noisy_feedback.config import NOISES, Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.evaluation.statistics import (
    interval_over_pairs,
    mean_and_interval,
    paired_t_test,
    summarise,
    t_interval,
)
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.feedback.noise import RATING_NOISE
from noisy_feedback.learning.training import single_threaded
from noisy_feedback.metrics import METRICS
from noisy_feedback.output.sweep_tables import SweepTables

STAGES = ("before", "best", "last")


def runs_of(seeds=4, seed=0, **setting):
    """Runs at two ratios with random metrics, all of them different."""
    rng = np.random.default_rng(seed)
    columns = [f"{stage}_{metric}" for stage in STAGES for metric in METRICS]
    axes = {"labels": "all", "loss": "study", "kl_weight": 0.0, "noise": "uniform", **setting}
    return pd.DataFrame(
        [
            {"seed": number, **axes, "ratio": ratio, "comparisons": 100 + number - int(40 * ratio)}
            | dict(zip(columns, rng.random(len(columns)), strict=True))
            for ratio in (0.0, 0.5)
            for number in range(seeds)
        ]
    )


def row_of(summary, ratio=0.5, stage="last", metric="macro_f1"):
    chosen = (summary["ratio"] == ratio) & (summary["stage"] == stage) & (summary["metric"] == metric)
    (row,) = summary[chosen].to_dict("records")
    return row


def test_every_ratio_stage_and_metric_has_the_mean_and_t_interval_over_seeds_of_its_own_column():
    runs = runs_of()
    summary = summarise(runs)
    assert len(summary) == 2 * len(STAGES) * len(METRICS)
    for row in summary.to_dict("records"):
        own = runs[runs["ratio"] == row["ratio"]]
        values = own[f"{row['stage']}_{row['metric']}"]
        expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)
        assert (row["mean"], row["sd"], row["seeds"]) == pytest.approx((values.mean(), values.std(), 4))
        assert row["comparisons"] == own["comparisons"].mean()


def same_test(row, name, expected, mean):
    """A difference with the p-value and the interval of scipy's test."""
    assert row[name] == pytest.approx(mean)
    assert row[f"{name}_p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (row[f"{name}_ci_low"], row[f"{name}_ci_high"]) == pytest.approx(tuple(interval))


def test_differences_are_paired_by_seed_and_by_run_as_scipys_tests_are():
    runs = runs_of()
    summary = summarise(runs.sample(frac=1, random_state=0))
    for stage in STAGES:
        for metric in METRICS:
            values, noise0 = (runs[runs["ratio"] == ratio][f"{stage}_{metric}"].to_numpy() for ratio in (0.5, 0.0))
            before = runs[runs["ratio"] == 0.5][f"before_{metric}"].to_numpy()
            row = row_of(summary, stage=stage, metric=metric)
            same_test(row, "vs_noise0", stats.ttest_rel(values, noise0), (values - noise0).mean())
            if stage != "before":
                same_test(row, "vs_before", stats.ttest_1samp(values - before, 0), (values - before).mean())
    assert np.isnan(row_of(summary, stage="before")["vs_before"])
    assert np.isnan(row_of(summary, ratio=0.0)["vs_noise0"])  # it is not compared with itself
    assert np.isnan(row_of(summarise(runs[runs["ratio"] == 0.5]))["vs_noise0"])


def test_seeds_that_only_one_of_two_ratios_has_count_in_means_but_not_in_the_difference_which_needs_two():
    runs = runs_of(seeds=8)
    lacking = runs[~((runs["ratio"] == 0.0) & (runs["seed"] < 3)) & ~((runs["ratio"] == 0.5) & (runs["seed"] == 7))]
    row, expected = row_of(summarise(lacking)), row_of(summarise(runs[runs["seed"].between(3, 6)]))
    assert row["seeds"] == 7
    for name in ("vs_noise0", "vs_noise0_ci_low", "vs_noise0_ci_high", "vs_noise0_p"):
        assert row[name] == pytest.approx(expected[name]), name
    for common in (0, 1):
        row = row_of(summarise(runs[(runs["ratio"] == 0.5) | (runs["seed"] < common)]))
        undefined = [name for name in row if name.startswith("vs_noise0") and np.isnan(row[name])]
        assert len(undefined) == 4 - common  # without an interval


def test_settings_are_summarised_apart():
    one, *others = runs_of(), runs_of(seed=1, loss="hinge"), runs_of(seed=2, labels="gold")
    summary = summarise(pd.concat([one, *others]))
    for runs in (one, *others):
        own = summary[(summary["loss"] == runs["loss"][0]) & (summary["labels"] == runs["labels"][0])]
        pd.testing.assert_frame_equal(own.reset_index(drop=True), summarise(runs))


def test_an_undefined_metric_keeps_its_rows_but_a_preference_accuracy_and_stages_that_nothing_has_do_not():
    runs = runs_of()
    kappa = summarise(runs.assign(**{f"{stage}_quadratic_weighted_kappa": np.nan for stage in STAGES}))
    undefined = row_of(kappa, metric="quadratic_weighted_kappa")
    assert np.isnan([undefined[name] for name in ("mean", "ci_low", "vs_noise0", "vs_noise0_p")]).all()
    preference = summarise(runs.assign(**{f"{stage}_preference_accuracy": np.nan for stage in STAGES}))
    assert set(preference["metric"]) == set(METRICS) - {"preference_accuracy"}
    runs[[name for name in runs if name.startswith(("best_", "last_"))]] = np.nan
    assert set(summarise(runs)["stage"]) == {"before"}


def sweep_of(classes=5, **columns):
    """The tables of a sweep, one setting but for these columns."""
    setting = {"seed": 1, "labels": "all", "loss": "study", "kl_weight": 0.1, "noise": "uniform", "ratio": [0.0, 1.0]}
    table = pd.DataFrame({**setting, "metric": "macro_f1", **columns})
    return SweepTables(table, table, table, classes)


def test_a_setting_is_named_by_its_loss_and_by_what_varies_but_the_labels_where_they_are_the_axis():
    def names(**columns):
        return sweep_of(**columns).settings

    losses = ["study", "hinge"]
    assert names(loss=losses, kl_weight=[0.0, 0.1]) == ["study, KL weight 0", "hinge, KL weight 0.1"]
    assert names(loss=losses) == losses
    varied = {"loss": losses, "noise": ["uniform", "adjacent"], "labels": ["gold", "all"]}
    assert names(**varied) == ["labels gold, study, uniform noise", "labels all, hinge, adjacent noise"]
    assert names(**varied, ratio=0.5) == ["study, uniform noise", "hinge, adjacent noise"]
    assert len(names(kl_weight=[0.1, 0.1 + 1e-12])) == 2


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_without_information_a_noisy_rating_is_as_probable_whatever_the_true_one(classes):
    """Compared with the transition matrix of every kind of noise that has one, at 1,001 ratios and that ratio."""
    found = sweep_of(classes, noise=np.repeat(NOISES, 2), ratio=[0.0, 1.0] * len(NOISES)).no_information
    for noise, (_, matrix) in RATING_NOISE.items():
        if matrix is not None and noise != "least-confident":  # whose matrix does not say which reviews it changes
            ratios = sorted({*np.linspace(0, 1, 1001), *found.values()})
            constant = {ratio for ratio in ratios if np.allclose(matrix(ratio, classes), matrix(ratio, classes)[0])}
            if noise == "adjacent" and classes == 2:
                continue  # the same as uniform then
            assert constant == ({found[noise]} if noise in found else set()), noise
    assert sweep_of(classes, ratio=[0.0, 0.4]).no_information == {}
    assert sweep_of(classes, noise="reversed").no_information == {}


# --- intervals and p-values keep what they promise


def test_one_seed_has_no_interval_equal_seeds_one_of_no_width_and_equal_differences_none():
    one = mean_and_interval(np.array([0.1]))
    assert (one["seeds"], one["mean"]) == (1, 0.1)
    assert np.isnan([one["sd"], one["ci_low"], one["ci_high"]]).all()
    assert t_interval(np.full(4, 0.25)) == (0.25, 0.25)
    found = paired_t_test("vs", np.array([0.3, 0.4, 0.6]), np.array([0.2, 0.3, 0.5]))
    assert found["vs"] == pytest.approx(0.1)
    assert np.isnan([found[f"vs_{name}"] for name in ("ci_low", "ci_high", "p")]).all()


def accuracies_where_nothing_can_be_learned(number):
    """Pairwise accuracies (5, 2) of five seeds at two noise ratios: splits of one data set with random embeddings."""
    rng = np.random.default_rng([number, 99])
    embeddings = torch.from_numpy(rng.normal(size=(200, 8))).float()
    dataset = Dataset(embeddings, rng.integers(5, size=200), np.arange(1, 6), [""] * 200, provenance=None)
    shared = {"epochs_t": 2, "epochs_f": 4, "lr_f": 1e-2, "batch_f": 32, "shuffle": True}
    accuracies = []
    for seed in range(5):
        runs = [Config("multiclass", seed=seed, ratio=ratio, **shared) for ratio in (0, 0.8)]
        trained = train_model(runs[0], dataset)
        accuracies.append([fine_tune_model(run, dataset, trained).result.last.pairwise_accuracy for run in runs])
    return accuracies


@pytest.mark.slow
def test_where_nothing_can_be_learned_the_p_value_of_noise_is_uniform_through_the_whole_pipeline():
    with single_threaded():
        accuracies = np.array([accuracies_where_nothing_can_be_learned(number) for number in range(100)])
    p = [paired_t_test("vs", five[:, 1], five[:, 0])["vs_p"] for five in accuracies]
    assert stats.kstest(p, "uniform").pvalue > 1e-2
    assert accuracies.mean() == pytest.approx(0.5, abs=0.01)


# --- the interval of a preference accuracy


def test_the_interval_of_single_judgements_is_that_of_a_mean():
    right = np.random.default_rng(0).integers(2, size=200).astype(float)
    low, high = interval_over_pairs(right, np.arange(200))
    half = 1.959964 * right.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((right.mean() - half, right.mean() + half), rel=1e-6)


def test_judgements_that_repeat_each_other_make_the_interval_no_narrower():
    right, pairs = np.random.default_rng(0).integers(2, size=100).astype(float), np.arange(100)
    once = interval_over_pairs(right, pairs)
    assert interval_over_pairs(np.repeat(right, 5), np.repeat(pairs, 5)) == pytest.approx(once)


def test_one_pair_has_no_interval_and_an_interval_stays_within_0_and_1():
    assert interval_over_pairs(np.ones(3), np.zeros(3)) is None
    low, high = interval_over_pairs(np.array([1.0] * 9 + [0.0]), np.arange(10))
    assert 0 <= low < high <= 1
