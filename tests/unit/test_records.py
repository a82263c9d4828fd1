"""What is kept of runs and sweeps is found again exactly, by what it was made from, and nothing else is."""

import csv
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from noisy_feedback.config import NOT_IN_RECORD, SWEEP_AXES, Config, Sweep
from noisy_feedback.data.dataset import JudgementsInfo, Provenance, ReviewsInfo
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.metrics import METRICS, Metrics
from noisy_feedback.feedback.audit import Annotators, Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning.model import init_model, state_dict
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.output import records
from noisy_feedback.output.comparisons import AuditedFeedback
from noisy_feedback.output.records import RunResult, SweepFolder, save_run

MADE_FROM = Provenance(
    data=ReviewsInfo("hotels.csv.gz", rows=100, scale=[1, 2, 4], sha256="ab12"),
    encoder=EmbeddingsInfo("embeddings.pt", None, None, None, sha256="cd34", device=None),
    device="cpu",
)


AUDIT = {"estimated_flip_rate": 0.125, "flip_rate": 0.25, "auroc": 0.75, "precision": None}


def metrics_of(value, compared=False):
    """Metrics that are all the same number; where nobody `compared` texts, there is no preference accuracy."""
    metrics = Metrics(**dict.fromkeys(METRICS, value), confusion_matrix=[[5, 1, 0], [0, 6, 2], [1, 0, 9]])
    return metrics if compared else replace(metrics, preference_accuracy=math.nan)


def result_of(config, score=0.6, comparisons=80, compared=False):
    """The result of a run with this configuration, with made-up numbers."""
    training = [EpochStats(1.5, 0.4, math.nan, 0.5, 0.1 + 0.2), EpochStats(1.25, 0.5, math.nan, 0.6, 0.4)]
    fine_tuning = [EpochStats(0.9, 0.5, 0.7, 0.5, 1 / 3)]
    return RunResult(
        config=config,
        noise={"ratio": config.ratio, "changed": 8, "total": 40},
        comparisons={"count": comparisons, "k": config.k, "reviews_used": comparisons * (config.k + 1), "ties": 3},
        audit=AUDIT if config.epochs_f else None,
        best_epochs={"training": 2, "fine_tuning": 1},
        training=training,
        fine_tuning=fine_tuning if config.epochs_f else [],
        majority=replace(metrics_of(0.4, compared), quadratic_weighted_kappa=math.nan),
        before=metrics_of(score, compared),
        best=metrics_of(score + 0.1, compared) if config.epochs_f else None,
        last=metrics_of(score - 0.1, compared) if config.epochs_f else None,
    )


def distinct(result):
    """The same result with metrics that differ from each other: 1.25 is the second metric of the first stage."""
    stages = {
        stage: Metrics(*(number + place / 4 for place in range(len(METRICS))), confusion_matrix=[[number]])
        for number, stage in enumerate(("majority", "before", "best", "last"), start=1)
    }
    return replace(result, **stages)


def same(one, other):
    """Equality of results in which NaN equals NaN."""
    return repr(one) == repr(other)


@pytest.fixture
def config(tmp_path):
    return Config("multiclass", path=tmp_path / "hotels.csv", output=tmp_path / "results", k=2, ratio=0.3, seed=7)


@pytest.fixture
def models():
    model = init_model((4, 3, 2, 3), np.random.default_rng(0))
    return dict.fromkeys(("before", "best", "last"), model)


@pytest.fixture
def sweep_folder(config):
    return SweepFolder(Sweep(config, [config]), MADE_FROM)


# --- names of folders


def test_a_runs_folder_begins_with_the_datas_name_and_says_protocol_k_loss_ratio_and_seed(config):
    name = records.run_folder(config, MADE_FROM).name
    stem, _, identity = name.rpartition("_")
    assert stem == "hotels_multiclass_k2_study_ratio0.3_seed7"
    assert len(identity) == 8


def test_a_sweeps_folder_says_nothing_of_what_is_swept(sweep_folder):
    stem, _, identity = sweep_folder.path.name.rpartition("_")
    assert stem == "hotels_multiclass_k2"
    assert len(identity) == 8


def test_binary_needs_no_k_in_the_name(config):
    assert records.run_folder(replace(config, protocol="binary", k=1), MADE_FROM).name.startswith("hotels_binary_study")


