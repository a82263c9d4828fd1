"""`main.py` as a user starts it: what is on the screen, what is on the disk."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import pytest

from tests.conftest import only_folder, output_of, run_script, start_script

EPOCHS_T, EPOCHS_F = 15, 6
COMMON = ("--pc", "--epochs-t", EPOCHS_T, "--epochs-f", EPOCHS_F)
COMMANDS = {
    "multiclass, k=3": ("multiclass/main.py", *COMMON, "--ratio", 0.2, "--k", 3),
    "binary": ("binary/main.py", *COMMON, "--ratio", 0.31),
    "not fine-tuned": ("multiclass/main.py", "--pc", "--epochs-t", EPOCHS_T, "--epochs-f", 0, "--ratio", 0.2),
}
FINE_TUNED = ["multiclass, k=3", "binary"]
STAGES = ["before", "best", "last"]


@dataclass
class Run:
    screen: str
    folder: Path

    @property
    def json(self):
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(separable_reviews, tmp_path_factory):
    """What every command prints and writes."""
    found = {}
    for name, (script, *arguments) in COMMANDS.items():
        output = tmp_path_factory.mktemp("results")
        screen = run_script(script, [*arguments, "--path", separable_reviews, "--output", output])
        found[name] = Run(screen, only_folder(output))
    return found


# --- the screen


ORDER = [
    "reviews", "parts", "embeddings", "noise", "feedback", "audit", "best epoch",
    "test part", "accuracy", "macro F1", "pairwise accuracy",
    "confusion matrix, before", "confusion matrix, best epoch", "confusion matrix, last epoch", "results",
]  # fmt: skip


@pytest.mark.parametrize("name", FINE_TUNED)
def test_the_screen_shows_the_run_in_its_order_with_its_numbers(runs, name):
    screen, found = runs[name].screen, runs[name].json
    assert re.findall(f"^(?:{'|'.join(ORDER)})", screen, re.MULTILINE) == ORDER
    changed, ratio = found["noise"]["changed"], found["noise"]["ratio"]
    assert f"noise      {changed} of 160 fine-tuning ratings changed (ratio {ratio:g}, uniform)" in screen
    assert f"\nfeedback   {found['comparisons']['count']} {name.partition(',')[0]} comparisons (k=" in screen
    best = found["best_epochs"]
    assert f"best epoch {best['training']} of {EPOCHS_T} in training, {best['fine_tuning']} of {EPOCHS_F} in" in screen
    assert screen.splitlines()[-1] == f"results    {runs[name].folder}"


# --- run.json


def test_without_fine_tuning_only_the_trained_model_is_tested(runs):
    run = runs["not fine-tuned"]
    assert run.json["before"]["accuracy"] > 0.8
    assert (run.json["best"], run.json["last"]) == (None, None)
    assert run.json["comparisons"]["count"] == 0
    assert [file.name for file in run.folder.glob("*.safetensors")] == ["model_before.safetensors"]


# --- the other files


def test_whoever_may_read_one_file_of_a_run_may_read_all(runs):
    modes = {file.name: file.stat().st_mode for file in runs["binary"].folder.iterdir()}
    models = {f"model_{stage}.safetensors" for stage in STAGES}
    assert set(modes) == {"run.json", "curves.csv", "feedback.csv", "curves.png", *models}
    assert len(set(modes.values())) == 1, modes
    assert matplotlib.image.imread(runs["binary"].folder / "curves.png")[..., :3].std() > 0.01  # not blank


# --- folders


# --- what is imported, what is on stderr


def test_what_training_does_not_need_is_not_imported_before_it_and_only_progress_is_on_stderr(
    separable_reviews, tmp_path
):
    command = [*COMMON, "--path", separable_reviews, "--output", tmp_path]
    error = output_of(start_script("multiclass/main.py", *command, PYTHONPROFILEIMPORTTIME="1"))[1]
    lines = [line.strip() for line in re.split(r"[\r\n]+", error) if line.strip()]
    imports = [line for line in lines if line.startswith("import time:")]
    before = imports[: len(error[: error.index("training:")].split("import time:")) - 1]
    modules = {line.rpartition("|")[2].strip() for line in before}
    assert {"noisy_feedback.learning.training", "torch"} <= modules
    assert not {"scipy.stats", "matplotlib", "sentence_transformers", "transformers", "distributed"} & modules
    # A bar ends without a line break, so what comes next can begin with its text.
    others = {re.match(r"[\w-]+", line)[0] for line in lines if line not in imports}
    assert others == {"training", "fine-tuning"}
