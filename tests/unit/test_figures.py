"""Figures show the numbers of the tables that they are given: what is compared are the values that are drawn."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from scipy import stats

from noisy_feedback.config import SWEEP_AXES, Config
from noisy_feedback.evaluation import statistics
from noisy_feedback.evaluation.statistics import summarise
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.metrics import METRICS
from noisy_feedback.output import figures, plots
from noisy_feedback.output.sweep_tables import SweepTables
from tests.unit.test_records import result_of

SHOWN = ["macro_f1", "quadratic_weighted_kappa", "pairwise_accuracy"]
RATIOS = (0.0, 0.2, 0.4, 0.8)
CLASSES = 5
CLOSE = 0.25  # lines at one place are drawn side by side, so far from it at most


@pytest.fixture(autouse=True)
def _quick_statistics(monkeypatch):
    """Only the metrics that are drawn."""
    monkeypatch.setattr(statistics, "METRICS", dict.fromkeys(SHOWN))


def axes_of_runs(seeds=3, losses=("study",), ratios=RATIOS, noises=("uniform",), labels=("all",)):
    """The values of the axes of every run of a full grid."""
    return [
        {"seed": seed, "labels": label, "loss": loss, "kl_weight": 0.0, "noise": noise, "ratio": ratio}
        for seed, label, loss, noise, ratio in product(range(seeds), labels, losses, noises, ratios)
    ]


def lacking(axes):
    """Without some runs: the seeds and ratios of the settings differ."""
    return [run for run in axes if run["loss"] != "hinge" or (run["seed"] > 0 and run["ratio"] < 0.8)]


def curves_of(axes, training=2, fine_tuning=3):
    """A sweep's curves.csv with random scores."""
    seeds = sorted({run["seed"] for run in axes})
    known = [{"seed": seed, "phase": "training", "epoch": 1 + number} for seed in seeds for number in range(training)]
    tuned = [{**run, "phase": "fine-tuning", "epoch": 1 + number} for run in axes for number in range(fine_tuning)]
    curves = pd.DataFrame([*known, *tuned], columns=[*SWEEP_AXES, "phase", "epoch"])
    scores = np.random.default_rng(0).random(len(curves))
    return curves.assign(validation_accuracy=scores, validation_preference_accuracy=np.nan)


def runs_of(axes):
    """A sweep's runs.csv with random metrics; the model before fine-tuning is the seed's."""
    runs, rng = pd.DataFrame(axes), np.random.default_rng(0)
    runs["comparisons"] = rng.integers(9000, size=len(runs))
    for metric in METRICS:
        for stage in ("majority", "before"):
            runs[f"{stage}_{metric}"] = rng.random(10)[runs["seed"]]
        for stage in ("best", "last"):
            runs[f"{stage}_{metric}"] = rng.random(len(runs))
    return runs


def tables_of(runs, curves=None, classes=CLASSES):
    """What is drawn of these runs."""
    axes = runs[list(SWEEP_AXES)].to_dict("records")
    return SweepTables(runs, curves_of(axes) if curves is None else curves, summarise(runs), classes)


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


@pytest.mark.parametrize(
    ("training", "fine_tuning", "compared", "kept"),
    [(3, 4, True, [2, 4]), (2, 0, True, [2]), (0, 3, True, [1]), (3, 4, False, [2, 4])],
)
def test_the_curves_of_a_run_are_its_scores_with_dots_at_kept_epochs_and_fine_tuning_behind_training(
    training, fine_tuning, compared, kept
):
    numbers = np.random.default_rng(0).random((training + fine_tuning, 6))
    numbers[:training, 2] = np.nan  # in training nothing is preferred
    numbers[:, 5] = numbers[:, 5] if compared else np.nan
    epochs = [EpochStats(*row) for row in numbers]
    best = {"training": min(training, 2), "fine_tuning": min(fine_tuning, 1)}
    result = result_of(Config("multiclass", ratio=0.2))
    result = replace(result, best_epochs=best, training=epochs[:training], fine_tuning=epochs[training:])
    figure = plots.draw_run(result)
    colors = colors_of_legend(figure)
    del colors["kept epoch"]
    names = {"validation accuracy", "validation macro F1"}
    names |= {"preference accuracy"} if fine_tuning else set()
    names |= {"validation preference accuracy"} if compared else set()
    assert set(colors) == names
    for name, color in colors.items():
        field = name.replace(" ", "_").lower()
        scores = np.array([getattr(epoch, field) for epoch in epochs])
        *lines, dots = (line.get_xydata() for line in figure.axes[0].lines if line.get_color() == color)
        np.testing.assert_array_equal(np.concatenate(lines), np.array([np.arange(len(epochs)) + 1, scores]).T)
        assert [len(line) for line in lines] == [training, fine_tuning]
        np.testing.assert_array_equal(dots, np.array([kept, scores[np.array(kept) - 1]]).T)


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