def test_options_that_differ_from_their_defaults_are_in_the_name(config):
    changed = replace(config, noise="reversed", kl_weight=0.5, epochs_t=3, epochs_f=4, loss="hinge")
    name = records.run_folder(changed, MADE_FROM).name
    assert "_hinge_" in name
    assert all(f"_{part}_" in name for part in ("kl0.5", "reversed", "t3", "f4"))


def test_a_long_name_is_cut_but_keeps_its_identity(config):
    long = replace(MADE_FROM, data=replace(MADE_FROM.data, name="n" * 300))
    one, other = (records.run_folder(replace(config, seed=seed), long).name for seed in (1, 2))
    assert one != other
    assert len(one) < 255


OTHER_FIELDS = {
    "text_column": "T",
    "rating_column": "R",
    "group_column": "G",
    "shuffle": True,
    "drop_empty": True,
    "drop_duplicates": True,
    "model_name": "bert",
    "pooling": "cls",
    "seed": 8,
    "head": "scalar",
    "hidden": (64, 33),
    "epochs_t": 99,
    "lr_t": 0.02,
    "batch_t": 65,
    "labels": "gold",
    "noise": "adjacent",
    "ratio": 0.30000000000000004,
    "k": 3,
    "lists": 10,
    "lists_per_review": 2,
    "list_order": "row",
    "loss": "hinge",
    "kl_weight": 1e-9,
    "flip_rate": 0.1,
    "epochs_f": 21,
    "lr_f": 0.002,
    "batch_f": 513,
    "select": "kappa",
    "validation_ratings": "misaligned",
    "protocol": "binary",
}


def test_every_field_that_can_change_a_number_is_tried():
    assert set(OTHER_FIELDS) == {field.name for field in fields(Config)} - set(NOT_IN_RECORD)


@pytest.mark.parametrize("name", OTHER_FIELDS)
def test_another_option_makes_another_folder(config, name):
    other = replace(config, **{name: OTHER_FIELDS[name]})
    assert records.run_folder(other, MADE_FROM) != records.run_folder(config, MADE_FROM)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", Path("elsewhere.csv")),
        ("comparisons", Path("elsewhere.csv")),
        ("export", Path("elsewhere.jsonl")),
        ("pc", True),
        ("use_cuda", True),
    ],
    ids=lambda name: str(name),
)
def test_where_the_data_lies_makes_no_other_folder(config, name, value):
    other = replace(config, **{name: value})
    assert records.run_folder(other, MADE_FROM) == records.run_folder(config, MADE_FROM)


OTHER_ORIGINS = {
    "data": replace(MADE_FROM, data=replace(MADE_FROM.data, sha256="ab13")),
    "rows": replace(MADE_FROM, data=replace(MADE_FROM.data, rows=99)),
    "embeddings": replace(MADE_FROM, encoder=replace(MADE_FROM.encoder, sha256="cd35")),
    "device": replace(MADE_FROM, device="NVIDIA H100"),
    "judgements": replace(MADE_FROM, judgements=JudgementsInfo("comparisons.csv", 9, "ef56", None)),
}


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_other_data_embeddings_or_devices_make_other_folders(config, sweep_folder, origin):
    other = OTHER_ORIGINS[origin]
    assert records.run_folder(config, other) != records.run_folder(config, MADE_FROM)
    assert SweepFolder(Sweep(config, [config]), other).path != sweep_folder.path


def test_other_code_makes_other_folders(config, sweep_folder, monkeypatch):
    monkeypatch.setattr(records, "CODE_VERSION", "000000000000")
    assert SweepFolder(Sweep(config, [config]), MADE_FROM).path != sweep_folder.path


@pytest.mark.parametrize("axis", SWEEP_AXES)
def test_what_is_swept_makes_no_other_folder_of_the_sweep(config, sweep_folder, axis):
    other = replace(config, **{axis: OTHER_FIELDS[axis]})
    assert SweepFolder(Sweep(other, [other]), MADE_FROM).path == sweep_folder.path


# --- run.json and its neighbours


