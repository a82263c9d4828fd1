"""`human`: learning from comparisons that people made, here those of the bundled sample, as a user starts it."""

import json
import os
import shutil

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from make_sample import PLANTED_RELIABILITIES
from safetensors.torch import load_file
from torch.nn.functional import linear

from noisy_feedback import sweep
from noisy_feedback.config import LABELS, SWEEP_AXES
from noisy_feedback.data.reviews import SAMPLE_FILE
from noisy_feedback.output.records import without_nan
from tests.conftest import ROOT, only_folder, output_of, reproduced, run_script, start_script

MAIN, CONFIG = "human/main.py", "human/config.py"
COMPARISONS = "sample_comparisons.csv"
FEW = ("--pc", "--epochs-t", 6, "--epochs-f", 4)
TUNING, TEST = range(1500, 2700), range(2700, 3000)  # rows of the sample


@pytest.fixture(autouse=True, scope="module")
def _one_core():
    """No worker processes: starting them takes longer than a small sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "available_cores", lambda: 1)
        yield


@pytest.fixture
def _empty_figures(monkeypatch):
    monkeypatch.setattr("noisy_feedback.output.figures.save_figure", lambda _, file: file.write_bytes(b"figure"))


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
def judgements(sample):
    """The judgements, with the rows of their texts in the sample."""
    texts = pd.read_csv(sample / SAMPLE_FILE)["Review"]
    row_of = {text: row for row, text in reversed(list(enumerate(texts)))}  # of equal texts the first
    table = pd.read_csv(sample / COMPARISONS)
    return table.assign(better=table["chosen"].map(row_of), worse=table["rejected"].map(row_of))


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


def test_it_writes_what_any_run_writes_and_the_annotators(run):
    models = {f"model_{stage}.safetensors" for stage in ("before", "best", "last")}
    tables = {"run.json", "curves.csv", "feedback.csv", "annotators.csv"}
    assert {file.name for file in only_folder(run[0]).iterdir()} == {*tables, *models, "curves.png"}
    assert only_folder(run[0]).name.startswith("sample_hotel_reviews_human_bradley-terry_kl1_")


def test_margins_are_of_the_model_before_fine_tuning_and_of_that_of_the_last_epoch(run, sample):
    """By the weights that the run saved."""
    table, folder = table_of(run[0]), only_folder(run[0])
    assert record_of(run[0])["best_epochs"]["fine_tuning"] < 4  # else best and last are the same
    vectors = torch.load(sample / "embeddings.pt", weights_only=True)
    for column, stage in (("margin_before", "before"), ("margin_after", "last")):
        weights, x = load_file(folder / f"model_{stage}.safetensors"), vectors
        for layer in (0, 2, 4):
            x = linear(x.relu() if layer else x, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
        reward = (x.softmax(1) @ torch.arange(5.0)).numpy()
        assert table[column].tolist() == pytest.approx(reward[table["better"]] - reward[table["worse"]], abs=1e-5)


def test_judgements_of_a_pair_share_its_order(run):
    table = table_of(run[0])
    first = table.groupby("pair")["better"].transform("first")
    p_first_wrong = table["p_wrong"].where(table["better"] == first, 1 - table["p_wrong"])
    assert p_first_wrong.groupby(table["pair"]).agg(np.ptp).max() < 1e-9


def test_the_screen_says_what_people_judged_what_is_learned_from_and_what_the_audit_finds(run):
    output, screen = run
    audit = record_of(output)["audit"]
    assert "judgements 2,400 of 800 pairs by 12 annotators from sample_comparisons.csv\n" in screen
    assert "  1,800 fine-tuning, 300 validation, 300 test; 0 left out" in screen
    assert "noise      0 of 1,800 comparisons reversed (ratio 0, reversed)\n" in screen
    assert "feedback   1,800 comparisons that people made (all), from 730 reviews\n" in screen
    estimate = f"audit      {audit['estimated_flip_rate']:.1%} of the comparisons are wrong (estimate); "
    assert f"{estimate}in truth {audit['flip_rate']:.1%}\n" in screen
    assert f"most suspected {audit['precision']:.1%} are wrong; AUROC of p_wrong {audit['auroc']:.3f}\n" in screen


def test_everything_below_the_data_fits_80_columns(run):
    below = run[1].partition("\nnoise ")[2]
    assert max(len(line) for line in below.splitlines() if not line.startswith("results ")) <= 80


def test_the_preference_accuracy_of_every_stage_is_on_the_screen_and_in_the_record(run):
    output, screen = run
    stages = [record_of(output)[stage]["preference_accuracy"] for stage in ("majority", "before", "best", "last")]
    assert stages[0] == 0.5
    assert all(0.8 < value < 1 for value in stages[1:])
    assert all((value * 100) == pytest.approx(round(value * 100)) for value in stages)  # of the 100 pairs of the test
    assert f"\n{'preference accuracy':27}" + "".join(f"{value:>13.3f}" for value in stages) + "\n" in screen


def test_the_best_epoch_of_fine_tuning_is_the_first_with_the_highest_accuracy_on_the_validation_pairs(run):
    curves = table_of(run[0], "curves.csv")
    curve = curves[curves["phase"] == "fine-tuning"]["validation_preference_accuracy"].to_numpy()
    assert record_of(run[0])["best_epochs"]["fine_tuning"] == 1 + curve.argmax()
    assert curves["validation_preference_accuracy"].between(0.5, 1).all()


def test_the_record_says_which_judgements_it_is_of(run, sample):
    found = record_of(run[0])
    assert found["comparisons_path"] == str(sample / COMPARISONS)
    about = found["judgements"]
    assert (about["name"], about["count"], about["embeddings_sha256"]) == (COMPARISONS, 2400, None)
    assert found["config"]["protocol"] == "human"


def test_the_feedback_is_what_people_judged_in_the_order_of_the_file(run, judgements):
    found, expected = table_of(run[0]), judgements[judgements["better"].isin(TUNING)]
    assert compared(found) == compared(expected)
    assert found["pair"].tolist() == expected["pair"].tolist()
    assert found["annotator"].tolist() == expected["annotator"].tolist()
    assert found["wrong"].tolist() == (~expected["correct"]).tolist()
    assert record_of(run[0])["audit"]["flip_rate"] == pytest.approx((~expected["correct"]).mean())


def test_the_audit_needs_no_truth_and_comes_near_it(run):
    audit = record_of(run[0])["audit"]
    assert audit["estimated_flip_rate"] == pytest.approx(audit["flip_rate"], abs=0.03)
    assert audit["auroc"] > 0.95
    assert audit["precision"] > 0.8
    feedback = table_of(run[0])
    assert feedback["p_wrong"].mean() == pytest.approx(audit["estimated_flip_rate"])


def test_the_annotators_are_those_of_the_file_with_their_true_reliabilities(run, judgements):
    found = table_of(run[0], "annotators.csv").set_index("annotator")
    right = judgements[judgements["better"].isin(TUNING)].groupby("annotator")["correct"]
    assert found["judgements"].to_dict() == right.count().to_dict()
    assert found["true_reliability"].to_dict() == pytest.approx(right.mean().to_dict())
    assert (found["ci_low"] <= found["reliability"]).all()
    assert (found["reliability"] <= found["ci_high"]).all()


def test_the_true_reliabilities_lie_within_the_intervals(run):
    """Those that were planted less often: by chance `usual-1` was right in 0.78 of its judgements, and not in 0.85."""
    found = table_of(run[0], "annotators.csv").set_index("annotator")
    assert set(found.index) == set(PLANTED_RELIABILITIES)
    planted = found.index.map(PLANTED_RELIABILITIES)
    for true, least in ((found["true_reliability"], 11), (planted, 9)):
        assert ((found["ci_low"] <= true) & (true <= found["ci_high"])).sum() >= least


def test_the_curves_are_drawn(run):
    assert matplotlib.image.imread(only_folder(run[0]) / "curves.png")[..., :3].std() > 0.01


# --- a sweep over the judgements to learn from

SWEEP = ("--labels", "gold", "one", "flipped", "majority", "all", "--seeds", 3, 4)
FIGURES = ("curves", "metrics", "change", "audit")


@pytest.fixture(scope="module")
def swept(sample, tmp_path_factory):
    """The folder around the results of a sweep, and what it printed."""
    output = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:  # drawing takes longer than all else; the slow tier draws
        patch.setattr("noisy_feedback.output.figures.save_figure", lambda _, file: file.write_bytes(b"figure"))
        return output, run_script(CONFIG, on_sample(sample, output, *SWEEP))


def test_a_sweep_has_a_row_per_kind_of_labels_and_seed(swept):
    runs = table_of(swept[0], "runs.csv")
    assert list(runs.columns[: len(SWEEP_AXES)]) == list(SWEEP_AXES)
    assert list(zip(runs["seed"], runs["labels"], strict=True)) == [(seed, kind) for seed in (3, 4) for kind in LABELS]
    assert "sweep      10 runs, of which 0 are kept already" in swept[1]
    assert {file.name for file in only_folder(swept[0]).glob("*.png")} == {f"{name}.png" for name in FIGURES}
    assert "test preference accuracy: " in swept[1]


def test_labels_choose_what_is_learned_from(swept, judgements):
    runs = table_of(swept[0], "runs.csv").set_index(["labels", "seed"])
    tuning = judgements[judgements["better"].isin(TUNING)]
    wrong_votes = (~tuning["correct"]).groupby(tuning["pair"]).sum()  # of three
    count, rate = runs["comparisons"].unstack(), runs["flip_rate"].unstack()
    assert (count.loc["all"] == 1800).all()
    assert (count.drop("all") == 600).all(axis=None)
    assert (rate.loc["gold"] == 0).all()
    assert rate.loc["all"].to_numpy() == pytest.approx((~tuning["correct"]).mean())
    assert rate.loc["majority"].to_numpy() == pytest.approx((wrong_votes > 1).mean())
    assert (rate.loc["flipped"] == rate.loc["one"]).all()
    assert rate.loc["one", 3] != rate.loc["one", 4]  # drawn by the seed
    assert rate.loc["one"].to_numpy() == pytest.approx(rate.loc["all"].to_numpy(), abs=0.05)


def test_what_predictions_are_scored_on_is_the_same_for_all_labels(swept):
    runs = table_of(swept[0], "runs.csv")
    assert (runs.groupby("seed")["before_preference_accuracy"].nunique() == 1).all()


@pytest.mark.usefixtures("_empty_figures")
@pytest.mark.parametrize("labels", ["flipped", "all"])
def test_a_cell_equals_the_single_run_with_the_same_arguments_bit_for_bit(sample, swept, tmp_path, labels):
    run_script(MAIN, on_sample(sample, tmp_path, "--labels", labels, "--seed", 4))
    expected = record_of(tmp_path)
    (cell,) = (
        content
        for file in only_folder(swept[0]).glob("runs/*.json")
        if (content := json.loads(file.read_text()))["axes"] == {axis: expected["config"][axis] for axis in SWEEP_AXES}
    )
    for part in ("noise", "comparisons", "audit", "best_epochs", "majority", "before", "best", "last"):
        assert without_nan(cell[part]) == expected[part], part
    curves, in_cell = table_of(tmp_path, "curves.csv"), pd.DataFrame([*cell["training"], *cell["fine_tuning"]])
    assert np.array_equal(in_cell.to_numpy(), curves[list(in_cell.columns)].to_numpy(), equal_nan=True)


@pytest.mark.usefixtures("_empty_figures")
def test_labels_without_annotators_write_no_annotators(sample, tmp_path):
    run_script(MAIN, on_sample(sample, tmp_path, "--labels", "majority"))
    assert not (only_folder(tmp_path) / "annotators.csv").exists()
    assert table_of(tmp_path)["annotator"].isna().all()


# --- the same again


@pytest.mark.usefixtures("_empty_figures")
@pytest.mark.parametrize("which", ["run", pytest.param("swept", marks=pytest.mark.slow)])
def test_a_result_is_reproduced_to_the_last_bit(request, tmp_path, which):
    output, _ = request.getfixturevalue(which)
    assert "all files match; temporary results deleted" in reproduced(only_folder(output), "--output", tmp_path)


@pytest.mark.usefixtures("_empty_figures")
@pytest.mark.parametrize("name", ["feedback.csv", "annotators.csv"])
def test_another_feedback_is_a_difference(run, tmp_path, name):
    copy = shutil.copytree(only_folder(run[0]), tmp_path / "copy")
    header, first, *rows = (copy / name).read_text().splitlines()
    (copy / name).write_text("\n".join([header, first.replace("0.", "1.", 1), *rows]) + "\n")
    screen = reproduced(copy, "--output", tmp_path / "out", status=1)
    assert f"{name:25} 1 of " in screen


@pytest.mark.usefixtures("_empty_figures")
def test_comparisons_that_have_moved_are_named_and_others_are_refused(run, sample, tmp_path, capsys):
    copy = shutil.copytree(only_folder(run[0]), tmp_path / "copy")
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "comparisons_path": str(tmp_path / "gone.csv")}))
    moved = shutil.copy(sample / COMPARISONS, tmp_path / "moved.csv")
    assert "all files match" in reproduced(copy, "--output", tmp_path / "out", "--comparisons", moved)
    capsys.readouterr()
    (tmp_path / "moved.csv").write_text((sample / COMPARISONS).read_text() + "\n")
    reproduced(copy, "--output", tmp_path / "out", "--comparisons", moved, status=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"its comparisons ({COMPARISONS}) are not at {moved}, or have changed" in line


# --- export


@pytest.mark.usefixtures("_empty_figures")
@pytest.mark.parametrize(("labels", "suffix"), [("all", ".jsonl"), ("one", ".parquet"), ("majority", ".jsonl")])
def test_exported_comparisons_are_read_back_as_the_same(sample, tmp_path, suffix, labels):
    file = tmp_path / f"exported{suffix}"
    more = ["--ratio", 0.2, "--labels", labels]
    run_script(MAIN, on_sample(sample, tmp_path / "first", *more, "--export", file))
    screen = run_script(MAIN, [*on_sample(sample, tmp_path / "again"), "--comparisons", file])
    first, again = table_of(tmp_path / "first"), table_of(tmp_path / "again")
    assert compared(again) == compared(first)
    assert again["annotator"].equals(first["annotator"])
    assert (again.groupby("pair").size().tolist()) == first.groupby("pair").size().tolist()
    assert f"judgements {len(first):,} of " in screen
    exported = pd.read_parquet(file) if suffix == ".parquet" else pd.read_json(file, lines=True)
    assert exported["p_wrong"].tolist() == pytest.approx(first["p_wrong"].tolist())
    assert exported["wrong"].astype(int).tolist() == first["wrong"].tolist()
    stars = pd.read_csv(sample / SAMPLE_FILE)["Rating"].to_numpy()
    assert exported["chosen_rating"].tolist() == stars[first["better"]].tolist()
    assert exported["rejected_rating"].tolist() == stars[first["worse"]].tolist()


@pytest.mark.usefixtures("_empty_figures")
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_simulated_feedback_that_is_exported_can_be_learned_from(sample, tmp_path, suffix):
    file = tmp_path / f"simulated{suffix}"
    simulated = ["--path", sample / SAMPLE_FILE, "--output", tmp_path / "first", *FEW, "--k", 2, "--ratio", 0.4]
    run_script("multiclass/main.py", [*simulated, "--export", file])
    run_script(MAIN, [*on_sample(sample, tmp_path / "again"), "--comparisons", file])
    first, again = table_of(tmp_path / "first"), table_of(tmp_path / "again")
    texts = pd.read_csv(sample / SAMPLE_FILE)["Review"]
    for side in ("better", "worse"):  # of reviews with equal texts the first is taken
        assert texts[again[side]].tolist() == texts[first[side]].tolist()
    assert "annotator" not in pd.read_parquet(file) if suffix == ".parquet" else '"annotator"' not in file.read_text()


# --- groups


def write_groups(folder, groups):
    """400 reviews, whose groups are as given, with embeddings."""
    rng, n = np.random.default_rng(0), len(groups)
    ratings = rng.integers(1, 6, size=n)
    texts = [f"review {number}" for number in range(n)]
    folder.mkdir()
    pd.DataFrame({"Review": texts, "Rating": ratings, "hotel": groups}).to_csv(folder / "hotels.csv", index=False)
    torch.save(torch.from_numpy(ratings[:, None] + rng.normal(size=(n, 8))).float(), folder / "embeddings.pt")
    return ["--path", folder / "hotels.csv", "--output", folder / "results", *FEW]


@pytest.mark.usefixtures("_empty_figures")
@pytest.mark.parametrize("more", [[], ["--shuffle"]])
def test_the_rows_of_a_group_stay_in_one_part(tmp_path, more):
    groups = np.random.default_rng(1).integers(0, 40, size=400)
    command = [*write_groups(tmp_path / "data", groups), "--group-column", "hotel", "--lists-per-review", 9, *more]
    screen = run_script("multiclass/main.py", command)
    feedback = table_of(tmp_path / "data" / "results")
    used = set(groups[feedback[["better", "worse"]].to_numpy()].ravel())
    rows = np.isin(groups, list(used)).sum()  # all rows of the groups that are compared are of the fine-tuning part
    assert f", {rows} fine-tuning, " in screen
    assert 120 < rows < 200


def test_groups_that_leave_a_part_empty_are_refused(tmp_path, capsys):
    command = [*write_groups(tmp_path / "data", np.arange(400) // 200), "--group-column", "hotel"]
    assert_refused(capsys, tmp_path / "data" / "results", "multiclass/main.py", command, "2 groups leave the ")
    command[-1] = "town"
    assert_refused(capsys, tmp_path / "data" / "results", "multiclass/main.py", command, "no column 'town'")


# --- texts that are not among the reviews


@pytest.fixture
def with_other_texts(tmp_path, tiny_encoder):
    """The options of a run on 200 reviews, with comparisons in a folder of their own; some are of other texts."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd efgh"), size=12)) + "z" * (number + 1) for number in range(20)] * 10
    texts = [f"{text} {'ab'[number % 2]} {'y' * (number // 2)}" for number, text in enumerate(texts)]
    for folder in ("data", "judged"):
        (tmp_path / folder).mkdir()
    reviews = pd.DataFrame({"Review": texts, "Rating": rng.integers(1, 6, size=200)})
    reviews.to_csv(tmp_path / "data" / "reviews.csv", index=False)
    pairs = [rng.choice(range(100, 180), size=2, replace=False) for _ in range(30)]
    pairs = [(texts[a], texts[b]) for a, b in pairs] + [(texts[110 + n], f"another text {n}") for n in range(5)]
    pairs += [("another text 0", "another text 1"), (texts[0], "another text 2")]
    judged = pd.DataFrame(pairs, columns=["chosen", "rejected"])
    judged.to_csv(tmp_path / "judged" / "comparisons.csv", index=False)
    files = ["--path", tmp_path / "data" / "reviews.csv", "--comparisons", tmp_path / "judged" / "comparisons.csv"]
    return [*files, "--model_name", tiny_encoder, "--epochs-t", 2, "--epochs-f", 2, "--output", tmp_path / "results"]


