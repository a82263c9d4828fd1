import math
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend

from noisy_feedback.config import Config
from noisy_feedback.evaluation import statistics
from noisy_feedback.evaluation.metrics import METRICS
from noisy_feedback.evaluation.statistics import summarise
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.output import figures
from noisy_feedback.output.records import RunResult

LOSSES = ("symmetric-sigmoid", "study", "bradley-terry", "plackett-luce", "hinge", "label-smoothing", "robust")
NOISES = ("least-confident", "adjacent", "uniform")
COMBINATIONS = list(product(LOSSES, (0.0, 0.25), NOISES))
RATIOS = {
    1: [0.4],
    2: [0.0, 0.5],
    5: [0.0, 0.2, 0.4, 0.6, 0.8],
    12: [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
}
EPOCHS = [(1, 1), (2, 2), (2, 100), (0, 5), (5, 0)]  # of training, of fine-tuning
GRIDS = [  # seeds, combinations, ratios
    (1, 1, 1),
    (20, 1, 2),
    (2, 1, 12),
    (3, 4, 5),
    (1, 14, 2),
]


@pytest.fixture(autouse=True)
def quick_statistics(monkeypatch):
    """Only the metrics that are drawn, with the range as their interval."""
    monkeypatch.setattr(statistics, "METRICS", dict.fromkeys(("macro_f1", "quadratic_weighted_kappa")))
    monkeypatch.setattr(statistics, "bootstrap_interval", lambda values: (values.min(), values.max()))


def axes_of_runs(seeds, combinations, ratios):
    for seed in range(seeds):
        for loss, kl_weight, noise in COMBINATIONS[:combinations]:
            for ratio in RATIOS[ratios]:
                axes = {"seed": seed, "labels": "all", "loss": loss, "kl_weight": kl_weight, "noise": noise}
                yield {**axes, "ratio": ratio}


def curves_of(axes, training, fine_tuning):
    """A sweep's curves.csv with random scores."""
    rng = np.random.default_rng(0)
    axes = list(axes)
    nothing = dict.fromkeys(("labels", "loss", "kl_weight", "noise", "ratio"))
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
    """A sweep's runs.csv with random metrics."""
    rng = np.random.default_rng(0)
    stages = [f"{stage}_{metric}" for stage in ("before", "best", "last") for metric in METRICS]
    return pd.DataFrame(
        [
            {**run, "comparisons": int(9000 * (1 - run["ratio"])), **{name: rng.random() for name in stages}}
            for run in axes
        ]
    )


def run_result(training, fine_tuning):
    rng = np.random.default_rng(0)
    scores = rng.random((training + fine_tuning, 2))
    epochs = [EpochStats(1.0, 0.5, 0.8 if n >= training else math.nan, *pair) for n, pair in enumerate(scores)]
    return RunResult(
        config=Config("multiclass", ratio=0.2),
        noise={},
        comparisons={},
        audit=None,
        best_epochs={"training": training, "fine_tuning": fine_tuning},
        training=epochs[:training],
        fine_tuning=epochs[training:],
        majority=None,
        before=None,
        best=None,
        last=None,
    )


def render(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def overlap(one, other):
    """Whether two boxes share more than a pixel."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1


def tick_boxes(axis):
    """The boxes of the numbers that are shown at an axis."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1,) if label.get_visible() and label.get_text()]
    return [label.get_window_extent() for label in labels]


def check_layout(figure):
    """Legends lie off the panels, nothing is clipped, numbers and titles do not overlap, named axes have numbers."""
    drawn = figure.get_tightbbox(render(figure))
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0, "something is clipped on the left or below"
    assert drawn.x1 <= width and drawn.y1 <= height, "something is clipped on the right or above"
    panels = [axes.get_window_extent() for axes in figure.axes]
    for legend in figure.findobj(Legend):
        assert not any(overlap(legend.get_window_extent(), panel) for panel in panels), "a legend lies on a panel"
    titles = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert not any(overlap(*pair) for pair in combinations(titles, 2)), "two titles overlap"
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = tick_boxes(axis)
            assert not any(overlap(*pair) for pair in combinations(boxes, 2)), "two numbers overlap"
            assert boxes or not axis.get_label_text(), f"{axis.get_label_text()} has no numbers"


def epoch_ticks(axes):
    low, high = axes.get_xlim()
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


@pytest.mark.parametrize(("training", "fine_tuning"), EPOCHS)
def test_the_figure_of_a_run_is_legible(training, fine_tuning):
    figure = figures.draw_run(run_result(training, fine_tuning))
    check_layout(figure)
    assert all(tick == int(tick) for tick in epoch_ticks(figure.axes[0]))


@pytest.mark.parametrize(("training", "fine_tuning"), EPOCHS)
def test_the_figure_of_curves_is_legible_for_any_number_of_epochs(training, fine_tuning):
    (figure,) = figures.draw_curves(curves_of(axes_of_runs(2, 1, 5), training, fine_tuning))
    check_layout(figure)
    assert all(tick == int(tick) for tick in epoch_ticks(figure.axes[0]))


@pytest.mark.parametrize(("seeds", "combinations", "ratios"), GRIDS)
def test_figures_of_curves_are_legible_for_any_grid(seeds, combinations, ratios):
    pages = figures.draw_curves(curves_of(axes_of_runs(seeds, combinations, ratios), 2, 2))
    for page in {pages[0], pages[-1]}:
        check_layout(page)
    assert sum(len(page.axes) for page in pages) == combinations
    assert len({axes.get_ylim() for page in pages for axes in page.axes}) == 1


@pytest.mark.parametrize(("seeds", "combinations", "ratios"), GRIDS)
def test_figures_of_metrics_and_of_their_change_are_legible_for_any_grid(seeds, combinations, ratios):
    runs = runs_of(axes_of_runs(seeds, combinations, ratios))
    summary = summarise(runs)
    for pages in (figures.draw_metrics(runs, summary), figures.draw_change(summary)):
        for page in {pages[0], pages[-1]}:
            check_layout(page)


@pytest.mark.parametrize(("combinations", "ratios"), [(1, 1), (1, 12), (7, 2)])
def test_ticks_stand_at_the_ratios_and_the_lines_evenly_about_them(combinations, ratios):
    runs = runs_of(axes_of_runs(2, combinations, ratios))
    (figure,) = figures.draw_metrics(runs, summarise(runs))
    for axes in figure.axes:
        assert list(axes.get_xticks()) == RATIOS[ratios]
    lines = [bars.lines[0].get_xdata() for bars in figure.axes[0].containers]
    assert len(lines) == max(combinations, 2)
    assert np.mean(lines, axis=0) == pytest.approx(np.array(RATIOS[ratios]))
    step = min(np.diff(RATIOS[ratios]), default=1)
    assert np.ptp(lines, axis=0).max() <= 0.5 * step


def test_the_number_of_comparisons_is_drawn_for_every_ratio():
    runs = runs_of(axes_of_runs(2, 1, 5))
    (figure,) = figures.draw_metrics(runs, summarise(runs))
    (line,) = figure.axes[-1].lines
    assert line.get_xydata().tolist() == [[ratio, int(9000 * (1 - ratio))] for ratio in RATIOS[5]]


def test_a_dot_marks_the_kept_epoch_of_each_phase():
    figure = figures.draw_run(run_result(3, 4))
    dots = {line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"}
    assert dots == {3, 7}


def test_preference_accuracy_is_drawn_over_fine_tuning():
    figure = figures.draw_run(run_result(3, 4))
    lines = [line for line in figure.axes[0].lines if line.get_color() == figures.GREEN and len(line.get_xdata()) > 1]
    shown = [x for line in lines for x, y in line.get_xydata() if np.isfinite(y)]
    assert shown == [4, 5, 6, 7]


@pytest.mark.parametrize(("seeds", "text"), [(1, "1 seed"), (3, "mean of 3 seeds")])
def test_every_figure_says_how_many_seeds_it_shows(seeds, text):
    axes = list(axes_of_runs(seeds, 1, 2))
    runs = runs_of(axes)
    summary = summarise(runs)
    pages = (
        figures.draw_curves(curves_of(axes, 2, 2)),
        figures.draw_metrics(runs, summary),
        figures.draw_change(summary),
    )
    for (figure,) in pages:
        assert text in figure.get_supxlabel()


def test_a_sweep_that_is_not_a_full_grid_is_drawn_and_its_numbers_of_seeds_named():
    axes = [run for run in axes_of_runs(3, 2, 5) if (run["noise"], run["ratio"]) != ("adjacent", 0.8)]
    axes = [run for run in axes if (run["noise"], run["seed"]) != ("adjacent", 0)]
    runs = runs_of(axes)
    summary = summarise(runs)
    (curves,), (metrics,) = figures.draw_curves(curves_of(axes, 2, 2)), figures.draw_metrics(runs, summary)
    (change,) = figures.draw_change(summary)
    for figure in (curves, metrics, change):
        check_layout(figure)
        assert "mean of 2 to 3 seeds" in figure.get_supxlabel()
    assert [text.get_text() for text in change.axes[0].texts].count("-") == 1


def test_a_metric_that_is_nowhere_defined_leaves_an_empty_panel():
    undefined = {f"{stage}_quadratic_weighted_kappa": np.nan for stage in ("before", "best", "last")}
    runs = runs_of(axes_of_runs(2, 1, 2)).assign(**undefined)
    summary = summarise(runs)
    for (figure,) in (figures.draw_metrics(runs, summary), figures.draw_change(summary)):
        check_layout(figure)


# --- comparisons that people made, and the audit


def audited_runs(seeds=2, combinations=2, ratios=5):
    """A sweep's runs.csv with random audits."""
    runs = runs_of(axes_of_runs(seeds, combinations, ratios))
    scores = np.random.default_rng(1).random((len(runs), 3))
    runs[["estimated_flip_rate", "flip_rate", "auroc"]] = scores
    return runs


@pytest.mark.parametrize(("seeds", "combinations", "ratios"), GRIDS)
def test_the_figure_of_the_audit_is_legible_for_any_grid(seeds, combinations, ratios):
    for figure in figures.draw_audit(audited_runs(seeds, combinations, ratios)):
        check_layout(figure)


def test_a_dot_of_the_audit_is_a_run_and_a_line_the_mean_of_seeds():
    runs = audited_runs(seeds=3, combinations=1, ratios=2)
    (figure,) = figures.draw_audit(runs)
    rates, scores = figure.axes
    diagonal, dots = rates.lines
    assert dots.get_xydata().tolist() == runs[["flip_rate", "estimated_flip_rate"]].to_numpy().tolist()
    assert (diagonal.get_xdata() == diagonal.get_ydata()).all()
    _, means, chance = scores.lines
    assert means.get_ydata() == pytest.approx([runs[runs["ratio"] == ratio]["auroc"].mean() for ratio in RATIOS[2]])
    assert set(chance.get_ydata()) == {0.5}


def test_the_figure_of_the_audit_leaves_out_what_is_not_known():
    runs = audited_runs(combinations=1)
    runs.loc[runs["ratio"] == 0.0, ["flip_rate", "auroc"]] = np.nan
    (figure,) = figures.draw_audit(runs)
    check_layout(figure)
    assert np.isnan(figure.axes[1].lines[1].get_ydata()).tolist() == [True, False, False, False, False]


def test_where_people_compared_texts_the_figures_show_the_preference_accuracy(monkeypatch):
    monkeypatch.setattr(statistics, "METRICS", dict.fromkeys(("preference_accuracy", "quadratic_weighted_kappa")))
    axes = list(axes_of_runs(2, 2, 2))
    runs, curves = runs_of(axes), curves_of(axes, 2, 2)
    curves["validation_preference_accuracy"] = 0.25
    summary = summarise(runs)
    (metrics,), (change,) = figures.draw_metrics(runs, summary), figures.draw_change(summary)
    (drawn,) = figures.draw_curves(curves)
    for figure in (metrics, change, drawn):
        check_layout(figure)
    assert metrics.axes[0].get_ylabel().replace("\n", " ") == "test preference accuracy"
    assert change.axes[0].get_title() == "test preference accuracy"
    assert drawn.axes[0].get_ylabel().replace("\n", " ") == "validation preference accuracy"
    assert {y for axes in drawn.axes for line in axes.lines[:-1] for y in line.get_ydata()} == {0.25}


def test_curves_of_simulated_comparisons_show_the_accuracy():
    curves = curves_of(axes_of_runs(2, 1, 2), 2, 2).assign(validation_preference_accuracy=np.nan)
    (figure,) = figures.draw_curves(curves)
    assert figure.axes[0].get_ylabel().replace("\n", " ") == "validation accuracy"


@pytest.mark.parametrize("compared", [True, False])
def test_the_preference_accuracy_of_a_run_on_validation_is_drawn_where_people_compared(compared):
    result = run_result(3, 4)
    if compared:
        for phase in (result.training, result.fine_tuning):
            phase[:] = [replace(epoch, validation_preference_accuracy=0.375) for epoch in phase]
    figure = figures.draw_run(result)
    check_layout(figure)
    drawn = [
        x for line in figure.axes[0].lines for x, y in line.get_xydata() if y == 0.375 and line.get_marker() != "o"
    ]
    assert drawn == ([1, 2, 3, 4, 5, 6, 7] if compared else [])
    (legend,) = figure.findobj(Legend)
    assert ("validation preference accuracy" in [text.get_text() for text in legend.get_texts()]) == compared


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_the_same_table_gives_the_same_bytes(tmp_path, suffix):
    runs = runs_of(axes_of_runs(2, 1, 2))
    files = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
    for file in files:
        figures.save_figure(figures.draw_change(summarise(runs))[0], file)
    one, other = (file.read_bytes() for file in files)
    assert one == other
    assert len(one) > 1000


def test_the_module_needs_neither_pyplot_nor_scipy():
    code = "import sys, noisy_feedback.output.figures; assert not {'matplotlib.pyplot', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