def test_a_run_is_saved_in_its_folder(config, models):
    folder = save_run(result_of(config), models, MADE_FROM)
    assert folder == records.run_folder(config, MADE_FROM)
    assert sorted(file.name for file in folder.iterdir()) == [
        "curves.csv",
        "model_before.safetensors",
        "model_best.safetensors",
        "model_last.safetensors",
        "run.json",
    ]


def test_run_json_says_what_the_run_was_and_what_it_found(config, models):
    content = json.loads((save_run(result_of(config), models, MADE_FROM) / "run.json").read_text())
    assert content["path"] == str(config.path)
    assert content["config"] == records.config_record(config)
    assert content["config"]["hidden"] == [64, 32]
    assert not set(NOT_IN_RECORD) & set(content["config"])
    assert content["data"] == {"name": "hotels.csv.gz", "rows": 100, "scale": [1, 2, 4], "sha256": "ab12"}
    assert content["encoder"]["sha256"] == "cd34"
    assert content["noise"] == {"ratio": 0.3, "changed": 8, "total": 40}
    assert content["audit"] == AUDIT
    assert content["comparisons"] == {"count": 80, "k": 2, "reviews_used": 240, "ties": 3}
    assert content["best_epochs"] == {"training": 2, "fine_tuning": 1}
    assert content["device"] == "cpu"
    assert [content[stage]["accuracy"] for stage in ("majority", "before", "best", "last")] == [0.4, 0.6, 0.7, 0.5]
    assert {"python", "torch", "numpy", "code"} <= set(content["versions"])


RUN_KEYS = {"identity", "path", "comparisons_path", "config", "data", "encoder", "device", "judgements", "noise"}
RUN_KEYS |= {"comparisons", "audit", "best_epochs", "majority", "before", "best", "last", "versions"}
SWEEP_KEYS = {"identity", "path", "comparisons_path", "config", "runs", "data", "encoder", "device", "judgements"}
SWEEP_KEYS |= {"versions"}


def test_the_records_have_the_keys_that_the_documents_name(config, models, sweep_folder):
    run = json.loads((save_run(result_of(config), models, MADE_FROM) / "run.json").read_text())
    sweep_folder.write_record([result_of(config)])
    sweep = json.loads((sweep_folder.path / "sweep.json").read_text())
    assert (set(run), set(sweep)) == (RUN_KEYS, SWEEP_KEYS)


def test_a_record_says_where_the_comparisons_of_people_were(config):
    places = records.places(replace(config, comparisons=Path("judged.csv")))
    assert places == {"path": str(config.path), "comparisons_path": "judged.csv"}
    assert records.places(config)["comparisons_path"] is None


def test_a_row_of_a_run_has_every_metric_of_every_stage(config):
    (row,) = records.runs_rows([distinct(result_of(config))])
    stages = enumerate(("majority", "before", "best", "last"), start=1)
    expected = {f"{stage}_{name}": n + place / 4 for n, stage in stages for place, name in enumerate(METRICS)}
    assert {name: value for name, value in row.items() if name in expected} == expected
    (untuned,) = records.runs_rows([replace(result_of(config), best=None, last=None)])
    assert all(math.isnan(untuned[f"last_{name}"]) for name in METRICS)


def test_a_metric_that_is_not_defined_is_null(config, models):
    text = (save_run(result_of(config), models, MADE_FROM) / "run.json").read_text()
    assert json.loads(text)["majority"]["quadratic_weighted_kappa"] is None
    assert "NaN" not in text


def test_curves_have_every_digit_and_an_empty_cell_for_what_is_not_defined(config, models):
    folder = save_run(result_of(config), models, MADE_FROM)
    with (folder / "curves.csv").open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    assert ",".join(header) == (
        "phase,epoch,objective,training_accuracy,preference_accuracy,validation_accuracy,validation_macro_f1,"
        "validation_preference_accuracy"
    )
    assert rows[0] == ["training", "1", "1.5", "0.4", "", "0.5", "0.30000000000000004", ""]
    assert rows[2] == ["fine-tuning", "1", "0.9", "0.5", "0.7", "0.5", "0.3333333333333333", ""]
    assert b"\r" not in (folder / "curves.csv").read_bytes()