def test_every_setting_has_a_panel_with_its_own_curves_behind_the_training_of_its_own_seeds():
    axes = lacking(axes_of_runs(losses=("hinge", "study")))
    curves = curves_of(axes)
    figure = figures.draw_curves(tables_of(runs_of(axes), curves))
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert set(panels) == {"hinge", "study"}
    training = curves[curves["phase"] == "training"]
    check_curve(panels["hinge"], plots.BLACK, 1, seeds_of_curves(training[training["seed"] > 0]))
    check_curve(panels["study"], plots.BLACK, 1, seeds_of_curves(training))
    colors = colors_of_legend(figure)
    assert list(colors) == ["0", "0.2", "0.4", "0.8"]
    for loss, ratio in product(panels, ("0.2", "0.4")):
        own = curves[(curves["loss"] == loss) & (curves["ratio"] == float(ratio))]
        check_curve(panels[loss], colors[ratio], 3, seeds_of_curves(own))


def test_a_sweep_of_one_phase_is_drawn_from_epoch_1_on():
    axes = axes_of_runs(ratios=(0.2,))
    for epochs in ((0, 3), (3, 0)):
        figure = figures.draw_curves(tables_of(runs_of(axes), curves_of(axes, *epochs)))
        points = np.concatenate([line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata())])
        assert points[:, 0].tolist() == [1, 2, 3]
        assert ("nothing was fine-tuned" in figure.get_supxlabel()) == (epochs == (3, 0))
    adaptive = runs_of([{**run, "kl_weight": "adaptive"} for run in axes])
    assert "leave out seeds that were not fine-tuned" in figures.draw_curves(tables_of(adaptive)).get_supxlabel()


# --- metrics


def check_means(bars, values):
    """Means and bars (at places) are those of the column `value` by ratio, with scipy's t intervals."""
    x, means, ends = bars
    groups = [group for _, group in values.groupby("ratio")["value"]]
    np.testing.assert_allclose(x, range(len(groups)), atol=CLOSE)
    np.testing.assert_allclose(means, [group.mean() for group in groups])
    expected = [stats.t.interval(0.95, len(group) - 1, group.mean(), stats.sem(group)) for group in groups]
    np.testing.assert_allclose(ends, expected)


def levels_of(axes, label):
    """Where a horizontal line of a metric stands; None where there is none."""
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_label() == label]
    return levels[0] if levels else None


@pytest.mark.parametrize("losses", [("study",), ("hinge", "study")])
def test_the_metrics_are_those_of_the_last_epoch_of_each_setting_and_of_one_alone_also_of_the_best(losses):
    runs = runs_of(lacking(axes_of_runs(losses=losses)))
    figure = figures.draw_metrics(sweep := tables_of(runs))
    assert ("last epoch" in figure.get_supxlabel()) == (len(losses) > 1)
    lines = {"last epoch": ("last", runs), "best epoch": ("best", runs)}
    if len(losses) > 1:
        lines = {loss: ("last", runs[runs["loss"] == loss]) for loss in losses}
    seeds = runs.groupby("seed").first()  # however many runs these have
    for axes, metric in zip(figure.axes, SHOWN, strict=False):
        assert axes.get_ylabel().replace("\n", " ") == f"test {METRICS[metric]}"
        bars, dots = bars_of(axes), dots_of(axes)
        assert set(bars) == set(lines)
        for name, (stage, own) in lines.items():
            check_means(bars[name], own[["ratio"]].assign(value=own[f"{stage}_{metric}"]))
        expected = {
            value: RATIOS.index(ratio)
            for stage, own in lines.values()
            for ratio, value in zip(own["ratio"], own[f"{stage}_{metric}"], strict=True)
        }
        assert dict(zip(dots[:, 1], dots[:, 0], strict=True)) == pytest.approx(expected, abs=CLOSE)
        assert levels_of(axes, "before fine-tuning") == pytest.approx(seeds[f"before_{metric}"].mean())
        level = seeds["majority_macro_f1"].mean() if metric == "macro_f1" else None
        assert levels_of(axes, "most frequent rating") == pytest.approx(level)
    counts = [line.get_xydata() for line in figure.axes[-1].lines]
    for line, loss in zip(counts, sorted(losses, reverse=True), strict=True):
        means = runs[runs["loss"] == loss].groupby("ratio")["comparisons"].mean()
        np.testing.assert_allclose(line, np.array([range(len(means)), means]).T)
    sweep.summary["ci_low"] = -1.0  # longer than the upper half
    longer = figures.draw_metrics(sweep)
    np.testing.assert_allclose(next(iter(bars_of(longer.axes[0]).values()))[2][:, 0], -1)


