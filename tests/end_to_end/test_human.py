"""`human`: learning from human comparisons, here those of the bundled sample, as a user starts it."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from make_sample import PLANTED_RELIABILITIES

from noisy_feedback.config import LABELS, SWEEP_AXES
from noisy_feedback.data.reviews import SAMPLE_FILE
from noisy_feedback.files import sha256_of
from tests.conftest import ROOT, only_folder, output_of, reproduced, run_script, start_script

MAIN, CONFIG = "human/main.py", "human/config.py"
COMPARISONS = "sample_comparisons.csv"
FEW = ("--pc", "--epochs-t", 6, "--epochs-f", 4)
TUNING = range(1500, 2700)  # rows of the sample
pytestmark = pytest.mark.usefixtures("quick_sweeps")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample with its judgements, and embeddings that predict its ratings with errors; for tests that only read."""
    folder = tmp_path_factory.mktemp("sample")
    for name in (SAMPLE_FILE, COMPARISONS):
        shutil.copy(ROOT / "data" / name, folder)
    ratings, rng = pd.read_csv(folder / SAMPLE_FILE)["Rating"].to_numpy(), np.random.default_rng(0)
    position = ratings[:, None] + 0.7 * rng.normal(size=(len(ratings), 1))
    vectors = position * rng.normal(size=(1, 16)) + 0.3 * rng.normal(size=(len(ratings), 16))
    torch.save(torch.from_numpy(vectors).float(), folder / "embeddings.pt")
    return folder


@pytest.fixture(scope="module")
def small(sample, tmp_path_factory):
    """The sample with the judgements of every fourth pair, whose audit takes a quarter of the time."""
    folder = shutil.copytree(sample, tmp_path_factory.mktemp("small") / "data")
    table = pd.read_csv(folder / COMPARISONS)
    table[table["pair"] % 4 == 0].to_csv(folder / COMPARISONS, index=False)
    return folder


def judgements_of(sample):
    """The judgements of the fine-tuning part, with the rows of their texts in the sample."""
    texts = pd.read_csv(sample / SAMPLE_FILE)["Review"]
    row_of = {text: row for row, text in reversed(list(enumerate(texts)))}  # of equal texts the first
    table = pd.read_csv(sample / COMPARISONS)
    table = table.assign(better=table["chosen"].map(row_of), worse=table["rejected"].map(row_of))
    return table[table["better"].isin(TUNING)]


def on_sample(sample, output, *more):
    """The options of a small run or sweep on the sample."""
    return ["--path", sample / SAMPLE_FILE, "--comparisons", sample / COMPARISONS, "--output", output, *FEW, *more]


def record_of(output):
    return json.loads((only_folder(output) / "run.json").read_text(encoding="utf-8"))


def table_of(output, name="feedback.csv"):
    return pd.read_csv(only_folder(output) / name)


def compared(table):
    """Comparisons as pairs of rows, in their order."""
    return list(zip(table["better"], table["worse"], strict=True))


# --- a run


@pytest.fixture(scope="module")
def run(sample, tmp_path_factory):
    """The folder around the results of a run, and what it printed."""
    output = tmp_path_factory.mktemp("results")
    return output, run_script(MAIN, on_sample(sample, output))


def test_the_files_say_what_people_judged_and_what_is_known_of_it(run, sample):
    output, folder, record = run[0], only_folder(run[0]), record_of(run[0])
    models = {f"model_{stage}.safetensors" for stage in ("before", "best", "last")}
    tables = {"run.json", "curves.csv", "feedback.csv", "annotators.csv"}
    assert {file.name for file in folder.iterdir()} == {*tables, *models, "curves.png"}
    assert folder.name.startswith("sample_hotel_reviews_human_bradley-terry_kl1_")
    assert record["comparisons_path"] == str(sample / COMPARISONS)
    about = record["judgements"]
    assert (about["name"], about["check"]["comparisons"]) == (COMPARISONS, 2400)

    found, expected = table_of(output), judgements_of(sample)
    assert compared(found) == compared(expected)
    assert found[["pair", "annotator"]].to_numpy().tolist() == expected[["pair", "annotator"]].to_numpy().tolist()
    assert found["wrong"].tolist() == (~expected["correct"]).tolist()
    first = found.groupby("pair")["better"].transform("first")  # judgements of a pair share its order
    p_first_wrong = found["p_wrong"].where(found["better"] == first, 1 - found["p_wrong"])
    assert p_first_wrong.groupby(found["pair"]).agg(np.ptp).max() < 1e-9

    annotators = table_of(output, "annotators.csv").set_index("annotator")
    right = expected.groupby("annotator")["correct"]
    assert annotators["judgements"].to_dict() == right.count().to_dict()
    assert annotators["true_reliability"].to_dict() == pytest.approx(right.mean().to_dict())