def test_saved_models_know_their_scale_and_encoder(config, models):
    from safetensors import safe_open

    folder = save_run(result_of(config), models, MADE_FROM)
    with safe_open(folder / "model_best.safetensors", framework="np") as stored:
        metadata = json.loads(stored.metadata()["noisy_feedback"])
    assert metadata["scale"] == [1, 2, 4]
    assert metadata["encoder"]["model"] == "embeddings.pt"
    assert set(load_file(folder / "model_best.safetensors")) == {
        f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")
    }


def test_every_stages_model_is_in_its_own_file(config):
    stages = ("before", "best", "last")
    models = {stage: init_model((4, 3, 2, 3), np.random.default_rng(seed)) for seed, stage in enumerate(stages)}
    folder = save_run(result_of(config), models, MADE_FROM)
    for stage, model in models.items():
        stored = load_file(folder / f"model_{stage}.safetensors")["0.weight"]
        assert np.array_equal(stored, state_dict(model)["0.weight"].numpy()), stage


def test_a_run_that_was_not_fine_tuned_has_one_model_and_null_for_later_stages(config, models):
    result = result_of(replace(config, epochs_f=0))
    folder = save_run(result, {"before": models["before"]}, MADE_FROM)
    assert [file.name for file in folder.glob("*.safetensors")] == ["model_before.safetensors"]
    content = json.loads((folder / "run.json").read_text())
    assert (content["best"], content["last"]) == (None, None)


def test_run_json_goes_first_and_comes_last(config, models, monkeypatch):
    folder = save_run(result_of(config), models, MADE_FROM)
    there = []
    write = records.write_tensors
    monkeypatch.setattr(
        records, "write_tensors", lambda *given: (there.append((folder / "run.json").exists()), write(*given))
    )
    save_run(result_of(config), models, MADE_FROM)
    assert there == [False, False, False]
    assert (folder / "run.json").exists()


def audited(wrong):
    """Two judgements by one of two annotators."""
    feedback = Feedback(
        np.array([[0, 1], [2, 1]]), np.full((2, 2), -1), 0, 2, np.array(wrong)[:, None], np.arange(2), np.array([1, 1])
    )
    annotators = Annotators(np.array([0, 2]), *np.array([[0.5, 0.75], [0.25, 0.5], [0.75, 1.0]]))
    return AuditedFeedback(feedback, Audit(np.array([0.25, 0.5]), 0.375, annotators), np.eye(3), np.eye(3))


def test_comparisons_and_annotators_are_saved_beside_the_run(config, models):
    folder = save_run(result_of(config), models, MADE_FROM, audited([0.0, 1.0]), ["al", "bo"])
    assert len((folder / "feedback.csv").read_text().splitlines()) == 3
    assert (folder / "annotators.csv").read_text().splitlines()[1:] == ["bo,2,0.75,0.5,1.0,0.5"]


def test_comparisons_of_an_earlier_run_of_the_same_name_do_not_stay(config, models):
    folder = save_run(result_of(config), models, MADE_FROM, audited([0.0, 1.0]), ["al", "bo"])
    save_run(result_of(config), models, MADE_FROM)
    assert not {"feedback.csv", "annotators.csv"} & {file.name for file in folder.iterdir()}


def test_run_json_says_which_comparisons_of_people_a_run_learned_from(config, models):
    judged = replace(MADE_FROM, judgements=JudgementsInfo("comparisons.csv", 9, "ef56", None))
    content = json.loads((save_run(result_of(config), models, judged) / "run.json").read_text())
    assert content["judgements"] == {
        "name": "comparisons.csv",
        "count": 9,
        "sha256": "ef56",
        "embeddings_sha256": None,
    }


def test_labels_that_are_learned_from_are_in_the_name(config):
    human = replace(config, protocol="human", k=1, labels="majority", loss="hinge")
    assert records.run_folder(human, MADE_FROM).name.startswith("hotels_human_hinge_majority_")


# --- --name


def test_a_name_replaces_the_one_made_from_the_options(config, models):
    named = replace(config, name="mine")
    assert save_run(result_of(named), models, MADE_FROM) == config.output / "mine"
    assert SweepFolder(Sweep(replace(config, name="all"), [config]), MADE_FROM).path == config.output / "all"


