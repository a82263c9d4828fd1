"""The sweep as its users see it: cells equal single runs, kills cost little, more seeds extend, two at once stop."""

import contextlib
import json
import re
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from tests.conftest import arguments, folder_of, run, start, write_planted

TABLES = ("settings.json", "runs.csv", "curves.csv", "summary.csv")
FIGURES = ("curves.png", "curves.pdf", "metrics.png", "metrics.pdf")


def contents(output, names=TABLES + FIGURES):
    return {name: (folder_of(output) / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def finished(planted_data, tmp_path_factory):
    """A small sweep that nothing disturbed, and what it printed."""
    output = tmp_path_factory.mktemp("finished")
    out = run(
        "multiclass/config.py", arguments(planted_data, output, "--k", "2", "--seeds", 3, 1, 2, "--ratio", 0, 0.5)
    )
    return output, out


def test_it_leaves_every_table_and_figure_and_prints_the_summary(finished):
    output, out = finished
    assert all((folder_of(output) / name).stat().st_size > 200 for name in TABLES + FIGURES)
    assert "test macro F1 (3 seeds; before fine-tuning" in out
    assert out.rstrip().splitlines()[-1].startswith("figures ")


def test_the_tables_have_one_row_per_run_and_epoch(finished):
    output, _ = finished
    runs, curves = (pd.read_csv(folder_of(output) / name) for name in ("runs.csv", "curves.csv"))
    assert list(zip(runs["seed"], runs["ratio"], strict=True)) == [(s, r) for s in (1, 2, 3) for r in (0, 0.5)]
    assert (runs["ratings_changed"] == (runs["ratio"] * runs["ratings"]).round()).all()
    assert len(curves[curves["phase"] == "training"]) == 3 * 6
    assert len(curves[curves["phase"] == "fine-tuning"]) == 3 * 2 * 6


@pytest.mark.parametrize(("folder", "k"), [("multiclass", ["--k", "2"]), ("binary", [])])
@pytest.mark.parametrize("more", [[], ["--shuffle"]])
def test_a_cell_equals_the_single_run_with_the_same_arguments_bit_for_bit(planted_data, tmp_path, folder, k, more):
    seeds = ["--seeds", "5", "9", "7", "--ratio", "0.6", "0", "0.3"]
    run(f"{folder}/config.py", arguments(planted_data, tmp_path / "sweep", *k, *more, *seeds))
    single = ["--seed", "7", "--ratio", "0.6", "--lr-f", "1e-3", "--batch-f", "512"]
    run(f"{folder}/main.py", arguments(planted_data, tmp_path / "single", *k, *more, *single))
    (alone,) = (tmp_path / "single").iterdir()
    cell = json.loads(
        (folder_of(tmp_path / "sweep") / "runs" / "seed7_study_anchor0_uniform_ratio0.6.json").read_text()
    )
    expected = json.loads((alone / "run.json").read_text())
    for part in ("noise", "comparisons", "best_epochs", "before", "best", "last"):
        assert cell[part] == expected[part], part
    curves = pd.read_csv(alone / "curves.csv")
    in_cell = pd.DataFrame([*cell["training"], *cell["fine_tuning"]])
    assert (in_cell.to_numpy() == curves[list(in_cell.columns)].to_numpy()).all()


@pytest.mark.parametrize(("loss", "noise"), [("sigmoid", "hard"), ("unbiased", "pairs"), ("dr-dpo", "adjacent")])
def test_a_cell_of_a_sweep_over_remedies_equals_the_single_run(planted_data, tmp_path, loss, noise):
    grid = ["--loss", "study", loss, "--anchor", 0.5, "--noise", "uniform", noise, "--ratio", 0.3, "--seeds", 7, 8]
    run("multiclass/config.py", arguments(planted_data, tmp_path / "sweep", "--k", 2, *grid))
    single = ["--loss", loss, "--anchor", 0.5, "--noise", noise, "--ratio", 0.3, "--seed", 7, "--k", 2]
    run("multiclass/main.py", arguments(planted_data, tmp_path / "single", *single))
    (alone,) = (tmp_path / "single").iterdir()
    cell = folder_of(tmp_path / "sweep") / "runs" / f"seed7_{loss}_anchor0.5_{noise}_ratio0.3.json"
    found, expected = json.loads(cell.read_text()), json.loads((alone / "run.json").read_text())
    for part in ("noise", "comparisons", "best_epochs", "before", "best", "last"):
        assert found[part] == expected[part], part
    assert (folder_of(tmp_path / "sweep") / "change.png").stat().st_size > 1000


def test_a_cell_with_a_scalar_head_equals_the_single_run(planted_data, tmp_path):
    shared = ["--k", 2, "--head", "scalar", "--loss", "bradley-terry", "--ratio", 0.3]
    run("multiclass/config.py", arguments(planted_data, tmp_path / "sweep", *shared, "--seeds", 7, 8, 9))
    run("multiclass/main.py", arguments(planted_data, tmp_path / "single", *shared, "--seed", 8))
    (alone,) = (tmp_path / "single").iterdir()
    cell = folder_of(tmp_path / "sweep") / "runs" / "seed8_bradley-terry_anchor0_uniform_ratio0.3.json"
    found, expected = json.loads(cell.read_text()), json.loads((alone / "run.json").read_text())
    assert [found[stage] for stage in ("before", "best", "last")] == [
        expected[stage] for stage in ("before", "best", "last")
    ]
    assert expected["before"]["pairwise_accuracy"] > 0.7  # it learns


def test_figures_that_a_smaller_sweep_has_not_are_removed(planted_data, tmp_path):
    given = arguments(planted_data, tmp_path, "--seeds", 1, 2, "--ratio", 0)
    run("multiclass/config.py", [*given, "--loss", "study", "sigmoid"])
    assert (folder_of(tmp_path) / "change.png").exists()
    run("multiclass/config.py", given)
    assert not list(folder_of(tmp_path).glob("change.*"))


def test_an_anchor_keeps_the_model_near_what_it_was(planted_data, tmp_path):
    more = ["--k", 2, "--anchor", 0, 10, "--ratio", 0.8, "--seeds", 1, 2, 3]
    run("multiclass/config.py", arguments(planted_data, tmp_path, *more, epochs=("6", "30")))
    runs = pd.read_csv(folder_of(tmp_path) / "runs.csv")
    change = (runs["last_accuracy"] - runs["before_accuracy"]).abs().groupby(runs["anchor"]).mean()
    assert change[10] < change[0] / 3


def test_the_order_of_seeds_and_the_rest_of_the_stack_change_nothing(planted_data, finished, tmp_path):
    reordered = ["--k", "2", "--seeds", 2, 3, 1, "--ratio", 0.5, 0]
    run("multiclass/config.py", arguments(planted_data, tmp_path, *reordered))
    assert contents(tmp_path) == contents(finished[0])


def test_the_same_command_again_computes_nothing_and_gives_the_same(planted_data, finished):
    output, _ = finished
    before = contents(output)
    kept = {file: file.stat().st_mtime_ns for file in (folder_of(output) / "runs").iterdir()}
    out = run("multiclass/config.py", arguments(planted_data, output, "--k", 2, "--seeds", 3, 1, 2, "--ratio", 0, 0.5))
    assert "6 runs, of which 6 are kept already" in out
    assert {file: file.stat().st_mtime_ns for file in (folder_of(output) / "runs").iterdir()} == kept
    assert contents(output) == before


def test_more_seeds_and_ratios_extend_the_same_result(planted_data, finished, tmp_path):
    run("multiclass/config.py", arguments(planted_data, tmp_path, "--k", 2, "--seeds", 1, "--ratio", 0.5))
    run("multiclass/config.py", arguments(planted_data, tmp_path, "--k", 2, "--seeds", 1, 2, "--ratio", 0, 0.5))
    out = run(
        "multiclass/config.py", arguments(planted_data, tmp_path, "--k", 2, "--seeds", 1, 2, 3, "--ratio", 0, 0.5)
    )
    assert "6 runs, of which 4 are kept already" in out
    assert contents(tmp_path) == contents(finished[0])


def test_a_damaged_run_is_computed_again(planted_data, finished, tmp_path):
    given = arguments(planted_data, tmp_path, "--k", 2, "--seeds", 1, 2, 3, "--ratio", 0, 0.5)
    run("multiclass/config.py", given)
    file = folder_of(tmp_path) / "runs" / "seed2_study_anchor0_uniform_ratio0.5.json"
    file.write_bytes(file.read_bytes()[:100])
    assert "6 runs, of which 5 are kept already" in run("multiclass/config.py", given)
    assert contents(tmp_path) == contents(finished[0])


def test_ctrl_c_ends_a_sweep_soon_and_in_one_line(planted_data, tmp_path):
    given = arguments(planted_data, tmp_path, "--seeds", *range(10), epochs=("100000", "1"))
    process = start("multiclass/config.py", *given, session=True)
    while not list(tmp_path.glob("sweep_*/.lock")):
        time.sleep(0.05)
        assert process.poll() is None
    time.sleep(1)  # it trains
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "config.py: interrupted; files already written are whole"
    assert "Traceback" not in err


def test_a_second_sweep_into_the_same_folder_says_so_and_stops(planted_data, finished, capsys):
    output, _ = finished
    with FileLock(folder_of(output) / ".lock"):  # as the first one does
        run("multiclass/config.py", arguments(planted_data, output, "--k", 2, "--seeds", 4), status=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("config.py: error: another sweep is writing to ")


@pytest.mark.parametrize("more", [["--loss", "study", "sigmoid"], []])
def test_a_test_part_of_one_rating_leaves_metrics_undefined_and_the_sweep_whole(planted_data, tmp_path, more):
    ratings = [1, 2, 3, 4, 5] * 18 + [3] * 10
    file = write_planted(tmp_path / "data", ratings=ratings)
    out = run("multiclass/config.py", arguments(file, tmp_path / "results", "--seeds", 1, 2, "--ratio", 0, 0.5, *more))
    assert "test quadratic weighted kappa (2 seeds; before fine-tuning -)" in out


@pytest.mark.parametrize(
    ("script", "more", "says"),
    [
        (
            "multiclass",
            ["--loss", "unbiased", "--noise", "pairs"],
            "a flip rate of 0.6 .*seed 1, pairs noise, ratio 0.6",
        ),
        ("binary", ["--shuffle"], "no pair of ratings exactly 3 stars apart .*seed [0-9]+, uniform noise, ratio"),
    ],
)
def test_a_cell_that_cannot_be_run_is_named_before_any_work(tmp_path, capsys, script, more, says):
    file = write_planted(tmp_path / "data", ratings=[1, 4] + [2, 3] * 11)
    run(f"{script}/config.py", arguments(file, tmp_path / "results", *more, "--seeds", *range(1, 9)), status=2)
    captured = capsys.readouterr()
    assert re.search(says, captured.err)
    assert "%|" not in captured.err  # no bar was shown
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody can write, root included")
def test_a_folder_that_nobody_can_write_is_refused_before_the_work(planted_data):
    process = start("multiclass/main.py", *arguments(planted_data, "/proc/nope"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("main.py: error: --output /proc/nope: /proc cannot be written")
    assert len(err.splitlines()) == 1


def test_one_seed_has_no_interval_and_no_test(planted_data, tmp_path):
    run("binary/config.py", arguments(planted_data, tmp_path, "--seeds", 4, "--ratio", 0, 0.5))
    summary = pd.read_csv(folder_of(tmp_path) / "summary.csv")
    assert summary[["sd", "low", "high", "difference_p"]].isna().all(axis=None)


def test_without_fine_tuning_there_are_tables_and_training_curves(planted_data, tmp_path):
    run("multiclass/config.py", arguments(planted_data, tmp_path, "--seeds", 4, 5, epochs=("3", "0")))
    assert set(pd.read_csv(folder_of(tmp_path) / "curves.csv")["phase"]) == {"training"}


@pytest.mark.parametrize(
    "bad",
    [
        ["--seeds", "-1"],
        ["--seeds"],
        ["--ratio", "0", "1.2"],
        ["--dask", "nowhere:1"],
        ["--loss", "none-such"],
        ["--anchor", "-1"],
        ["--flip-rate", "2"],
        ["--head", "scalar"],  # the study's loss needs a distribution
        ["--head", "scalar", "--loss", "sigmoid", "--anchor", "1"],
        ["--head", "scalar", "--loss", "sigmoid", "--noise", "uniform", "hard"],
        ["--as-published", "nothing"],
        ["--loss", "unbiased", "--flip-rate", "0.5"],
    ],
)
def test_bad_arguments_are_one_line_and_leave_no_result(planted_data, tmp_path, bad, capsys, monkeypatch):
    monkeypatch.setattr("noisy_feedback.cluster.TIMEOUT", 0.5)
    with contextlib.suppress(SystemExit):  # of the parser, with status 2
        run("multiclass/config.py", arguments(planted_data, tmp_path / "output", *bad), status=2)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("output/*"))


def test_neither_phase_leaves_tables_and_no_curves(planted_data, tmp_path):
    out = run("multiclass/config.py", arguments(planted_data, tmp_path, "--seeds", 4, 5, epochs=("0", "0")))
    assert out.rstrip().splitlines()[-1] == "figures    none: no epoch was run"


def test_the_figures_are_not_blank_and_the_planted_trend_is_in_what_they_show(finished):
    from matplotlib.image import imread

    output, _ = finished
    for name in ("curves.png", "metrics.png"):
        picture = imread(folder_of(output) / name)
        assert picture.std() > 0.05, name
    runs = pd.read_csv(folder_of(output) / "runs.csv").groupby("ratio")["last_pairwise_accuracy"].mean()
    assert runs[0.5] < runs[0]
