"""Figures show the numbers of the tables that they are given: what is compared are the values that are drawn."""

import io
import math
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend

from noisy_feedback.config import Config
from noisy_feedback.evaluation import statistics
from noisy_feedback.evaluation.metrics import METRICS
from noisy_feedback.evaluation.statistics import summarise
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.output import figures
from noisy_feedback.output.records import RunResult

COMBINATION = ["labels", "loss", "kl_weight", "noise"]
SHOWN = ["macro_f1", "quadratic_weighted_kappa"]
RATIOS = (0.0, 0.2, 0.4, 0.8)
CLOSE = 0.05  # points of several lines at one ratio may be drawn side by side, so far from it at most


@pytest.fixture(autouse=True)
def _quick_statistics(monkeypatch):
    """Only the metrics that are drawn, with the range as their interval."""
    monkeypatch.setattr(statistics, "METRICS", dict.fromkeys(SHOWN))
    monkeypatch.setattr(statistics, "bootstrap_interval", lambda values: (values.min(), values.max()))


def axes_of_runs(seeds=3, losses=("study",), ratios=RATIOS, noises=("uniform",), kl_weights=(0.0,)):
    """The values of the axes of every run of a full grid."""
    values = product(range(seeds), losses, kl_weights, noises, ratios)
    return [
        {"seed": seed, "labels": "all", "loss": loss, "kl_weight": weight, "noise": noise, "ratio": ratio}
        for seed, loss, weight, noise, ratio in values
    ]


def lacking(axes):
    """Without some runs: the seeds and ratios of the combinations differ."""
    return [run for run in axes if run["loss"] != "hinge" or (run["seed"] > 0 and run["ratio"] < 0.8)]


def curves_of(axes, training=2, fine_tuning=3):
    """A sweep's curves.csv with random scores."""
    rng = np.random.default_rng(0)
    nothing = dict.fromkeys((*COMBINATION, "ratio"))
    phases = [({"seed": seed, **nothing}, "training", training) for seed in sorted({run["seed"] for run in axes})]
    phases += [(run, "fine-tuning", fine_tuning) for run in axes]
    return pd.DataFrame(
        [
            {**run, "phase": phase, "epoch": epoch, "validation_accuracy": rng.random()}
            for run, phase, epochs in phases
            for epoch in range(1, epochs + 1)
        ]
    )


def runs_of(axes):
    """A sweep's runs.csv with random metrics; the model before fine-tuning is the seed's."""
    rng = np.random.default_rng(0)
    seeds = {run["seed"]: {f"before_{metric}": rng.random() for metric in METRICS} for run in axes}
    stages = [f"{stage}_{metric}" for stage in ("best", "last") for metric in METRICS]
    return pd.DataFrame(
        [
            {**run, "comparisons": rng.integers(9000), **seeds[run["seed"]], **{name: rng.random() for name in stages}}
            for run in axes
        ]
    )


def drawn_lines(axes, color):
    """Points (n, 2) of every line of one colour, single points left out."""
    lines = [np.array(line.get_xydata(), float) for line in axes.lines if to_hex(line.get_color()) == to_hex(color)]
    return [line for line in lines if len(line) > 1]


def colors_of_legend(figure):
    """The colour of every line that the legend names."""
    (legend,) = figure.findobj(Legend)
    names = (text.get_text() for text in legend.get_texts())
    return {name: handle.get_color() for name, handle in zip(names, legend.get_lines(), strict=True)}


