"""What is kept of runs and sweeps is found again exactly, by what it was made from, and nothing else is."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from noisy_feedback.code_version import CODE_VERSION
from noisy_feedback.config import RECORDED, SWEEP_AXES, Config
from noisy_feedback.data.dataset import JudgementsInfo, Provenance, ReviewsInfo
from noisy_feedback.data.embeddings import EmbeddingsInfo
from noisy_feedback.errors import InputError
from noisy_feedback.evaluation.results import RunResult
from noisy_feedback.feedback.annotators import Annotators
from noisy_feedback.feedback.audit import Audit
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning.model import init_model, predict
from noisy_feedback.learning.training import EpochStats
from noisy_feedback.metrics import METRICS, Metrics
from noisy_feedback.output import plots, records, tables
from noisy_feedback.output.records import ResultsFolder, SweepFolder, save_run
from tests.conftest import files_of

MADE_FROM = Provenance(
    data=ReviewsInfo("hotels.csv.gz", rows=100, scale=[1, 2, 4], sha256="ab12"),
    encoder=EmbeddingsInfo("embeddings.pt", None, None, None, sha256="cd34", device=None, truncate=None),
    device="cpu",
)
CHECK = {"comparisons": 9, "disagreement": None, "dropped": {"tied": 2}, "unused_columns": ["source"]}

AUDIT: dict[str, float] = {"estimated_flip_rate": 0.125, "flip_rate_low": 0.1, "flip_rate_high": 0.2}
AUDIT |= {"known": True, "true_flip_rate": 0.25, "auroc": 0.75, "precision": math.nan}


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
        best_epochs={"training": 2, "fine_tuning": 1 if config.epochs_f else 0},
        training=training,
        fine_tuning=fine_tuning if config.epochs_f else [],
        majority=replace(metrics_of(0.4, compared), quadratic_weighted_kappa=math.nan),
        before=metrics_of(score, compared),
        best=metrics_of(score + 0.1, compared) if config.epochs_f else None,
        last=metrics_of(score - 0.1, compared) if config.epochs_f else None,
        kl_weight_used=0.75 if config.epochs_f else None,
    )


def distinct(result):
    """The same result with metrics that differ from each other: 1.25 is the second metric of the first stage."""
    stages = {
        stage: Metrics(*(number + place / 4 for place in range(len(METRICS))), confusion_matrix=[[number]])
        for number, stage in enumerate(("majority", "before", "best", "last"), start=1)
    }
    return replace(result, **stages)


@pytest.fixture(autouse=True)
def _quick_figures(monkeypatch):
    monkeypatch.setattr(plots, "save_figure", lambda _, file: file.write_bytes(b"figure"))


@pytest.fixture
def config(tmp_path):
    return Config("multiclass", path=tmp_path / "hotels.csv", output=tmp_path / "results", k=2, ratio=0.3, seed=7)


@pytest.fixture
def sweep_folder(config):
    return SweepFolder(config, MADE_FROM)


def model_of(seed):
    return init_model((4, 3, 2, 3), np.random.default_rng(seed))


MODELS = {stage: model_of(seed) for seed, stage in enumerate(("before", "best", "last"))}


def save(result, *comparisons, models=MODELS, provenance=MADE_FROM, annotators=("al", "bo")):
    """Save a run on three texts; returns its folder."""
    embeddings = torch.from_numpy(np.random.default_rng(9).normal(size=(3, 4))).float()
    judgements = SimpleNamespace(annotator_names=list(annotators))
    dataset = SimpleNamespace(provenance=provenance, embeddings=embeddings, judgements=judgements)
    return save_run(result, models, dataset, *comparisons)


# --- names of folders


def test_a_folders_name_begins_with_the_data_and_says_what_differs_from_the_defaults(config, sweep_folder):
    stem, _, identity = ResultsFolder(config, MADE_FROM).path.name.rpartition("_")
    assert (stem, len(identity)) == ("hotels_multiclass_k2_study_ratio0.3_seed7", 8)
    stem, _, identity = sweep_folder.path.name.rpartition("_")  # says nothing of what is swept
    assert (stem, len(identity)) == ("hotels_multiclass_k2", 8)
    changed = replace(config, noise="reversed", kl_weight=0.5, epochs_t=3, epochs_f=4, loss="hinge")
    name = ResultsFolder(changed, MADE_FROM).path.name
    assert name.startswith("hotels_multiclass_k2_hinge_kl0.5_reversed_t3_f4_ratio0.3_seed7_")
    long = replace(MADE_FROM, data=replace(MADE_FROM.data, name="n" * 300))
    assert len(ResultsFolder(config, long).path.name) < 255
    human = replace(config, protocol="human", k=1, labels="majority", loss="hinge")  # needs no k
    assert ResultsFolder(human, MADE_FROM).path.name.startswith("hotels_human_hinge_majority_")


def test_other_data_embeddings_devices_or_code_make_other_folders(config, monkeypatch):
    def folders(origin=MADE_FROM):
        return ResultsFolder(config, origin).path, SweepFolder(config, origin).path

    changes = [
        {"data": replace(MADE_FROM.data, sha256="ab13")},
        {"data": replace(MADE_FROM.data, rows=99)},
        {"encoder": replace(MADE_FROM.encoder, sha256="cd35")},
        {"device": "NVIDIA H100"},
        {"judgements": JudgementsInfo("comparisons.csv", CHECK, "ef56")},
        {},
    ]
    found = [folders(replace(MADE_FROM, **change)) for change in changes]
    monkeypatch.setattr(records, "CODE_VERSION", "000000000000")
    found.append(folders())
    assert [len(set(of_kind)) for of_kind in zip(*found, strict=True)] == [len(found)] * 2


# --- run.json and its neighbours


def test_a_run_is_saved_in_its_folder_with_all_that_it_found(config, monkeypatch):
    judged = replace(MADE_FROM, judgements=JudgementsInfo("comparisons.csv", CHECK, "ef56"))
    config = replace(config, comparisons=Path("judged.csv"))
    folder = save(result_of(config), provenance=judged)
    assert folder == ResultsFolder(config, judged).path
    models = {f"model_{stage}.safetensors" for stage in MODELS}
    assert {file.name for file in folder.iterdir()} == {"run.json", "curves.csv", "curves.png", *models}
    content = json.loads((folder / "run.json").read_text())
    for stage, value in {"majority": 0.4, "before": 0.6, "best": 0.7, "last": 0.5}.items():
        metrics = content.pop(stage)
        assert metrics["accuracy"] == value
        assert metrics["preference_accuracy"] is None  # not defined
    assert {"python", "torch", "numpy", "code"} <= set(content.pop("versions"))
    assert content == {
        "identity": folder.name[-8:],
        "path": str(config.path),
        "comparisons_path": "judged.csv",
        "texts_path": None,
        "config": {**{name: getattr(config, name) for name in RECORDED}, "hidden": [64, 32]},
        **asdict(judged),
        "noise": {"ratio": 0.3, "changed": 8, "total": 40},
        "comparisons": {"count": 80, "k": 2, "reviews_used": 240, "ties": 3},
        "audit": {**AUDIT, "precision": None},
        "best_epochs": {"training": 2, "fine_tuning": 1},
        "kl_weight_used": 0.75,
    }
    monkeypatch.setattr(records, "write_tensors", mock.Mock(side_effect=OSError))
    with pytest.raises(OSError):
        save(result_of(config), provenance=judged)
    assert not (folder / "run.json").exists()  # it goes first and comes last


def test_comparisons_and_annotators_are_saved_beside_the_run_and_do_not_stay_when_it_is_repeated_without(config):
    """Two judgements by one of two annotators."""
    lists, flipped = np.array([[0, 1], [2, 1]]), np.array([[0.0], [1.0]])
    feedback = Feedback(lists, np.full((2, 2), -1), 0, 2, flipped, np.arange(2), np.array([1, 1]))
    annotators = Annotators(np.array([0, 2]), *np.array([[0.5, 0.75], [0.25, 0.5], [0.75, 1.0]]))
    folder = save(result_of(config), feedback, Audit(np.array([0.25, 0.5]), 0.375, 0.25, 0.5, True, annotators))
    assert (folder / "annotators.csv").read_text().splitlines()[1:] == ["bo,2,0.75,0.5,1.0,0.5"]
    embeddings = torch.from_numpy(np.random.default_rng(9).normal(size=(3, 4))).float()
    table = pd.read_csv(folder / "feedback.csv")
    for stage, column in {"before": "margin_before", "last": "margin_after"}.items():
        rewards = predict(MODELS[stage], embeddings).numpy() @ [0, 1, 2]
        assert table[column].tolist() == pytest.approx([rewards[0] - rewards[1], rewards[2] - rewards[1]])
    save(result_of(config))
    assert not {"feedback.csv", "annotators.csv"} & {file.name for file in folder.iterdir()}


# --- --name


KEPT = {  # in the folder of this name
    "run": lambda config: save(result_of(config)),
    "sweep": lambda config: tables.write(SweepFolder(config, MADE_FROM), [result_of(config)]),
    "interrupted sweep": lambda config: SweepFolder(config, MADE_FROM).save(result_of(config)),
}


@pytest.mark.parametrize("kept", KEPT)
def test_a_name_is_that_of_one_result_which_may_be_repeated_or_extended_and_its_refusal_says_what_differs(
    config, monkeypatch, kept
):
    named = replace(config, name="mine")
    (config.output / "mine").mkdir(parents=True)
    (config.output / "mine/notes.json").write_text("[]")  # somebody's own
    KEPT[kept](named)
    before = files_of(config.output / "mine")
    KEPT[kept](named)
    if kept != "run":
        SweepFolder(replace(named, seed=8, ratio=0.5), MADE_FROM)

    def refused(make, says="of other options, data or code"):
        with pytest.raises(InputError, match=f"^--name mine: .*mine holds a result {says}; choose another name$"):
            make()

    make = KEPT[kept]
    refused(lambda: make(replace(named, k=3)), r"with k 2 \(here 3\)")
    other = replace(named, lists=50, hidden=(8,))
    refused(lambda: make(other), r"with hidden \[64, 32\] \(here \[8\]\), lists None \(here 50\)")
    refused(lambda: SweepFolder(named, replace(MADE_FROM, device="NVIDIA H100")))
    for another in KEPT.values():
        if (another is KEPT["run"]) != (kept == "run"):
            refused(lambda another=another: another(named))
    monkeypatch.setattr(records, "CODE_VERSION", "another")
    refused(lambda: make(named), rf"with code '{CODE_VERSION}' \(here 'another'\)")
    assert files_of(config.output / "mine") == before


# --- runs that a sweep keeps


@pytest.mark.parametrize("epochs_f", [20, 0])
def test_a_kept_run_is_read_back_as_it_was_from_a_file_named_after_what_is_swept(config, epochs_f):
    config = replace(config, epochs_f=epochs_f)
    folder = SweepFolder(config, MADE_FROM)
    assert not folder.load()
    folder.save(result_of(config))
    assert repr(folder.load()) == repr({config: result_of(config)})  # in which NaN equals NaN
    name = "seed-7_labels-all_loss-study_kl-weight-0_noise-uniform_ratio-0.3.json"
    assert [file.name for file in (folder.path / "runs").iterdir()] == [name]


def test_what_is_damaged_made_otherwise_or_still_being_written_counts_as_missing(config, sweep_folder):
    sweep_folder.save(result_of(config))
    file = sweep_folder.file_of(config)
    whole = json.loads(file.read_text())
    other = {
        "axes": {"ratio": 3},
        "last": {"accuracy": 1, "f2": 1},
        "training": [{"objective": 1}],
        "identity": "0" * 8,
    }
    for damaged in ("", "[]", *(json.dumps({**whole, name: value}) for name, value in other.items())):
        file.write_text(damaged)
        assert sweep_folder.load() == {}, damaged
    file.write_text(json.dumps(whole))
    assert sweep_folder.load()
    file.rename(file.with_name(f".123-{file.name}"))
    assert sweep_folder.load() == {}


# --- tables


def test_a_row_of_runs_csv_holds_the_axes_counts_audit_epochs_and_every_metric_of_every_stage(config):
    stages = enumerate(("majority", "before", "best", "last"), start=1)
    (row,) = tables.runs_table([distinct(result_of(config))]).to_dict("records")
    assert math.isnan(row.pop("precision"))
    assert row == {
        **{axis: getattr(config, axis) for axis in SWEEP_AXES},
        **{"kl_weight_used": 0.75, "best_training_epoch": 2, "best_fine_tuning_epoch": 1},
        **{"ratings_changed": 8, "ratings": 40, "comparisons": 80, "reviews_used": 240, "ties": 3},
        **{"estimated_flip_rate": 0.125, "estimated_flip_rate_low": 0.1, "estimated_flip_rate_high": 0.2},
        **{"true_flip_rate": 0.25, "auroc": 0.75},
        **{f"{stage}_{name}": n + place / 4 for n, stage in stages for place, name in enumerate(METRICS)},
    }
    untuned = tables.runs_table([result_of(replace(config, epochs_f=0))])
    assert untuned[[f"last_{name}" for name in METRICS] + ["estimated_flip_rate", "auroc"]].isna().all(axis=None)


def test_the_curves_of_a_sweep_are_those_of_each_seed_and_run_with_training_once_per_seed(config):
    results = []
    for seed, ratio in ((1, 0.0), (1, 0.5), (2, 0.5)):
        training, tuning = EpochStats(*[seed] * 6), EpochStats(*[seed + ratio] * 6)
        run = replace(config, seed=seed, ratio=ratio)
        results.append(replace(result_of(run), training=[training], fine_tuning=[tuning]))
    table = records.curves_table(results)
    assert list(table) == [*SWEEP_AXES, *records.CURVE_COLUMNS]
    shown = table[["seed", "ratio", "phase", "epoch", "objective"]].astype(object).where(table.notna(), None)
    assert [tuple(row) for row in shown.to_numpy()] == [
        (1, None, "training", 1, 1),
        (1, 0.0, "fine-tuning", 1, 1.0),
        (1, 0.5, "fine-tuning", 1, 1.5),
        (2, None, "training", 1, 2),
        (2, 0.5, "fine-tuning", 1, 2.5),
    ]
