"""The scripts as a user starts them: what is on the screen, what is on the disk."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from noisy_feedback import RatingModel
from noisy_feedback.cli import DEFAULT_ENCODER
from noisy_feedback.embeddings import find_embeddings
from noisy_feedback.encoder import find_encoder
from noisy_feedback.errors import InputError
from noisy_feedback.reviews import SAMPLE_FILE, read_reviews, split
from tests.conftest import ROOT, finished, start

EPOCHS_T, EPOCHS_F = 15, 6
COMMON = ("--pc", "--epochs-t", EPOCHS_T, "--epochs-f", EPOCHS_F)
K3 = ("multiclass/main.py", *COMMON, "--ratio", "0.2", "--k", "3")
STUDIES = ["multiclass, k=3", "multiclass, k=1", "binary"]
KEPT = ["run.json", "curves.csv", "model.safetensors"]


@dataclass
class Run:
    screen: str
    error: str
    folder: Path

    @property
    def json(self):
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))


def result_of(process, output):
    screen, error = finished(process)
    (folder,) = output.iterdir()
    return Run(screen, error, folder)


@pytest.fixture(scope="module")
def runs(planted, tmp_path_factory):
    """Runs on planted reviews, all started at once."""
    commands = {
        "multiclass, k=3": (K3, {}),
        "multiclass, k=1": (("multiclass/main.py", *COMMON), {}),
        "binary": (("binary/main.py", *COMMON, "--ratio", "0.31"), {}),
        "on one thread": (K3, {"OMP_NUM_THREADS": "1"}),
        "on two threads": (K3, {"OMP_NUM_THREADS": "2"}),
        "not fine-tuned": (
            ("multiclass/main.py", "--pc", "--epochs-t", EPOCHS_T, "--epochs-f", 0, "--ratio", "0.2"),
            {},
        ),
    }
    outputs = {name: tmp_path_factory.mktemp("results") for name in commands}
    processes = {
        name: start(*command, "--path", planted, "--output", outputs[name], **environment)
        for name, (command, environment) in commands.items()
    }
    return {name: result_of(process, outputs[name]) for name, process in processes.items()}


@pytest.fixture(scope="module")
def sample_folder(tmp_path_factory):
    """A data folder with the first 1,200 reviews of the sample: all of them take long to embed."""
    folder = tmp_path_factory.mktemp("sample")
    reviews = pd.read_csv(ROOT / "data" / SAMPLE_FILE, nrows=1200)
    reviews.to_csv(folder / SAMPLE_FILE, index=False)
    return folder


@pytest.fixture(scope="module")
def sample_run(sample_folder, tmp_path_factory):
    """A run with all defaults but the noise on the bundled sample: it has to embed."""
    output = tmp_path_factory.mktemp("results")
    return result_of(start("multiclass/main.py", "--path", sample_folder, "--ratio", "0.2", "--output", output), output)


@pytest.fixture(scope="module")
def sample_run_again(sample_run, sample_folder, tmp_path_factory):
    """The same, forbidden to embed, with every import told on stderr."""
    output = tmp_path_factory.mktemp("results")
    command = ("--path", sample_folder, "--ratio", "0.2", "--pc", "--output", output)
    return result_of(start("multiclass/main.py", *command, python=("-X", "importtime")), output)


# --- the screen


@pytest.mark.parametrize("name", STUDIES)
def test_the_screen_tells_the_run_in_its_order(runs, name):
    order = [
        "reviews", "parts", "embeddings", "noise", "comparing", "best epoch",
        "test part", "accuracy", "macro F1",
        "confusion matrix, before", "confusion matrix, best epoch", "results",
    ]  # fmt: skip
    assert re.findall(f"^(?:{'|'.join(order)})", runs[name].screen, re.MULTILINE) == order


def test_the_screen_gives_the_numbers_of_noise_and_comparisons(runs):
    screen, found = runs["multiclass, k=3"].screen, runs["multiclass, k=3"].json
    assert f"noise      {found['noise']['changed']} of 160 fine-tuning ratings changed (ratio 0.2)" in screen
    assert f"comparing  {found['comparisons']['count']} lists of 4 different ratings" in screen


def test_the_screen_gives_the_best_epochs(runs):
    best = runs["multiclass, k=3"].json["best_epochs"]
    expected = (
        f"best epoch {best['training']} of {EPOCHS_T} in training, {best['fine_tuning']} of {EPOCHS_F} in fine-tuning"
    )
    assert expected in runs["multiclass, k=3"].screen


def test_the_screen_names_the_folder_of_the_results(runs):
    run = runs["binary"]
    assert run.screen.splitlines()[-1] == f"results    {run.folder}"


def test_a_folder_without_the_real_reviews_is_said_to_have_the_sample(sample_run):
    assert "running on the bundled sample of made-up reviews" in sample_run.screen.splitlines()[0]


def test_nothing_but_progress_is_on_stderr(runs):
    assert set(re.findall(r"^[\w-]+", runs["binary"].error, re.MULTILINE)) == {"training", "fine-tuning"}


# --- run.json


@pytest.mark.parametrize("name", STUDIES)
def test_run_json_holds_what_the_run_was_and_what_it_found(runs, name):
    found = runs[name].json
    stages = {"before", "best", "last"}
    assert {"arguments", "data", "encoder", "noise", "comparisons", "best_epochs", "versions", *stages} <= set(found)
    assert {"name", "rows", "classes", "sha256"} <= set(found["data"])
    assert {"requested", "changed", "of"} <= set(found["noise"])
    assert {"count", "k", "reviews_used"} <= set(found["comparisons"])
    assert {"accuracy", "macro_f1", "confusion_matrix"} <= set(found["before"])


@pytest.mark.parametrize("name", STUDIES)
def test_exactly_the_share_asked_for_is_made_noisy(runs, name):
    noise = runs[name].json["noise"]
    assert noise["changed"] == round(noise["requested"] * noise["of"])


def test_without_noise_no_rating_changes(runs):
    assert runs["multiclass, k=1"].json["noise"] == {"requested": 0.0, "changed": 0, "of": 160}


@pytest.mark.parametrize(("name", "reviews"), [("multiclass, k=3", 4), ("multiclass, k=1", 2), ("binary", 2)])
def test_a_comparison_takes_k_and_one_reviews(runs, name, reviews):
    made = runs[name].json["comparisons"]
    assert made["count"] > 0
    assert made["reviews_used"] == made["count"] * reviews == made["count"] * (made["k"] + 1)


@pytest.mark.parametrize("stage", ["before", "best", "last"])
def test_every_stage_is_tested_on_the_whole_test_part(runs, stage):
    metrics = runs["binary"].json[stage]
    assert np.sum(metrics["confusion_matrix"]) == 40
    assert metrics["accuracy"] == np.trace(metrics["confusion_matrix"]) / 40


def test_without_fine_tuning_only_the_trained_model_is_tested(runs):
    found = runs["not fine-tuned"].json
    assert found["before"]["accuracy"] > 0
    assert (found["best"], found["last"]) == (None, None)


def test_training_learns_what_was_planted(runs):
    assert runs["multiclass, k=1"].json["before"]["accuracy"] > 0.8


def test_training_learns_the_sample_but_not_perfectly(sample_run):
    assert 0.5 <= sample_run.json["before"]["accuracy"] <= 0.75


# --- the same again


@pytest.mark.parametrize("again", ["on one thread", "on two threads"])
@pytest.mark.parametrize("name", KEPT)
def test_the_same_command_gives_the_same_bytes_on_any_number_of_threads(runs, name, again):
    first, second = runs["multiclass, k=3"], runs[again]
    assert first.folder.name == second.folder.name
    assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


@pytest.mark.parametrize("name", KEPT)
def test_stored_embeddings_give_the_same_bytes_as_fresh_ones(sample_run, sample_run_again, name):
    assert (sample_run_again.folder / name).read_bytes() == (sample_run.folder / name).read_bytes()


def test_with_stored_embeddings_the_encoders_library_is_not_loaded(sample_run_again):
    imported = modules_in(sample_run_again.error)
    assert "torch" in imported
    assert "sentence_transformers" not in imported


# --- the other files


@pytest.mark.parametrize("name", STUDIES)
def test_curves_have_one_row_per_epoch(runs, name):
    with (runs[name].folder / "curves.csv").open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    assert ",".join(header) == "phase,epoch,loss,training_accuracy,validation_accuracy,validation_macro_f1"
    assert [(row[0], int(row[1])) for row in rows] == [
        *(("training", epoch) for epoch in range(1, EPOCHS_T + 1)),
        *(("fine-tuning", epoch) for epoch in range(1, EPOCHS_F + 1)),
    ]


def test_the_best_epochs_are_the_first_with_the_highest_validation_accuracy(runs):
    run = runs["multiclass, k=3"]
    with (run.folder / "curves.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    for phase, best in run.json["best_epochs"].items():
        curve = [float(row["validation_accuracy"]) for row in rows if row["phase"] == phase.replace("_", "-")]
        assert best == 1 + int(np.argmax(curve))


@pytest.mark.parametrize("name", [*STUDIES, "not fine-tuned"])
def test_the_curves_are_drawn(runs, name):
    picture = matplotlib.image.imread(runs[name].folder / "curves.png")
    assert picture[..., :3].std() > 0.01


def test_whoever_may_read_one_file_of_a_run_may_read_all(runs):
    modes = {file.name: file.stat().st_mode for file in runs["binary"].folder.iterdir()}
    assert set(modes) == {"run.json", "curves.csv", "curves.png", "model.safetensors"}
    assert len(set(modes.values())) == 1, modes


# --- the model


@pytest.fixture(scope="module")
def sample_vectors(sample_run, sample_folder):
    texts = read_reviews(sample_folder / SAMPLE_FILE).texts
    return find_embeddings(texts, find_encoder(DEFAULT_ENCODER, "model"), sample_folder).vectors


@pytest.fixture(scope="module")
def sample_model(sample_run):
    return RatingModel.load(sample_run.folder / "model.safetensors")


def as_plain_torch(folder):
    """The saved model without anything of this project."""
    tensors = load_file(folder / "model.safetensors")
    sizes = [tensors[f"{layer}.weight"].shape for layer in (0, 2, 4)]
    first, second, third = (torch.nn.Linear(n_in, n_out) for n_out, n_in in sizes)
    module = torch.nn.Sequential(first, torch.nn.ReLU(), second, torch.nn.ReLU(), third)
    module.load_state_dict(tensors)
    return module


def test_the_saved_model_is_a_plain_torch_sequential_with_the_same_logits(sample_run, sample_model, sample_vectors):
    with torch.no_grad():
        probabilities = as_plain_torch(sample_run.folder)(sample_vectors).double().softmax(-1)
    rated = sample_model.rate_embeddings(sample_vectors)
    assert np.allclose(probabilities.numpy() @ [1, 2, 3, 4, 5], rated, atol=1e-5)


def test_the_saved_model_is_that_of_the_best_epoch(sample_run, sample_folder, sample_vectors):
    reviews = read_reviews(sample_folder / SAMPLE_FILE)
    rows = split(len(reviews.texts)).test
    with torch.no_grad():
        predicted = as_plain_torch(sample_run.folder)(sample_vectors[rows]).argmax(-1).numpy()
    assert (predicted == reviews.ratings[rows]).mean() == sample_run.json["best"]["accuracy"]


def test_the_saved_model_rates_as_the_run_did(sample_run, sample_folder, sample_model, sample_vectors):
    reviews = read_reviews(sample_folder / SAMPLE_FILE)
    rows = split(len(reviews.texts)).test
    rated = sample_model.rate_embeddings(sample_vectors[rows])
    error = np.abs(rated - reviews.labels[reviews.ratings[rows]]).mean()
    assert error == pytest.approx(sample_run.json["best"]["mean_absolute_error"])


def test_texts_are_rated_in_stars_as_their_embeddings_are(sample_folder, sample_model, sample_vectors):
    texts = read_reviews(sample_folder / SAMPLE_FILE).texts
    rated = sample_model.rate(texts[:20])
    assert ((rated >= 1) & (rated <= 5)).all()
    assert np.allclose(rated, sample_model.rate_embeddings(sample_vectors[:20]), atol=1e-3)


def test_a_model_of_unnamed_embeddings_says_how_to_rate(runs):
    model = RatingModel.load(runs["binary"].folder / "model.safetensors")
    with pytest.raises(InputError, match="embed the texts yourself and call rate_embeddings"):
        model.rate(["A lovely stay."])


def test_what_is_no_list_of_texts_is_refused(sample_model):
    with pytest.raises(InputError, match="put a single one in brackets"):
        sample_model.rate("A lovely stay.")
    with pytest.raises(InputError, match="rate takes texts alone"):
        sample_model.rate(["A lovely stay.", None])
    assert sample_model.rate([]).shape == (0,)


def test_another_revision_of_the_encoder_is_refused(sample_model):
    other = {**sample_model.encoder, "revision": "0123"}
    with pytest.raises(InputError, match=r"trained on .* at revision 0123, but this machine has"):
        RatingModel(sample_model.regressor, sample_model.labels, other).rate(["A lovely stay."])


def test_what_is_no_model_is_refused_with_the_way_out(sample_run):
    for name in ("run.json", "no-such-file", "."):
        with pytest.raises(InputError, match=r"no model of this project; give a run's model\.safetensors"):
            RatingModel.load(sample_run.folder / name)


# --- --help


def modules_in(importtime):
    """The modules that `python -X importtime` has told of."""
    return {line.rpartition("|")[2].strip() for line in importtime.splitlines() if line.startswith("import time:")}


@pytest.fixture(scope="module", params=["multiclass", "binary"])
def helped(request):
    command = [sys.executable, "-X", "importtime", "main.py", "--help"]
    return subprocess.run(command, cwd=ROOT / request.param, capture_output=True, text=True, check=True)


def test_help_answers_without_loading_anything_heavy(helped):
    imported = modules_in(helped.stderr)
    assert "noisy_feedback.cli" in imported
    assert not imported & {"torch", "numpy", "pandas", "matplotlib", "sentence_transformers"}


def test_help_shows_the_defaults_that_say_something(helped):
    text = " ".join(helped.stdout.split())
    assert "share of fine-tuning ratings made noisy, 0 to 1 (default: 0.0)" in text
    assert "(default: None)" not in text
    assert "(default: ())" not in text


def test_help_lists_the_studys_arguments_first(helped):
    listed = list(dict.fromkeys(re.findall(r"^  (--[\w-]+)", helped.stdout, re.MULTILINE)))
    study = ["--use-cuda", "--path", "--model_name", "--pc", "--ratio", "--k", "--epochs-t", "--epochs-f"]
    if "--k" not in listed:  # binary
        study.remove("--k")
    assert listed[: len(study)] == study
    assert "--seed" in listed[len(study) :]