def bars_of(axes):
    """By name of a line with bars: its ratios, its means, and the ends of its bars."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        x, means = line.get_xydata().T
        ends = np.array([np.sort(segment[:, 1]) for segment in bars.get_segments()])
        found[container.get_label()] = (x, means, ends)
    return found


def dots_of(axes):
    """The points (n, 2) of seeds, which stand behind the means."""
    parts = {id(part) for container in axes.containers for part in container.get_children()}
    dots = [line for line in axes.lines if id(line) not in parts and line.get_linestyle() == "None"]
    return np.concatenate([line.get_xydata() for line in dots])


# --- one run


def run_result(training=3, fine_tuning=4, compared=True):
    rng = np.random.default_rng(0)
    epochs = [EpochStats(*rng.random(6)) for _ in range(training + fine_tuning)]
    epochs[:training] = [replace(epoch, preference_accuracy=math.nan) for epoch in epochs[:training]]
    if not compared:
        epochs = [replace(epoch, validation_preference_accuracy=math.nan) for epoch in epochs]
    return RunResult(
        config=Config("multiclass", ratio=0.2),
        noise={},
        comparisons={},
        audit=None,
        best_epochs={"training": min(training, 2), "fine_tuning": min(fine_tuning, 1)},
        training=epochs[:training],
        fine_tuning=epochs[training:],
        majority=None,
        before=None,
        best=None,
        last=None,
    )


def scores_of(result, name):
    """A score of all epochs."""
    field = name.replace(" ", "_").lower()
    return [getattr(epoch, field) for epoch in result.training + result.fine_tuning]


@pytest.mark.parametrize(("training", "fine_tuning"), [(3, 4), (2, 0), (0, 3)])
def test_the_curves_of_a_run_are_its_scores_with_fine_tuning_behind_training(training, fine_tuning):
    result = run_result(training, fine_tuning)
    figure = figures.draw_run(result)
    colors = colors_of_legend(figure)
    del colors["kept epoch"]
    assert len(colors) == (4 if fine_tuning else 3)
    for name, color in colors.items():
        drawn = np.concatenate(drawn_lines(figure.axes[0], color))
        expected = np.array([range(1, training + fine_tuning + 1), scores_of(result, name)]).T
        np.testing.assert_array_equal(drawn, expected, err_msg=name)


def test_dots_of_a_run_stand_at_the_kept_epochs_of_its_phases():
    result = run_result()
    figure = figures.draw_run(result)
    for name, color in colors_of_legend(figure).items():
        if name != "kept epoch":
            lines = [line for line in figure.axes[0].lines if line.get_color() == color and line.get_marker() == "o"]
            scores = scores_of(result, name)
            expected = np.array([[2, scores[1]], [4, scores[3]]])  # epoch 2 of training, epoch 1 of fine-tuning
            np.testing.assert_array_equal(np.concatenate([line.get_xydata() for line in lines]), expected)


def test_a_run_whose_texts_nobody_compared_has_no_preference_accuracy_on_validation():
    figure = figures.draw_run(run_result(compared=False))
    assert set(colors_of_legend(figure)) == {
        "validation accuracy",
        "validation macro F1",
        "preference accuracy",
        "kept epoch",
    }


# --- curves


def check_curve(axes, color, start, of_seeds):
    """A line is the mean over seeds (seeds, epochs) from epoch `start` on, with a band of a standard deviation."""
    epochs = np.arange(start, start + of_seeds.shape[1])
    mean, sd = of_seeds.mean(axis=0), of_seeds.std(axis=0, ddof=1)
    (line,) = drawn_lines(axes, color)
    np.testing.assert_allclose(line, np.array([epochs, mean]).T)
    (band,) = (band for band in axes.collections if to_hex(band.get_facecolor()[0]) == to_hex(color))
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(9)}
    expected = np.array([[*epochs, *epochs], [*(mean - sd), *(mean + sd)]]).T
    assert {tuple(corner) for corner in expected.round(9)} <= corners


def seeds_of_curves(rows):
    return rows.pivot(index="seed", columns="epoch", values="validation_accuracy").to_numpy()


def test_curves_are_means_over_seeds_with_fine_tuning_behind_training():
    curves = curves_of(axes_of_runs())
    (figure,) = figures.draw_curves(curves)
    (axes,) = figure.axes
    check_curve(axes, figures.BLACK, 1, seeds_of_curves(curves[curves["phase"] == "training"]))
    colors = colors_of_legend(figure)
    assert list(colors) == ["0", "0.2", "0.4", "0.8"]
    for ratio, color in colors.items():
        check_curve(axes, color, 3, seeds_of_curves(curves[curves["ratio"] == float(ratio)]))


def test_every_combination_has_a_panel_with_its_own_curves_and_the_training_of_its_own_seeds():
    curves = curves_of(lacking(axes_of_runs(losses=("hinge", "study"))))
    (figure,) = figures.draw_curves(curves)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert set(panels) == {"hinge", "study"}
    training = curves[curves["phase"] == "training"]
    check_curve(panels["hinge"], figures.BLACK, 1, seeds_of_curves(training[training["seed"] > 0]))
    check_curve(panels["study"], figures.BLACK, 1, seeds_of_curves(training))
    color = colors_of_legend(figure)["0.4"]
    for loss, axes in panels.items():
        own = curves[(curves["loss"] == loss) & (curves["ratio"] == 0.4)]
        check_curve(axes, color, 3, seeds_of_curves(own))


@pytest.mark.parametrize(("training", "fine_tuning"), [(0, 3), (3, 0)])
def test_a_sweep_of_one_phase_is_drawn_from_epoch_1_on(training, fine_tuning):
    (figure,) = figures.draw_curves(curves_of(axes_of_runs(ratios=(0.2,)), training, fine_tuning))
    points = np.concatenate([line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata())])
    assert points[:, 0].tolist() == [1, 2, 3]


def test_where_people_compared_texts_curves_show_the_preference_accuracy():
    curves = curves_of(axes_of_runs())
    (without,) = figures.draw_curves(curves.assign(validation_preference_accuracy=np.nan))
    (drawn,) = figures.draw_curves(curves.assign(validation_preference_accuracy=0.25))
    assert without.axes[0].get_ylabel().replace("\n", " ") == "validation accuracy"
    assert drawn.axes[0].get_ylabel().replace("\n", " ") == "validation preference accuracy"
    assert {y for line in drawn_lines(drawn.axes[0], figures.BLACK) for y in line[:, 1]} == {0.25}


# --- metrics


def check_means(bars, values):
    """Means and bars are those of values by ratio: of the interval, which is the range here, no end is exchanged."""
    x, means, ends = bars
    by_ratio = values.groupby("ratio")["value"]
    np.testing.assert_allclose(x, list(by_ratio.groups), atol=CLOSE)
    np.testing.assert_allclose(means, by_ratio.mean())
    np.testing.assert_allclose(ends, np.array([by_ratio.min(), by_ratio.max()]).T)


def values_of(runs, column):
    return runs[["ratio"]].assign(value=runs[column])


def test_the_metrics_of_one_combination_are_those_of_the_best_and_of_the_last_epoch():
    runs = runs_of(axes_of_runs())
    (figure,) = figures.draw_metrics(runs, summarise(runs))
    for axes, metric in zip(figure.axes, SHOWN, strict=False):
        assert axes.get_ylabel().replace("\n", " ") == f"test {METRICS[metric]}"
        bars = bars_of(axes)
        assert set(bars) == {"best epoch", "last epoch"}
        for stage in ("best", "last"):
            check_means(bars[f"{stage} epoch"], values_of(runs, f"{stage}_{metric}"))
        both = np.concatenate([runs[["ratio", f"{stage}_{metric}"]] for stage in ("best", "last")])
        np.testing.assert_allclose(dots_of(axes), both, atol=CLOSE)
        np.testing.assert_array_equal(dots_of(axes)[:, 1], both[:, 1])


def test_the_metrics_of_several_combinations_are_those_of_the_last_epoch():
    runs = runs_of(lacking(axes_of_runs(losses=("hinge", "study"))))
    (figure,) = figures.draw_metrics(runs, summarise(runs))
    assert "last epoch" in figure.get_supxlabel()
    for axes, metric in zip(figure.axes, SHOWN, strict=False):
        bars = bars_of(axes)
        assert set(bars) == {"hinge", "study"}
        for loss in bars:
            check_means(bars[loss], values_of(runs[runs["loss"] == loss], f"last_{metric}"))
        assert set(dots_of(axes)[:, 1]) == set(runs[f"last_{metric}"])


def test_the_level_before_fine_tuning_is_the_mean_over_seeds_however_many_runs_these_have():
    runs = runs_of(lacking(axes_of_runs(losses=("hinge", "study"))))
    (figure,) = figures.draw_metrics(runs, summarise(runs))
    for axes, metric in zip(figure.axes, SHOWN, strict=False):
        (level,) = (line for line in axes.lines if line.get_label() == "before fine-tuning")
        expected = runs.groupby("seed")[f"before_{metric}"].first().mean()
        assert level.get_ydata() == pytest.approx([expected, expected])


def test_the_numbers_of_comparisons_are_the_means_of_each_combination():
    runs = runs_of(axes_of_runs(losses=("hinge", "study")))
    (figure,) = figures.draw_metrics(runs, summarise(runs))
    drawn = [line.get_xydata() for line in figure.axes[-1].lines]
    for line, loss in zip(drawn, ("hinge", "study"), strict=True):
        means = runs[runs["loss"] == loss].groupby("ratio")["comparisons"].mean()
        np.testing.assert_allclose(line[:, 0], means.index, atol=CLOSE)
        np.testing.assert_allclose(line[:, 1], means)


def test_an_interval_that_does_not_hold_its_mean_has_no_bar_on_that_side():
    """As a BCa interval of few seeds can be."""
    summary = summarise(runs_of(axes_of_runs(ratios=(0.2,)))).assign(mean=0.5, ci_low=0.6, ci_high=0.8)
    (figure,) = figures.draw_metrics(runs_of(axes_of_runs(ratios=(0.2,))), summary)
    _, means, ends = bars_of(figure.axes[0])["last epoch"]
    assert (means.tolist(), ends.tolist()) == ([0.5], [[0.5, pytest.approx(0.8)]])


# --- change


def test_the_change_is_that_of_the_last_epoch_from_before_fine_tuning():
    runs = runs_of(lacking(axes_of_runs(losses=("hinge", "study"))))
    (figure,) = figures.draw_change(summarise(runs))
    for axes, metric in zip(figure.axes, SHOWN, strict=True):
        assert axes.get_title() == f"test {METRICS[metric]}"
        (image,) = axes.images
        change = runs.assign(change=runs[f"last_{metric}"] - runs[f"before_{metric}"])
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert sorted(names) == ["hinge", "study"]
        expected = change.pivot_table("change", "loss", "ratio").loc[names]  # NaN where there is no run
        np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), expected)
        assert [label.get_text() for label in axes.get_xticklabels()] == [f"{ratio:g}" for ratio in expected]
        numbers = [f"{value:+.3f}" if np.isfinite(value) else "-" for value in expected.to_numpy().ravel()]
        assert [text.get_text() for text in axes.texts] == numbers
        places = [(row, column) for row in range(2) for column in range(len(RATIOS))]
        assert [text.get_position()[::-1] for text in axes.texts] == places
        largest = np.nanmax(np.abs(expected))
        assert image.get_clim() == pytest.approx((-largest, largest))


# --- the audit


def audited(axes):
    """A sweep's runs.csv with random audits, one for each seed, noise and ratio."""
    runs = runs_of(axes)
    kinds = runs.groupby(["seed", "noise", "ratio"]).ngroup()
    rates = np.random.default_rng(1).random((kinds.max() + 1, 3))
    runs[["estimated_flip_rate", "flip_rate", "auroc"]] = rates[kinds]
    return runs