def test_the_screen_says_what_people_judged_and_how_well_predictions_agree(run):
    output, screen = run
    record = record_of(output)
    assert "judgements 2,400 of 800 pairs by 12 annotators from sample_comparisons.csv\n" in screen
    assert "  1,800 fine-tuning, 300 validation, 300 test; 0 left out" in screen
    assert "\nfeedback   1,800 human comparisons (all), from 730 texts\naudit      " in screen
    stages = [record[stage]["preference_accuracy"] for stage in ("majority", "before", "best", "last")]
    (line,) = [line for line in screen.splitlines() if line.startswith("preference accuracy ")]
    assert line.split()[2:] == [f"{value:.3f}" for value in stages]
    below = screen.partition("\nnoise ")[2]
    assert max(len(line) for line in below.splitlines() if not line.startswith("results ")) <= 80


def test_the_audit_needs_no_truth_and_comes_near_it(run, sample):
    audit, feedback = record_of(run[0])["audit"], table_of(run[0])
    wrong = ~judgements_of(sample)["correct"]
    assert audit["true_flip_rate"] == pytest.approx(wrong.mean())
    assert audit["estimated_flip_rate"] == pytest.approx(wrong.mean(), abs=0.03)
    assert feedback["p_wrong"].mean() == pytest.approx(audit["estimated_flip_rate"])
    assert audit["auroc"] > 0.95
    assert audit["precision"] > 0.8
    found = table_of(run[0], "annotators.csv").set_index("annotator")
    assert set(found.index) == set(PLANTED_RELIABILITIES)
    assert found["reliability"].between(found["ci_low"], found["ci_high"]).all()
    within = (found["ci_low"] <= found["true_reliability"]) & (found["true_reliability"] <= found["ci_high"])
    assert within.sum() >= 11


# --- a sweep over the judgements to learn from

SWEEP = ("--labels", "gold", "one", "flipped", "majority", "all", "--seeds", 3, 4)
FIGURES = ("curves", "metrics", "change", "audit")


@pytest.fixture(scope="module")
def swept(small, tmp_path_factory):
    """The folder around the results of a sweep, and what it printed."""
    output = tmp_path_factory.mktemp("sweep")
    return output, run_script(CONFIG, on_sample(small, output, *SWEEP))


def test_labels_choose_what_is_learned_from_and_not_what_predictions_are_scored_on(swept, small):
    table = table_of(swept[0], "runs.csv")
    assert list(table.columns[: len(SWEEP_AXES)]) == list(SWEEP_AXES)
    assert list(zip(table["seed"], table["labels"], strict=True)) == [
        (seed, kind) for seed in (3, 4) for kind in LABELS
    ]
    assert "sweep      10 runs, 0 kept already" in swept[1]
    assert "test preference accuracy: " in swept[1]
    assert {file.name for file in only_folder(swept[0]).glob("*.png")} == {f"{name}.png" for name in FIGURES}
    assert (table.groupby("seed")["before_preference_accuracy"].nunique() == 1).all()

    runs, tuning = table.set_index(["labels", "seed"]), judgements_of(small)
    count, rate = runs["comparisons"].unstack(), runs["true_flip_rate"].unstack()
    assert (count.loc["all"] == 450).all()
    assert (count.drop("all") == 150).all(axis=None)
    assert (rate.loc["gold"] == 0).all()
    assert rate.loc["all"].to_numpy() == pytest.approx((~tuning["correct"]).mean())
    assert (rate.loc["flipped"] == rate.loc["one"]).all()
    assert rate.loc["one", 3] != rate.loc["one", 4]  # drawn by the seed


# --- the same again


