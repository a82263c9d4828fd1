"""The sweep as its users see it: cells equal single runs, more seeds extend it, nothing that was kept is lost."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from matplotlib.image import imread

from noisy_feedback.cli import is_finished
from noisy_feedback.config import SWEEP_AXES, Config
from noisy_feedback.learning.objective import KL_BASE, KL_POWER
from noisy_feedback.output import records
from tests.conftest import assert_same_cell, only_folder, options, run_script, write_overlapping

CONFIG, MAIN = "multiclass/config.py", "multiclass/main.py"
TABLES = ("sweep.json", "runs.csv", "curves.csv", "summary.csv")
FIGURES = ("curves.png", "curves.pdf", "metrics.png", "metrics.pdf", "audit.png", "audit.pdf")
SIX_RUNS = ("--k", 2, "--seeds", 3, 1, 2, "--ratio", 0, 0.5)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """Sets the number of cores, so of worker processes; one unless a test says otherwise."""

    def cores(number):
        monkeypatch.setattr("noisy_feedback.processes.available_cores", lambda: number)

    cores(1)
    return cores


@pytest.fixture(autouse=True)
def _empty_figures(monkeypatch):
    """Drawing takes longer than a small sweep. `complete` is made before this, so its figures are real."""
    monkeypatch.setattr("noisy_feedback.output.plots.save_figure", lambda _, file: file.write_bytes(b"figure"))


def contents(output, names=TABLES):
    return {name: (only_folder(output) / name).read_bytes() for name in names}


def kept_files(output):
    """The kept runs with the times of their last change."""
    return {file: file.stat().st_mtime_ns for file in (only_folder(output) / "runs").iterdir()}


def table(output, name):
    return pd.read_csv(only_folder(output) / name)


def refused(capsys, arguments, script=CONFIG):
    """The line with which a sweep ends that cannot go on."""
    run_script(script, arguments, status=2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("config.py: error: ")
    return line


@pytest.fixture(scope="module")
def complete(overlapping_reviews, tmp_path_factory):
    """A small sweep that nothing disturbed, and what it printed. For tests that only read."""
    output = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("noisy_feedback.processes.available_cores", lambda: 1)
        screen = run_script(CONFIG, options(overlapping_reviews, output, *SIX_RUNS))
    return output, screen


def test_a_finished_sweep_is_known_before_its_libraries_are_imported(complete):
    runs = [Config("multiclass", seed=seed, ratio=0.5, output=complete[0]) for seed in (1, 2, 3, 4)]
    assert (is_finished(runs[:3]), is_finished(runs)) == (True, False)


@pytest.fixture
def copy(complete, tmp_path):
    """A copy of its results, to be extended or damaged."""
    return shutil.copytree(complete[0], tmp_path / "copy")


# --- what it writes and prints


def test_it_writes_every_table_and_figure_and_ends_with_the_summary_in_80_columns(complete):
    output, screen = complete
    folder, lines = only_folder(output), screen.splitlines()
    assert re.fullmatch("reviews_multiclass_k2_t6_f6_[0-9a-f]{8}", folder.name)
    assert {file.name for file in folder.iterdir()} == {*TABLES, *FIGURES, "runs", ".lock"}
    assert all((folder / name).stat().st_size > 200 for name in TABLES + FIGURES)
    for name in FIGURES[::2]:
        assert imread(folder / name).std() > 0.05, f"{name} is blank"

    runs, curves, summary = (table(output, name) for name in ("runs.csv", "curves.csv", "summary.csv"))
    assert list(runs.columns[: len(SWEEP_AXES)]) == list(curves.columns[: len(SWEEP_AXES)]) == list(SWEEP_AXES)
    assert list(zip(runs["seed"], runs["ratio"], strict=True)) == [(s, r) for s in (1, 2, 3) for r in (0, 0.5)]
    assert (runs["ratings_changed"] == (runs["ratio"] * runs["ratings"]).round()).all()
    assert curves["phase"].value_counts().to_dict() == {"training": 3 * 6, "fine-tuning": 3 * 2 * 6}
    for row in summary.to_dict("records"):
        values = runs[runs["ratio"] == row["ratio"]][f"{row['stage']}_{row['metric']}"]
        assert row["mean"] == pytest.approx(values.mean())
    accuracy = runs.groupby("ratio")["last_pairwise_accuracy"].mean()
    assert accuracy[0.5] < accuracy[0]  # noise does harm

    assert "sweep      6 runs, 0 kept already" in screen
    start = lines.index("the tables cover all 6 runs in the folder: 3 seeds")
    assert max(map(len, lines[start:-2])) <= 80
    assert lines[-2:] == [f"results    {folder}", "figures    curves.png, metrics.png, audit.png"]
    for ratio, rows in runs.groupby("ratio"):
        assert screen.count(f"\n  {ratio:>5g}{rows['comparisons'].mean():>7.0f}") == 3
    assert f"most frequent rating {runs['majority_macro_f1'].mean():.3f}" in screen


# --- a cell equals the single run

CELLS = {
    "multiclass, shuffled, KL weight and least confident": (
        "multiclass",
        ["--k", 3, "--shuffle"],
        {"--ratio": 0.3, "--loss": "symmetric-sigmoid", "--kl-weight": 0.5, "--noise": "least-confident"},
    ),
    "binary, flip rate, scalar head": (
        "binary",
        ["--flip-rate", 0.2, "--lists", 50, "--head", "scalar", "--kl-weight", 0.5],
        {"--ratio": 0.3, "--loss": "robust", "--noise": "reversed"},
    ),
    "as published": ("binary", ["--as-published"], {"--ratio": 0.4}),
}
OTHERS = {"--ratio": 0, "--loss": "bradley-terry", "--kl-weight": 0, "--noise": "adjacent"}  # the sweep's second value


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_equals_the_single_run_with_the_same_arguments_bit_for_bit(overlapping_reviews, tmp_path, name):
    protocol, shared, axes = CELLS[name]
    shared = [*shared, "--lr-f", 1e-3, "--batch-f", 64]
    both = [part for flag, value in axes.items() for part in (flag, value, OTHERS[flag])]
    sweep = options(overlapping_reviews, tmp_path / "sweep", *shared, *both, "--seeds", 5, 7)
    run_script(f"{protocol}/config.py", sweep)
    one = [part for option in axes.items() for part in option]
    single = options(overlapping_reviews, tmp_path / "single", *shared, *one, "--seed", 7)
    run_script(f"{protocol}/main.py", single)
    assert_same_cell(only_folder(tmp_path / "sweep"), only_folder(tmp_path / "single"))


# --- the same command gives the same bits


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_and_threads_and_the_order_of_values_change_nothing(
    overlapping_reviews, complete, tmp_path, workers, cores
):
    cores(workers)
    before = torch.get_num_threads()
    torch.set_num_threads(3 - workers)
    try:
        run_script(CONFIG, options(overlapping_reviews, tmp_path, "--k", 2, "--seeds", 2, 3, 1, "--ratio", 0.5, 0, 0.5))
        assert torch.get_num_threads() == 3 - workers
    finally:
        torch.set_num_threads(before)
    assert contents(tmp_path) == contents(complete[0])


def test_more_seeds_and_ratios_extend_the_same_result(overlapping_reviews, complete, tmp_path):
    def extend(seeds, ratios):
        arguments = options(overlapping_reviews, tmp_path, "--k", 2, "--seeds", *seeds, "--ratio", *ratios)
        return run_script(CONFIG, arguments)

    extend([1], [0.5])
    assert "2 runs, 1 kept already" in extend([1], [0, 0.5])
    assert "6 runs, 2 kept already" in extend([1, 2, 3], [0, 0.5])
    assert contents(tmp_path) == contents(complete[0])


def test_a_command_with_fewer_runs_takes_none_away_and_one_with_other_losses_adds_theirs(overlapping_reviews, copy):
    before, fewer = contents(copy), ["--k", 2, "--seeds", 1, 2, "--ratio", 0.5]
    screen = run_script(CONFIG, options(overlapping_reviews, copy, *fewer))
    assert "2 runs, 2 kept already" in screen
    assert "the tables cover all 6 runs in the folder: 3 seeds" in screen
    assert contents(copy) == before
    pairs = ["--loss", "hinge:0.5", "bradley-terry:1"]
    screen = run_script(CONFIG, options(overlapping_reviews, copy, *fewer, *pairs))
    assert "the tables cover all 10 runs in the folder: 3 seeds" in screen
    runs, summary = table(copy, "runs.csv"), table(copy, "summary.csv")
    settings = {("study", 0): 6, ("hinge", 0.5): 2, ("bradley-terry", 1): 2}
    assert runs[["loss", "kl_weight"]].value_counts().to_dict() == settings
    assert {*zip(summary["loss"], summary["seeds"], strict=True)} == {("study", 3), ("hinge", 2), ("bradley-terry", 2)}
    assert len(json.loads((only_folder(copy) / "sweep.json").read_text())["runs"]) == 10


# --- kept runs that are not used


def test_runs_of_other_code_data_or_options_are_not_used(copy, tmp_path, monkeypatch):
    before, file = kept_files(copy), write_overlapping(tmp_path / "data")
    few = ["--k", 2, "--seeds", 1, "--ratio", 0.5]

    def none_is_used(*more):
        screen = run_script(CONFIG, options(file, copy, *few, *more))
        assert "1 run, 0 kept already" in screen
        assert "the tables cover all 1 run in the folder" in screen

    none_is_used("--lr-f", 0.5)
    torch.save(torch.load(file.parent / "embeddings.pt") * 1.5, file.parent / "embeddings.pt")
    none_is_used()
    file.write_text(file.read_text().replace("review 0,", "review zero,"))
    none_is_used()
    monkeypatch.setattr(records, "CODE_VERSION", "another")
    none_is_used()
    assert len(list(copy.iterdir())) == 5
    assert all(kept.stat().st_mtime_ns == time for kept, time in before.items())


def test_figures_are_drawn_again_only_where_one_is_gone_or_runs_were_added(overlapping_reviews, complete, copy):
    (only_folder(copy) / "metrics.pdf").unlink()
    run_script(CONFIG, options(overlapping_reviews, copy, *SIX_RUNS))
    found, before = contents(copy, FIGURES), contents(complete[0], FIGURES)
    drawn = {name for name in FIGURES if found[name] == b"figure"}
    assert drawn == {"metrics.png", "metrics.pdf"}
    assert all(found[name] == before[name] for name in set(FIGURES) - drawn)
    run_script(CONFIG, options(overlapping_reviews, copy, "--k", 2, "--seeds", 4, "--ratio", 0))
    assert set(contents(copy, FIGURES).values()) == {b"figure"}


# --- what cannot be run


def test_a_second_sweep_into_the_same_folder_says_so_and_stops(overlapping_reviews, copy, capsys):
    with FileLock(only_folder(copy) / ".lock"):  # as the first one does
        line = refused(capsys, options(overlapping_reviews, copy, *SIX_RUNS))
    assert "another sweep is writing to " in line
    assert line.endswith("wait until it ends, or give another --output")


@pytest.mark.parametrize("workers", [1, 2])
def test_runs_that_cannot_be_made_are_named_when_all_others_are_kept(
    overlapping_reviews, tmp_path, capsys, workers, cores
):
    """With a KL weight beyond the range of float32 the loss is infinite."""
    cores(workers)
    arguments = options(overlapping_reviews, tmp_path, "--seeds", 1, 2, "--ratio", 0.5, "--kl-weight", 0, 1e300)
    line = refused(capsys, arguments)
    assert re.search(r"not finite in epoch \d+: .* learning rate \(--lr-f, --lr-t\) is too high", line)
    assert "error: 2 of 4 runs cannot be fine-tuned: " in line
    names = [f"seed-{seed}_labels-all_loss-study_kl-weight-1e+300_noise-uniform_ratio-0.5" for seed in (1, 2)]
    assert sorted(line.rpartition("(")[2].rstrip(")\n").split(", ")) == names
    runs = table(tmp_path, "runs.csv")
    assert list(zip(runs["seed"], runs["kl_weight"], strict=True)) == [(1, 0), (2, 0)]
    assert len(json.loads((only_folder(tmp_path) / "sweep.json").read_text())["runs"]) == 2
    assert refused(capsys, arguments).rpartition("(")[0] == line.rpartition("(")[0]  # again


# --- small sweeps


@pytest.mark.parametrize(("epochs_t", "figures"), [(3, "curves.png"), (0, "none: no epoch was run")])
def test_without_fine_tuning_there_are_tables_and_curves_of_training_if_there_was_any(
    separable_reviews, tmp_path, epochs_t, figures
):
    more = ["--seeds", 4, 5, "--epochs-t", epochs_t, "--epochs-f", 0]
    screen = run_script(CONFIG, options(separable_reviews, tmp_path, *more))
    assert table(tmp_path, "curves.csv")["phase"].tolist() == ["training"] * (2 * epochs_t)
    assert screen.splitlines()[-1] == f"figures    {figures}"


def test_the_adaptive_kl_weight_follows_the_audit_and_without_information_nothing_changes(
    overlapping_reviews, tmp_path
):
    more = ["--k", 2, "--loss", "symmetric-sigmoid", "--noise", "reversed", "--seeds", 1]
    several = ["--kl-weight", "adaptive", 0.3, "--ratio", 0.2, 0.8]
    run_script(CONFIG, options(overlapping_reviews, tmp_path, *more, *several))
    runs = table(tmp_path, "runs.csv").set_index(["kl_weight", "ratio"]).sort_index()
    used, limit = runs.loc[("adaptive", 0.2), ["kl_weight_used", "estimated_flip_rate_high"]]
    assert used == pytest.approx(KL_BASE / (1 - 2 * limit) ** KL_POWER) and 0.1 < limit < 0.4
    assert runs.loc[("0.3", 0.2), "kl_weight_used"] == 0.3
    without = runs.loc[("adaptive", 0.8)]
    assert np.isnan(without["kl_weight_used"]) and without["estimated_flip_rate"] > 0.5
    changed = runs["last_quadratic_weighted_kappa"] != runs["before_quadratic_weighted_kappa"]
    assert changed.to_dict() == {cell: cell != ("adaptive", 0.8) for cell in runs.index}