def test_a_dot_of_the_audit_is_the_feedback_of_a_seed_and_a_line_the_mean_over_seeds():
    runs = audited(axes_of_runs(losses=("hinge", "study"), noises=("uniform", "adjacent"), ratios=(0.2, 0.8)))
    (figure,) = figures.draw_audit(runs)
    rates, scores = figure.axes
    runs = runs[runs["loss"] == "study"]  # the loss comes after the audit
    colors = colors_of_legend(figure)
    assert set(colors) == {"all, uniform", "all, adjacent"}
    for name, color in colors.items():
        own = runs[runs["noise"] == name.partition(", ")[2]]
        (dots,) = drawn_lines(rates, color)
        np.testing.assert_allclose(dots, own[["flip_rate", "estimated_flip_rate"]])
        dots, means = drawn_lines(scores, color)
        np.testing.assert_allclose(dots, own[["ratio", "auroc"]], atol=CLOSE)
        np.testing.assert_array_equal(dots[:, 1], own["auroc"])
        by_ratio = own.groupby("ratio")["auroc"].mean()
        np.testing.assert_allclose(means, by_ratio.reset_index(), atol=CLOSE)
        np.testing.assert_allclose(means[:, 1], by_ratio)
    (right,), (chance,) = drawn_lines(rates, figures.GREY), drawn_lines(scores, figures.GREY)
    assert (right[:, 0] == right[:, 1]).all()
    assert set(chance[:, 1]) == {0.5}