def test_the_same_run_may_be_saved_under_its_name_again(config, models):
    named = replace(config, name="mine")
    folder = save_run(result_of(named), models, MADE_FROM)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    save_run(result_of(named), models, MADE_FROM)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("record", ["the run's", "", "{", "[]", "3", "{}"])
def test_another_result_of_the_same_name_is_not_touched(config, models, record):
    named = replace(config, name="mine")
    folder = save_run(result_of(named), models, MADE_FROM)
    if record != "the run's":
        (folder / "run.json").write_text(record)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    other = replace(named, ratio=0.4)
    with pytest.raises(InputError, match=r"--name mine: .*mine holds a result of other options, data or code"):
        save_run(result_of(other), models, MADE_FROM)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_sweep_of_other_options_does_not_take_the_name_of_one(config):
    named = replace(config, name="mine")
    SweepFolder(Sweep(named, [named]), MADE_FROM).write_record([result_of(named)])
    more = replace(named, seed=8, ratio=0.5)
    SweepFolder(Sweep(more, [more]), MADE_FROM)  # extends it
    with pytest.raises(InputError, match="--name mine"):
        SweepFolder(Sweep(replace(named, k=3), []), MADE_FROM)


def test_a_sweep_that_was_interrupted_keeps_its_name(config):
    named = replace(config, name="mine")
    folder = SweepFolder(Sweep(named, [named]), MADE_FROM)
    folder.save(result_of(named))
    before = folder.file_of(named).read_bytes()
    with pytest.raises(InputError, match="--name mine"):
        SweepFolder(Sweep(replace(named, k=3), []), MADE_FROM)
    assert folder.file_of(named).read_bytes() == before


def test_a_run_and_a_sweep_do_not_share_a_name(config, models):
    named = replace(config, name="sweep")
    SweepFolder(Sweep(named, [named]), MADE_FROM).write_record([result_of(named)])
    with pytest.raises(InputError, match="--name sweep"):
        save_run(result_of(named), models, MADE_FROM)
    named = replace(config, name="run")
    save_run(result_of(named), models, MADE_FROM)
    with pytest.raises(InputError, match="--name run"):
        SweepFolder(Sweep(named, [named]), MADE_FROM)


# --- runs that a sweep keeps


def test_a_kept_run_is_read_back_as_it_was(config, sweep_folder):
    assert not sweep_folder.has(config)
    result = result_of(config)
    sweep_folder.save(result)
    assert sweep_folder.has(config)
    assert same(sweep_folder.read(sweep_folder.file_of(config)), result)


def test_a_kept_run_that_was_not_fine_tuned_is_read_back_as_it_was(config):
    config = replace(config, epochs_f=0)
    folder = SweepFolder(Sweep(config, [config]), MADE_FROM)
    folder.save(result_of(config))
    assert same(folder.load_all(), [result_of(config)])


def test_a_kept_runs_file_is_named_after_what_is_swept(config, sweep_folder):
    name = "seed-7_labels-all_loss-study_kl-weight-0_noise-uniform_ratio-0.3.json"
    assert sweep_folder.file_of(config) == sweep_folder.path / "runs" / name


def test_all_kept_runs_are_loaded_in_the_order_of_the_axes(config, sweep_folder):
    runs = [
        replace(config, seed=seed, loss=loss, noise=noise, ratio=ratio)
        for seed in (1, 10, 2)
        for loss in ("hinge", "study")
        for noise in ("reversed", "uniform")
        for ratio in (0.0, 1.0, 0.05)
    ]
    for run in runs:
        sweep_folder.save(result_of(run))
    assert [result.config for result in sweep_folder.load_all()] == sorted(runs, key=Config.sort_key)
    assert [result.config.seed for result in sweep_folder.load_all()][::12] == [1, 2, 10]


def test_files_that_are_being_written_are_no_runs(config, sweep_folder):
    sweep_folder.save(result_of(config))
    file = sweep_folder.file_of(config)
    file.rename(file.with_name(f".123-{file.name}"))
    assert sweep_folder.load_all() == []


