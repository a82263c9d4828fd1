import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from noisy_feedback.config import Config
from noisy_feedback.data.dataset import Dataset
from noisy_feedback.evaluation import statistics
from noisy_feedback.evaluation.metrics import METRICS
from noisy_feedback.evaluation.statistics import (
    COVERAGE,
    bootstrap_interval,
    combination_names,
    coverage_note,
    expanded_level,
    paired_t_test,
    shown_metrics,
    summarise,
)
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.learning.training import single_threaded

STAGES = ("before", "best", "last")


def runs_with_effect(seeds=8, effect=-0.1, seed=0):
    """Runs whose every metric is the seed's own level, plus an effect at ratio 0.5, plus an error."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0.5, 0.1, size=seeds)
    rows = []
    for ratio, shift in ((0.0, 0.0), (0.5, effect)):
        error = rng.normal(0, 0.02, size=seeds)
        for number in range(seeds):
            row = {"seed": number, "labels": "all", "loss": "study", "kl_weight": 0.0, "noise": "uniform"}
            row["ratio"] = ratio
            row["comparisons"] = 100 + number - int(40 * ratio)
            for stage in STAGES:
                row |= {f"{stage}_{metric}": level[number] + shift + error[number] for metric in METRICS}
            rows.append(row)
    return pd.DataFrame(rows)


def row_of(summary, ratio, stage="last", metric="macro_f1"):
    chosen = (summary["ratio"] == ratio) & (summary["stage"] == stage) & (summary["metric"] == metric)
    (row,) = summary[chosen].to_dict("records")
    return row


@pytest.fixture(scope="module")
def summary():
    return summarise(runs_with_effect())


def test_there_is_one_row_per_ratio_stage_and_metric(summary):
    assert len(summary) == 2 * 3 * len(METRICS)


def test_mean_and_standard_deviation_are_over_seeds(summary):
    runs = runs_with_effect()
    values = runs[runs["ratio"] == 0.5]["last_macro_f1"]
    row = row_of(summary, 0.5)
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["seeds"] == 8


def test_every_stage_and_metric_is_summarised_from_its_own_column(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 99)
    runs = runs_with_effect(seeds=3)
    columns = [f"{stage}_{metric}" for stage in STAGES for metric in METRICS]
    runs[columns] = np.random.default_rng(0).random((len(runs), len(columns)))
    summary = summarise(runs)
    means = runs.groupby("ratio")[columns].mean()
    for row in summary.to_dict("records"):
        stage, metric, own = row["stage"], row["metric"], means.loc[row["ratio"]]
        assert row["mean"] == pytest.approx(own[f"{stage}_{metric}"])
        if stage != "before":
            assert row["vs_before"] == pytest.approx(own[f"{stage}_{metric}"] - own[f"before_{metric}"])
        if row["ratio"]:
            assert row["vs_noise0"] == pytest.approx(row["mean"] - means.loc[0.0, f"{stage}_{metric}"])


def test_the_number_of_comparisons_is_a_mean_over_seeds(summary):
    assert row_of(summary, 0.0)["comparisons"] == 103.5
    assert row_of(summary, 0.5)["comparisons"] == 83.5


def test_the_difference_to_noise_0_is_paired_by_seed_as_scipys_test_is():
    runs = runs_with_effect()
    values, reference = (runs[runs["ratio"] == ratio]["last_macro_f1"].to_numpy() for ratio in (0.5, 0.0))
    expected = stats.ttest_rel(values, reference)
    row = row_of(summarise(runs.sample(frac=1, random_state=0)), 0.5)
    assert row["vs_noise0"] == pytest.approx((values - reference).mean())
    assert row["vs_noise0_p"] == pytest.approx(expected.pvalue)
    assert (row["vs_noise0_ci_low"], row["vs_noise0_ci_high"]) == pytest.approx(
        tuple(expected.confidence_interval(0.95))
    )


def test_an_effect_is_found_and_its_absence_too(summary):
    row = row_of(summary, 0.5)
    assert row["vs_noise0_ci_high"] < 0
    assert row["vs_noise0_p"] < 0.001
    p = []
    for seed in range(9):
        values = runs_with_effect(effect=0.0, seed=seed).pivot(index="seed", columns="ratio", values="last_macro_f1")
        p.append(paired_t_test("vs_noise0", values[0.5].to_numpy(), values[0.0].to_numpy())["vs_noise0_p"])
    assert np.median(p) > 0.1


def test_ratio_0_is_not_compared_with_itself(summary):
    assert np.isnan(row_of(summary, 0.0)["vs_noise0"])


def test_without_ratio_0_nothing_is_compared_with_it():
    runs = runs_with_effect(seeds=3)
    assert np.isnan(row_of(summarise(runs[runs["ratio"] == 0.5]), 0.5)["vs_noise0"])


def test_seeds_that_only_one_of_two_ratios_has_count_in_means_but_not_in_the_difference():
    runs = runs_with_effect()
    lacking = runs[~((runs["ratio"] == 0.0) & (runs["seed"] < 3)) & ~((runs["ratio"] == 0.5) & (runs["seed"] == 7))]
    common = runs[runs["seed"].between(3, 6)]
    row, expected = row_of(summarise(lacking), 0.5), row_of(summarise(common), 0.5)
    assert row["seeds"] == 7
    for name in ("vs_noise0", "vs_noise0_ci_low", "vs_noise0_ci_high", "vs_noise0_p"):
        assert row[name] == pytest.approx(expected[name]), name


@pytest.mark.parametrize("common", [0, 1])
def test_fewer_than_two_matched_seeds_have_no_interval_and_no_p_value(common):
    runs = runs_with_effect(seeds=4)
    lacking = runs[(runs["ratio"] == 0.5) | (runs["seed"] < common)]
    row = row_of(summarise(lacking), 0.5)
    assert np.isnan(row["vs_noise0"]) == (common == 0)
    assert np.isnan([row[f"vs_noise0_{name}"] for name in ("ci_low", "ci_high", "p")]).all()


def test_the_change_is_paired_with_the_same_runs_model_before_fine_tuning():
    runs = runs_with_effect()
    runs["last_macro_f1"] = runs["before_macro_f1"] - 0.05 + np.random.default_rng(1).normal(0, 0.01, size=len(runs))
    values, before = (runs[runs["ratio"] == 0.5][f"{stage}_macro_f1"] for stage in ("last", "before"))
    summary = summarise(runs)
    row = row_of(summary, 0.5)
    assert row["vs_before"] == pytest.approx((values - before).mean())
    assert row["vs_before_p"] == pytest.approx(stats.ttest_rel(values, before).pvalue)
    assert np.isnan(row_of(summary, 0.5, stage="before")["vs_before"])


def test_a_metric_that_is_nowhere_defined_keeps_its_rows(summary):
    undefined = {f"{stage}_quadratic_weighted_kappa": np.nan for stage in STAGES}
    without = summarise(runs_with_effect().assign(**undefined))
    assert len(without) == len(summary)
    assert np.isnan(row_of(without, 0.5, metric="quadratic_weighted_kappa")["mean"])


def test_where_nobody_compared_texts_preference_accuracy_has_no_rows(summary):
    undefined = {f"{stage}_preference_accuracy": np.nan for stage in STAGES}
    without = summarise(runs_with_effect().assign(**undefined))
    pd.testing.assert_frame_equal(without, summary[summary["metric"] != "preference_accuracy"].reset_index(drop=True))


def test_of_two_metrics_that_are_shown_the_first_is_that_of_the_comparisons_of_people_where_there_are_any(summary):
    assert shown_metrics(summary) == ("preference_accuracy", "quadratic_weighted_kappa")
    without = summary[summary["metric"] != "preference_accuracy"]
    assert shown_metrics(without) == ("macro_f1", "quadratic_weighted_kappa")


def test_labels_are_summarised_apart(summary):
    both = summarise(pd.concat([runs_with_effect(), runs_with_effect(effect=0.2, seed=1).assign(labels="gold")]))
    assert len(both) == 2 * len(summary)
    pd.testing.assert_frame_equal(both[both["labels"] == "all"].reset_index(drop=True), summary)


def test_stages_in_which_nothing_was_tested_have_no_rows():
    runs = runs_with_effect(seeds=3)
    runs[[name for name in runs if name.startswith(("best_", "last_"))]] = np.nan
    assert set(summarise(runs)["stage"]) == {"before"}


def test_combinations_are_summarised_apart(summary):
    other = runs_with_effect(effect=0.2, seed=1).assign(loss="hinge")
    both = summarise(pd.concat([runs_with_effect(), other]))
    assert len(both) == 2 * len(summary)
    own = both[both["loss"] == "hinge"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, summarise(other))


# --- names


def test_a_combination_is_named_by_its_loss_and_by_what_varies():
    table = pd.DataFrame({"loss": ["study", "hinge"], "kl_weight": [0.0, 0.1], "noise": "uniform", "labels": "all"})
    assert combination_names(table) == ["study, KL weight 0", "hinge, KL weight 0.1"]
    assert combination_names(table.assign(kl_weight=0.0)) == ["study", "hinge"]
    assert combination_names(table.assign(kl_weight=0.0, noise=["uniform", "adjacent"])) == [
        "study, uniform noise",
        "hinge, adjacent noise",
    ]
    assert combination_names(table.assign(kl_weight=0.0, labels=["gold", "all"])) == [
        "labels gold, study",
        "labels all, hinge",
    ]


def test_weights_that_hardly_differ_have_names_of_their_own():
    table = pd.DataFrame({"loss": "study", "kl_weight": [0.1, 0.1 + 1e-12], "noise": "uniform", "labels": "all"})
    assert len(set(combination_names(table))) == 2


# --- intervals and p-values keep what they promise

POPULATIONS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.random(n) - 0.5,
}


def coverage(population, n, draws):
    """How often the interval of n values covers the population's mean, which is 0."""
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(POPULATIONS[population](rng, n)) for _ in range(draws)]
    return np.mean([low <= 0 <= high for low, high in intervals])