def test_the_figure_of_the_audit_leaves_out_what_is_not_known():
    runs = audited(axes_of_runs())
    runs.loc[runs["ratio"] == 0.0, ["flip_rate", "auroc"]] = np.nan
    (figure,) = figures.draw_audit(runs)
    assert np.isnan(figure.axes[1].lines[1].get_ydata()).tolist() == [True, False, False, False]


# --- all figures


def all_figures(runs, curves):
    summary = summarise(runs)
    (of_curves,), (of_metrics,) = figures.draw_curves(curves), figures.draw_metrics(runs, summary)
    (of_change,) = figures.draw_change(summary)
    return of_curves, of_metrics, of_change


@pytest.mark.parametrize(("seeds", "text"), [(1, "1 seed"), (3, "mean of 3 seeds")])
def test_every_figure_says_how_many_seeds_it_shows(seeds, text):
    axes = axes_of_runs(seeds)
    for figure in all_figures(runs_of(axes), curves_of(axes)):
        assert text in figure.get_supxlabel()


def test_a_sweep_that_is_not_a_full_grid_has_its_numbers_of_seeds_named():
    axes = lacking(axes_of_runs(losses=("hinge", "study")))
    for figure in all_figures(runs_of(axes), curves_of(axes)):
        assert "mean of 2 to 3 seeds" in figure.get_supxlabel()