@pytest.mark.parametrize(("classes", "place"), [(5, 3), (2, 2.25), (10, None)])
def test_the_ratio_without_information_is_marked_where_the_axis_reaches_it(classes, place):
    """Ratio 0.8 is the fourth place; 0.5 lies a quarter of the way from 0.4 to 0.8."""
    sweep = tables_of(runs_of(axes_of_runs(losses=("hinge", "study"))), classes=classes)
    figure = figures.draw_metrics(sweep)
    lines = [line for line in figure.axes[0].lines if line.get_label() == "no information (uniform)"]
    assert [line.get_xdata()[0] for line in lines] == pytest.approx([] if place is None else [place])
    drawn = [figure, figures.draw_change(sweep), figures.draw_curves(sweep)]
    note = f"uniform noise of ratio {(classes - 1) / classes:g} leaves no information"
    assert [note in figure.get_supxlabel() for figure in drawn] == [place is not None] * 3


# --- change


def test_the_change_is_that_of_the_last_epoch_from_before_fine_tuning_and_bold_where_significant():
    runs = runs_of(lacking(axes_of_runs(losses=("hinge", "study"))))
    for metric in SHOWN:  # one change that is significant
        chosen = (runs["loss"] == "study") & (runs["ratio"] == 0.4)
        runs.loc[chosen, f"last_{metric}"] = runs[f"before_{metric}"] + np.where(runs["seed"] > 0, 0.2, 0.21)
    figure = figures.draw_change(tables_of(runs))
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == [f"{ratio:g}" for ratio in RATIOS]
    assert len(figure.axes) == 2 * len(panels)  # every metric has a colour bar
    for axes, metric in zip(panels, SHOWN, strict=True):
        assert axes.get_title() == f"test {METRICS[metric]}"
        (image,) = axes.images
        change = runs.assign(change=runs[f"last_{metric}"] - runs[f"before_{metric}"])
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert sorted(names) == ["hinge", "study"]
        cells = change.pivot_table("change", "loss", "ratio").loc[names]  # NaN where there is no run
        p = change.pivot_table("change", "loss", "ratio", aggfunc=lambda x: stats.ttest_1samp(x, 0).pvalue).loc[names]
        np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), cells.where(p < 0.05))
        numbers = [f"{value:+.3f}" if np.isfinite(value) else "-" for value in cells.to_numpy().ravel()]
        assert [text.get_text() for text in axes.texts] == numbers
        significant = (p < 0.05).to_numpy().ravel().tolist()
        assert [text.get_fontweight() == "bold" for text in axes.texts] == significant
        assert [text.get_color() != plots.GREY for text in axes.texts] == significant
        assert any(significant)
        assert [text.get_position()[::-1] for text in axes.texts] == list(product(range(2), range(len(RATIOS))))
        largest = np.nanmax(np.abs(cells))
        assert image.get_clim() == pytest.approx((-largest, largest))


def test_a_change_of_one_seed_has_a_question_mark_and_is_not_significant():
    figure = figures.draw_change(tables_of(runs_of(axes_of_runs(1, losses=("hinge", "study")))))
    for axes in figure.axes[: len(SHOWN)]:
        assert [text.get_text()[-1] + str(text.get_fontweight()) for text in axes.texts] == ["?normal"] * 8
        assert axes.images[0].get_array().mask.all()


# --- the audit


def audited(axes):
    """A sweep's runs.csv with random audits, one for each seed, labels, noise and ratio."""
    runs = runs_of(axes)
    kinds = runs.groupby(["seed", "labels", "noise", "ratio"]).ngroup()
    rates = np.random.default_rng(1).random((kinds.max() + 1, 3))
    runs[["estimated_flip_rate", "true_flip_rate", "auroc"]] = rates[kinds]
    return runs