DAMAGES = {
    "empty": lambda content: "",
    "cut short": lambda content: json.dumps(content)[:100],
    "not UTF-8": lambda content: b"\xff\xfe",
    "a list": lambda content: "[]",
    "a text": lambda content: '"text"',
    "another identity": lambda content: json.dumps({**content, "identity": "00000000"}),
    "no identity": lambda content: json.dumps({key: content[key] for key in content if key != "identity"}),
    "no axes": lambda content: json.dumps({key: content[key] for key in content if key != "axes"}),
    "a wrong axis": lambda content: json.dumps({**content, "axes": {**content["axes"], "ratio": 3}}),
    "a wrong seed": lambda content: json.dumps({**content, "axes": {**content["axes"], "seed": "x"}}),
    "a missing stage": lambda content: json.dumps({key: content[key] for key in content if key != "last"}),
    "a missing metric": lambda content: json.dumps({**content, "last": {"accuracy": 1}}),
    "a wrong epoch": lambda content: json.dumps({**content, "training": [{"objective": 1}]}),
    "more than there is": lambda content: json.dumps({**content, "more": 1}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_counts_as_missing(config, sweep_folder, damage):
    sweep_folder.save(result_of(config))
    file = sweep_folder.file_of(config)
    content = DAMAGES[damage](json.loads(file.read_text()))
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert not sweep_folder.has(config)
    assert sweep_folder.load_all() == []


# --- tables


def test_a_row_of_runs_csv_holds_the_axes_counts_audit_and_epochs(config):
    (row,) = records.runs_rows([result_of(config, compared=True)])
    assert {axis: row[axis] for axis in SWEEP_AXES} == {axis: getattr(config, axis) for axis in SWEEP_AXES}
    assert row["ratings_changed"] == 8
    assert (row["ratings"], row["comparisons"], row["reviews_used"], row["ties"]) == (40, 80, 240, 3)
    assert [row[name] for name in AUDIT] == [0.125, 0.25, 0.75, None]
    assert (row["best_training_epoch"], row["best_fine_tuning_epoch"]) == (2, 1)


def test_training_is_once_per_seed_in_the_curves_of_a_sweep(config):
    runs = [replace(config, seed=seed, ratio=ratio) for seed in (1, 2) for ratio in (0.0, 0.5)]
    rows = list(records.sweep_curve_rows([result_of(run) for run in runs]))
    training = [row for row in rows if row[len(SWEEP_AXES)] == "training"]
    assert [row[: len(SWEEP_AXES)] for row in training] == [(seed, *[None] * 5) for seed in (1, 1, 2, 2)]
    tuning = [row for row in rows if row[len(SWEEP_AXES)] == "fine-tuning"]
    assert [(row[0], row[5]) for row in tuning] == [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5)]


def test_the_curves_of_a_sweep_are_those_of_each_seed_and_run(config):
    results = []
    for seed, ratio in ((1, 0.0), (1, 0.5), (2, 0.5)):
        training, tuning = EpochStats(*[seed] * 6), EpochStats(*[seed + ratio] * 6)
        run = replace(config, seed=seed, ratio=ratio)
        results.append(replace(result_of(run), training=[training], fine_tuning=[tuning]))
    rows = [(row[0], row[5], *row[6:9]) for row in records.sweep_curve_rows(results)]
    assert rows == [
        (1, None, "training", 1, 1),
        (1, 0.0, "fine-tuning", 1, 1.0),
        (1, 0.5, "fine-tuning", 1, 1.5),
        (2, None, "training", 1, 2),
        (2, 0.5, "fine-tuning", 1, 2.5),
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.2, "0.2"), (1.0, "1"), (1 / 3, "0.3333333333333333"), (7, "7"), ("a-b", "a-b")]
)
def test_numbers_keep_their_digits_in_file_names(value, text):
    assert records.format_number(value) == text


def test_sweep_json_says_which_runs_the_tables_hold(config, sweep_folder):
    runs = [replace(config, seed=seed) for seed in (1, 2)]
    sweep_folder.write_record([result_of(run) for run in runs])
    content = json.loads((sweep_folder.path / "sweep.json").read_text())
    assert content["runs"] == [{axis: getattr(run, axis) for axis in SWEEP_AXES} for run in runs]
    assert content["config"].keys() == records.config_record(config).keys() - set(SWEEP_AXES)
    assert (content["data"]["sha256"], content["encoder"]["sha256"], content["device"]) == ("ab12", "cd34", "cpu")
    assert content["identity"] == sweep_folder.identity