@pytest.mark.usefixtures("_empty_figures")
def test_other_texts_are_embedded_and_stored_beside_the_comparisons(with_other_texts, tmp_path, capsys):
    assert_refused(capsys, tmp_path / "results", MAIN, [*with_other_texts, "--pc"], "--pc: ")  # nothing is stored yet
    run_script(MAIN, with_other_texts)
    (stored,) = (tmp_path / "judged" / "embeddings").glob("comparisons-*.safetensors")
    written, record = stored.read_bytes(), record_of(tmp_path / "results")
    assert record["judgements"]["embeddings_sha256"] is not None
    feedback = table_of(tmp_path / "results")
    others = feedback[(feedback["better"] >= 200) | (feedback["worse"] >= 200)]
    assert compared(others) == [(110 + n, 200 + n) for n in range(5)] + [(200, 201)]  # the last has a training review

    run_script(MAIN, [*with_other_texts, "--pc", "--output", tmp_path / "again"])
    assert record_of(tmp_path / "again") == record
    assert stored.read_bytes() == written
    assert "all files match" in reproduced(only_folder(tmp_path / "results"), "--output", tmp_path / "out")

    stored.unlink()
    capsys.readouterr()
    line = assert_refused(capsys, tmp_path / "third", MAIN, [*with_other_texts, "--pc", "--output", tmp_path / "third"])
    assert "--pc: 5 texts of comparisons.csv are not among the reviews, and have no stored embeddings" in line
    assert "run once without --pc" in line