@pytest.fixture
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1999)


def test_ten_seeds_cover_the_mean_at_their_rate(fewer_resamples):
    # Two points off are two and a half standard errors of this count; at the level that is not expanded it is 0.89.
    assert coverage("normal", 10, draws=900) == pytest.approx(0.94, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [10, 20])
def test_ten_and_more_seeds_cover_the_mean_at_their_rate_in_several_populations(fewer_resamples, population, n):
    assert coverage(population, n, draws=4000) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("n", [4, 5])
def test_few_seeds_cover_as_often_as_the_table_says(n):
    assert coverage("normal", n, draws=500) == pytest.approx(COVERAGE[n], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 5])
def test_few_seeds_cover_as_often_as_the_table_says_to_the_percent(n):
    assert coverage("normal", n, draws=6000) == pytest.approx(COVERAGE[n], abs=0.011)


@pytest.mark.parametrize("n", [2, 3])
def test_the_interval_of_two_or_three_values_is_their_range_which_gives_its_coverage(n):
    values = np.random.default_rng(0).normal(size=n)
    assert bootstrap_interval(values) == pytest.approx((values.min(), values.max()))
    assert COVERAGE[n] == 1 - 2 * 0.5**n  # of a symmetric population: not all values on the same side of its mean


def test_the_bootstrap_interval_is_the_same_every_time_and_close_to_the_normal_one_for_many_seeds():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_values_that_do_not_differ_have_an_interval_of_no_width():
    assert bootstrap_interval(np.full(5, 0.3)) == (0.3, 0.3)


@pytest.mark.parametrize("values", [[0.1], [0.1, np.nan]])
def test_too_few_values_or_undefined_ones_have_no_interval(values):
    assert np.isnan(bootstrap_interval(np.array(values))).all()


def test_the_level_tends_to_95_percent_for_many_values():
    assert expanded_level(10**6) == pytest.approx(0.95, abs=1e-5)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_paired_intervals_cover_at_their_rate_and_p_is_uniform_without_an_effect(seeds):
    rng = np.random.default_rng(0)
    level = rng.normal(size=(1000, seeds))  # a seed's own level, which pairing takes out
    tests = [paired_t_test("vs", row + rng.normal(size=seeds), row + rng.normal(size=seeds)) for row in level]
    assert stats.kstest([test["vs_p"] for test in tests], "uniform").pvalue > 1e-3
    covered = np.mean([test["vs_ci_low"] <= 0 <= test["vs_ci_high"] for test in tests])
    assert covered == pytest.approx(0.95, abs=0.02)


def test_a_note_on_coverage_is_for_few_seeds():
    assert coverage_note(1) == "one seed has no 95 % interval"
    assert coverage_note(3) == "95 % intervals of 3 seeds cover the mean in 75 % of cases"
    assert coverage_note(5) is None


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