def test_a_dot_of_the_audit_is_the_feedback_of_a_seed_and_a_line_the_mean_over_seeds_of_what_is_known():
    runs = audited(axes_of_runs(losses=("hinge", "study"), noises=("uniform", "adjacent"), ratios=(0.0, 0.2, 0.8)))
    runs.loc[runs["ratio"] == 0.0, ["true_flip_rate", "auroc"]] = np.nan
    figure = figures.draw_audit(tables_of(runs))
    rates, scores = figure.axes
    runs = runs[runs["loss"] == "study"]  # the loss comes after the audit
    colors = colors_of_legend(figure)
    assert set(colors) == {"uniform noise", "adjacent noise"}
    for name, color in colors.items():
        own = runs[runs["noise"] == name.removesuffix(" noise")]
        (dots,) = drawn_lines(rates, color)
        np.testing.assert_allclose(dots, own[["true_flip_rate", "estimated_flip_rate"]])
        dots, means = drawn_lines(scores, color)
        np.testing.assert_allclose(dots[:, 0], own["ratio"].map({0.0: 0, 0.2: 1, 0.8: 2}), atol=CLOSE)
        np.testing.assert_array_equal(dots[:, 1], own["auroc"])
        np.testing.assert_allclose(means[:, 0], range(3), atol=CLOSE)
        np.testing.assert_allclose(means[:, 1], own.groupby("ratio")["auroc"].mean())
    (right,), (chance,) = drawn_lines(rates, plots.GREY), drawn_lines(scores, plots.GREY)
    assert (right[:, 0] == right[:, 1]).all()
    assert set(chance[:, 1]) == {0.5}


# --- all figures


def all_figures(axes):
    sweep = tables_of(audited(axes))
    return [
        draw(sweep) for draw in (figures.draw_curves, figures.draw_metrics, figures.draw_change, figures.draw_audit)
    ]


def test_where_there_is_one_ratio_every_figure_shows_the_labels_in_its_place():
    names = ["all", "gold"]
    axes = axes_of_runs(labels=("gold", "all"), losses=("hinge", "study"), ratios=(0.0,), noises=("reversed",))
    curves, metrics, change, audit = all_figures(axes)
    assert list(colors_of_legend(curves)) == names
    assert [panel.get_title() for panel in curves.axes] == ["hinge", "study"]
    for figure, panel in ((metrics, metrics.axes[-1]), (change, change.axes[2]), (audit, audit.axes[1])):
        assert [label.get_text() for label in panel.get_xticklabels()] == names
        assert figure.axes[-1].get_xlabel() in ("labels", "")
    assert list(colors_of_legend(audit)) == ["labels gold", "labels all"]
    runs = runs_of(axes)
    own = runs[runs["loss"] == "hinge"]
    x, means, _ = bars_of(metrics.axes[0])["hinge"]
    expected = [own[own["labels"] == name]["last_macro_f1"].mean() for name in names]
    np.testing.assert_allclose(means[np.argsort(x)], expected)


def test_every_figure_of_means_says_how_many_seeds_it_shows():
    two = axes_of_runs(losses=("hinge", "study"))
    for axes, text in ((axes_of_runs(1), "1 seed"), (two, "mean of 3 seeds"), (lacking(two), "mean of 2 to 3 seeds")):
        notes = [figure.get_supxlabel() for figure in all_figures(axes)]
        assert all(text in note for note in notes)
        of_seeds = ["band: " in notes[0], "bars: " in notes[1], "small dots: " in notes[3]]
        assert of_seeds == [text != "1 seed"] * 3  # which has none


def test_a_metric_that_is_nowhere_defined_leaves_an_empty_panel_and_the_same_table_gives_the_same_bytes(tmp_path):
    undefined = {f"{stage}_quadratic_weighted_kappa": np.nan for stage in ("before", "best", "last")}
    sweep = tables_of(runs_of(axes_of_runs(2, ratios=(0.0, 0.5))).assign(**undefined))
    for suffix in (".png", ".pdf"):
        files = [tmp_path / f"{name}{suffix}" for name in ("one", "other")]
        for file in files:
            plots.save_figure(figures.draw_change(sweep), file)
        one, other = (file.read_bytes() for file in files)
        assert one == other
        assert len(one) > 1000


def test_with_human_comparisons_the_figures_show_the_preference_accuracy(monkeypatch):
    monkeypatch.setattr(statistics, "METRICS", dict.fromkeys(("preference_accuracy", "quadratic_weighted_kappa")))
    axes = axes_of_runs(losses=("hinge", "study"))
    _, metrics, change, _ = all_figures(axes)
    given = curves_of(axes).assign(validation_preference_accuracy=0.25)
    curves = figures.draw_curves(tables_of(runs_of(axes), given))
    assert curves.axes[0].get_ylabel().replace("\n", " ") == "validation preference accuracy"
    assert {y for line in drawn_lines(curves.axes[0], plots.BLACK) for y in line[:, 1]} == {0.25}
    assert metrics.axes[0].get_ylabel().replace("\n", " ") == "test preference accuracy"
    own = runs_of(axes).query("loss == 'study'")
    check_means(bars_of(metrics.axes[0])["study"], own[["ratio"]].assign(value=own["last_preference_accuracy"]))
    assert change.axes[0].get_title() == "test preference accuracy"