def test_comparisons_and_texts_may_have_moved_and_others_or_another_feedback_are_a_difference(small, tmp_path, capsys):
    """Comparisons of ids, and the texts of the ids in a file of their own."""
    texts, table = pd.read_csv(small / SAMPLE_FILE)["Review"], judgements_of(small)
    texts.rename("text").rename_axis("id").to_csv(tmp_path / "texts.csv")
    table[["better", "worse", "annotator"]].to_csv(tmp_path / "ids.csv", index=False)
    files = ["--comparisons", tmp_path / "ids.csv", "--texts", tmp_path / "texts.csv"]
    columns = ["--chosen-column", "better", "--rejected-column", "worse"]
    run_script(MAIN, [*on_sample(small, tmp_path / "first"), *files, *columns])
    folder = only_folder(tmp_path / "first")
    assert record_of(tmp_path / "first")["judgements"]["texts_sha256"] == sha256_of(tmp_path / "texts.csv")
    moved = [(tmp_path / name).rename(tmp_path / f"moved-{name}") for name in ("ids.csv", "texts.csv")]
    given = ["--output", tmp_path / "out", "--comparisons", moved[0], "--texts", moved[1]]
    assert "all files match; temporary results deleted" in reproduced(folder, *given)
    for name in ("feedback.csv", "annotators.csv"):
        header, first, *rows = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join([header, first.replace("0.", "1.", 1), *rows]) + "\n")
    screen = reproduced(folder, *given, status=1)
    assert all(f"{name:25} differs in 1 of " in screen for name in ("feedback.csv", "annotators.csv"))
    for file, what in ((moved[1], "texts"), (moved[0], "comparisons")):
        capsys.readouterr()
        file.write_text(file.read_text() + "\n")
        reproduced(folder, *given, status=2)
        (line,) = capsys.readouterr().err.splitlines()
        assert f"its {what} are not at {file}, or have changed" in line
        assert line.endswith(f"name the file with --{what}")


# --- export


@pytest.mark.parametrize(("labels", "suffix"), [("all", ".jsonl"), ("majority", ".parquet")])
def test_exported_comparisons_are_read_back_as_the_same(small, tmp_path, suffix, labels):
    file = tmp_path / f"exported{suffix}"
    more = ["--ratio", 0.2, "--labels", labels]
    run_script(MAIN, on_sample(small, tmp_path / "first", *more, "--export", file))
    screen = run_script(MAIN, [*on_sample(small, tmp_path / "again"), "--comparisons", file])
    first, again = table_of(tmp_path / "first"), table_of(tmp_path / "again")
    assert compared(again) == compared(first)
    assert again["annotator"].equals(first["annotator"])
    assert first["annotator"].isna().all() == (labels == "majority")
    # Behind a majority some of whose orders are reversed is nobody's judgement.
    assert (only_folder(tmp_path / "first") / "annotators.csv").exists() == (labels == "all")
    assert (again.groupby("pair").size().tolist()) == first.groupby("pair").size().tolist()
    assert f"judgements {len(first):,} of " in screen
    exported = pd.read_parquet(file) if suffix == ".parquet" else pd.read_json(file, lines=True)
    assert exported["p_wrong"].tolist() == pytest.approx(first["p_wrong"].tolist())
    assert exported["wrong"].astype(int).tolist() == first["wrong"].tolist()
    stars = pd.read_csv(small / SAMPLE_FILE)["Rating"].to_numpy()
    assert exported["chosen_rating"].tolist() == stars[first["better"]].tolist()
    assert exported["rejected_rating"].tolist() == stars[first["worse"]].tolist()


# --- slow: the scripts in processes of their own


@pytest.mark.slow
def test_the_scripts_find_the_sample_and_its_comparisons_by_themselves(tmp_path, tiny_encoder):
    (tmp_path / "data").mkdir()
    for name in (SAMPLE_FILE, COMPARISONS):
        shutil.copy(ROOT / "data" / name, tmp_path / "data")
    shutil.copytree(ROOT / "human", tmp_path / "human", ignore=shutil.ignore_patterns("results", "__pycache__"))
    few = ["--model_name", tiny_encoder, "--epochs-t", 2, "--epochs-f", 2]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    screen, _ = output_of(start_script(tmp_path / "human" / "main.py", *few, PYTHONPATH=path))
    assert "judgements 2,400 of 800 pairs by 12 annotators from sample_comparisons.csv" in screen
    assert record_of(tmp_path / "human" / "results")["path"] == f"../data/{SAMPLE_FILE}"
    screen, _ = output_of(start_script(tmp_path / "human" / "config.py", *few, "--seeds", 1, PYTHONPATH=path))
    assert "sweep      1 run, 0 kept already" in screen