def test_other_texts_are_refused_where_the_vectors_of_the_reviews_were_given(with_other_texts, tmp_path, capsys):
    torch.save(torch.ones(200, 16), tmp_path / "data" / "embeddings.pt")
    command = [*with_other_texts, "--pc"]
    says = "embeddings.pt does not say by which encoder to embed them"
    assert says in assert_refused(capsys, tmp_path / "results", MAIN, command)
    assert not (tmp_path / "judged" / "embeddings").exists()


# --- what is refused


def assert_refused(capsys, output, script, command, says=""):
    """It ends with one line that names the option or file, and has written nothing; returns the line."""
    run_script(script, command, status=2)
    error = capsys.readouterr().err
    line = error.splitlines()[-1]
    assert line.startswith(f"{script.partition('/')[2]}: error: ")
    assert says in line
    assert "Traceback" not in error
    assert "%|" not in error  # no bar was shown
    assert not output.exists()
    return line


def test_comparisons_that_do_not_exist_are_refused(sample, tmp_path, capsys):
    command = [*on_sample(sample, tmp_path / "results"), "--comparisons", tmp_path / "none.csv"]
    assert_refused(capsys, tmp_path / "results", MAIN, command, f"--comparisons {tmp_path / 'none.csv'}: no such file")


SWAPPED: dict[str, str] = {"chosen": "rejected", "rejected": "chosen"}
CANNOT = {
    "a missing column": (lambda table: table.drop(columns="rejected"), [], "no column 'rejected'"),
    "no comparison": (lambda table: table[:0], [], "holds no comparison"),
    "gold without truth": (lambda table: table.drop(columns="correct"), ["--labels", "gold"], "(column 'correct')"),
    "flipped without truth": (lambda table: table.drop(columns="correct"), ["--labels", "flipped"], "--labels flipped"),
    "an unrated chosen text": (
        lambda table: table.assign(chosen=table["chosen"].replace(table["chosen"].iloc[-1], "A text of its own.")),
        ["--loss", "study"],
        "--loss study needs the rating of the chosen text",
    ),
    "nothing in the fine-tuning part": (lambda table: table[:300], [], "both texts in the fine-tuning part"),
    "ties alone": (
        lambda table: pd.concat([table[300:301], table[300:301].rename(columns=SWAPPED)]).drop(columns="correct"),
        ["--labels", "majority"],
        "every pair of the fine-tuning part is a tie",
    ),
    "the wrong kind of export": (lambda table: table, ["--export", "comparisons.csv"], "ends with neither .jsonl nor"),
    "an export without a folder": (lambda table: table, ["--export", "no/such/folder/x.jsonl"], "there is no folder"),
    "a flip rate for another loss": (lambda table: table, ["--flip-rate", 0.2], "--loss bradley-terry takes none"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_comparisons_that_cannot_be_learned_from_are_refused(sample, judgements, tmp_path, capsys, name):
    edit, more, says = CANNOT[name]
    table = judgements.drop(columns=["better", "worse"])
    if name == "an unrated chosen text":
        table = table[table["pair"].between(100, 600)]
    edit(table).to_csv(tmp_path / "comparisons.csv", index=False)
    command = [*on_sample(sample, tmp_path / "results", *more), "--comparisons", tmp_path / "comparisons.csv"]
    assert_refused(capsys, tmp_path / "results", MAIN, command, says)
    assert [file.name for file in tmp_path.iterdir()] == ["comparisons.csv"]


def test_an_export_of_no_comparisons_is_refused(sample, tmp_path, capsys):
    command = [*on_sample(sample, tmp_path / "results"), "--epochs-f", 0, "--export", tmp_path / "exported.jsonl"]
    assert_refused(capsys, tmp_path / "results", MAIN, command, "--export")


def test_a_sweep_names_the_labels_that_cannot_be_learned_from(sample, judgements, tmp_path, capsys):
    judgements.drop(columns=["better", "worse", "correct"]).to_csv(tmp_path / "comparisons.csv", index=False)
    command = [*on_sample(sample, tmp_path / "results", *SWEEP), "--comparisons", tmp_path / "comparisons.csv"]
    assert_refused(capsys, tmp_path / "results", CONFIG, command, "--labels gold: comparisons.csv does not say")


# --- slow: figures, a cluster, the scripts in processes of their own


@pytest.mark.slow
def test_a_sweep_draws_its_figures(sample, tmp_path):
    screen = run_script(CONFIG, on_sample(sample, tmp_path, *SWEEP))
    assert screen.splitlines()[-1] == f"figures    {', '.join(f'{name}.png' for name in FIGURES)}"
    for name in FIGURES:
        assert matplotlib.image.imread(only_folder(tmp_path) / f"{name}.png").std() > 0.05, name
        assert (only_folder(tmp_path) / f"{name}.pdf").stat().st_size > 1000


@pytest.mark.slow
def test_a_local_cluster_gives_the_same_tables(sample, swept, tmp_path):
    command = on_sample(sample, tmp_path, *SWEEP, "--dask", "local")
    output_of(start_script(CONFIG, *command, session=True))
    for name in ("sweep.json", "runs.csv", "curves.csv", "summary.csv"):
        assert (only_folder(tmp_path) / name).read_bytes() == (only_folder(swept[0]) / name).read_bytes(), name


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
    assert "sweep      1 runs, of which 0 are kept already" in screen