def test_a_metric_that_is_nowhere_defined_leaves_an_empty_panel():
    undefined = {f"{stage}_quadratic_weighted_kappa": np.nan for stage in ("before", "best", "last")}
    axes = axes_of_runs(2, ratios=(0.0, 0.5))
    for figure in all_figures(runs_of(axes).assign(**undefined), curves_of(axes)):
        figure.savefig(io.BytesIO())


def test_where_people_compared_texts_the_figures_show_the_preference_accuracy(monkeypatch):
    monkeypatch.setattr(statistics, "METRICS", dict.fromkeys(("preference_accuracy", "quadratic_weighted_kappa")))
    axes = axes_of_runs(losses=("hinge", "study"))
    runs = runs_of(axes)
    _, metrics, change = all_figures(runs, curves_of(axes))
    assert metrics.axes[0].get_ylabel().replace("\n", " ") == "test preference accuracy"
    check_means(bars_of(metrics.axes[0])["study"], values_of(runs[runs["loss"] == "study"], "last_preference_accuracy"))
    assert change.axes[0].get_title() == "test preference accuracy"


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_the_same_table_gives_the_same_bytes(tmp_path, suffix):
    summary = summarise(runs_of(axes_of_runs(2)))
    files = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
    for file in files:
        figures.save_figure(figures.draw_change(summary)[0], file)
    one, other = (file.read_bytes() for file in files)
    assert one == other
    assert len(one) > 1000


def test_the_module_needs_neither_pyplot_nor_scipy():
    code = "import sys, noisy_feedback.output.figures; assert not {'matplotlib.pyplot', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
