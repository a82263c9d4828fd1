"""`main.py` as a user starts it: what is on the screen, what is on the disk."""

import json
import re

import matplotlib.image
import pytest

from tests.conftest import only_folder, output_of, run_script, start_script

EPOCHS_T, EPOCHS_F = 15, 6
COMMON = ("--pc", "--epochs-t", EPOCHS_T)
STAGES = ["before", "best", "last"]
ORDER = [
    "reviews", "parts", "embeddings", "noise", "feedback", "audit", "best epoch",
    "test part", "accuracy", "macro F1", "pairwise accuracy",
    "confusion matrix, before", "confusion matrix, best epoch", "confusion matrix, last epoch", "results",
]  # fmt: skip


def record_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("protocol", "more"), [("multiclass", ["--k", 3, "--kl-weight", "adaptive"]), ("binary", [])])
def test_the_screen_shows_the_run_in_its_order_with_the_numbers_of_its_folder(
    separable_reviews, tmp_path, protocol, more
):
    command = [*COMMON, "--epochs-f", EPOCHS_F, "--ratio", 0.31, *more]
    screen = run_script(f"{protocol}/main.py", [*command, "--path", separable_reviews, "--output", tmp_path])
    folder = only_folder(tmp_path)
    found = record_of(folder)
    assert re.findall(f"^(?:{'|'.join(ORDER)})", screen, re.MULTILINE) == ORDER
    assert ("\nKL weight  " in screen) == ("adaptive" in more)
    changed, best = found["noise"]["changed"], found["best_epochs"]
    assert f"noise      {changed} of 160 fine-tuning ratings changed (ratio 0.31, uniform)" in screen
    assert f"\nfeedback   {found['comparisons']['count']} {'lists' if more else 'pairs'} " in screen
    assert f"best epoch {best['training']} of {EPOCHS_T} in training, {best['fine_tuning']} of {EPOCHS_F} in" in screen
    assert screen.splitlines()[-1] == f"results    {folder}"
    modes = {file.name: file.stat().st_mode for file in folder.iterdir()}
    models = {f"model_{stage}.safetensors" for stage in STAGES}
    assert set(modes) == {"run.json", "curves.csv", "feedback.csv", "curves.png", *models}
    assert len(set(modes.values())) == 1, modes  # whoever may read one file may read all
    assert matplotlib.image.imread(folder / "curves.png")[..., :3].std() > 0.01  # not blank


def test_a_name_that_another_result_has_is_refused_before_training(separable_reviews, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{}")  # damaged: nothing shows that it is the same
    command = [*COMMON, "--path", separable_reviews, "--output", tmp_path, "--name", "mine"]
    run_script("multiclass/main.py", command, status=2)
    error = capsys.readouterr().err
    assert "error: --name mine: " in error
    assert "training" not in error


def test_what_training_does_not_need_is_not_imported_before_it_and_only_progress_is_on_stderr(
    separable_reviews, tmp_path
):
    command = [*COMMON, "--epochs-f", EPOCHS_F, "--path", separable_reviews, "--output", tmp_path]
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
