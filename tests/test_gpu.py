"""The same on a GPU, within tolerances: sums have another order there. Skipped where there is none."""

import json

import numpy as np
import pytest
import torch

from noisy_feedback import losses
from noisy_feedback.embeddings import embed
from noisy_feedback.encoder import find_encoder
from noisy_feedback.regressor import Regressor, new_regressor
from noisy_feedback.training import Examples, Learner, fine_tune, one_thread, train
from tests.conftest import arguments, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")

CLASSES, DIMENSIONS, RUNS = 5, 384, 4
AFTER_ONE_EPOCH = 1e-3  # of parameters within 1/sqrt(384); float32 without TF32, which torch leaves off


@pytest.fixture(autouse=True)
def on_one_thread():
    with one_thread():
        yield


def fitted(device, phase):
    """One epoch of a stack of runs on a device, back on the CPU."""
    generator = np.random.default_rng(0)
    ratings = generator.integers(CLASSES, size=900)
    vectors = torch.from_numpy(generator.normal(size=(900, DIMENSIONS)) / 20).float().to(device)
    start = new_regressor(DIMENSIONS, CLASSES, [np.random.default_rng(run) for run in range(RUNS)])
    start = Regressor(start.parameters.to(device), start.widths)
    validation = Examples(np.arange(800, 900)[:, None], ratings[800:, None])
    learners = []
    for run_number in range(RUNS):
        rows = generator.permutation(800)[: 400 + 4 * run_number]
        rows = rows[:, None] if phase == "training" else rows.reshape(-1, 4)
        reference = np.log(generator.dirichlet(np.ones(CLASSES), size=rows.shape)).astype(np.float32)
        objective = losses.anchored((losses.study, losses.sigmoid, losses.dr_dpo, losses.hinge)[run_number], 0.5)
        learners.append(
            Learner(Examples(rows, ratings[rows], reference), validation, np.random.default_rng(run_number), objective)
        )
    if phase == "training":
        return train(start, vectors, learners, 1, CLASSES)
    return fine_tune(start, vectors, learners, 1, CLASSES, learning_rate=1e-3, batch=64)


@pytest.mark.parametrize("phase", ["training", "fine-tuning"])
def test_a_stack_learns_the_same_on_both(phase):
    here, there = fitted("cpu", phase), fitted("cuda", phase)
    assert there.last.parameters.is_cuda
    assert torch.allclose(there.last.parameters.cpu(), here.last.parameters, atol=AFTER_ONE_EPOCH)
    for one, other in zip(here.epochs, there.epochs, strict=True):
        assert other[0].loss == pytest.approx(one[0].loss, rel=1e-3)


@pytest.mark.parametrize("script", ["multiclass/main.py", "binary/main.py"])
def test_a_run_ends_with_nearly_the_same_scores(planted_data, tmp_path, script):
    for device in ("cpu", "cuda"):
        more = ["--use-cuda"] if device == "cuda" else []
        run(script, arguments(planted_data, tmp_path / device, "--ratio", 0.2, *more))
    here, there = (json.loads(next((tmp_path / device).glob("*/run.json")).read_text()) for device in ("cpu", "cuda"))
    assert there["device"] == "cuda"
    assert there["noise"] == here["noise"]
    assert there["comparisons"] == here["comparisons"]
    for stage in ("before", "last"):
        assert there[stage]["mean_absolute_error"] == pytest.approx(here[stage]["mean_absolute_error"], abs=0.05)


def test_a_sweep_runs_as_one_stack_and_its_second_start_finds_it(planted_data, tmp_path):
    given = arguments(planted_data, tmp_path, "--k", 2, "--seeds", 1, 2, 3, "--ratio", 0, 0.5, "--use-cuda")
    run("multiclass/config.py", given)
    assert "6 runs, of which 6 are kept already" in run("multiclass/config.py", given)


def test_embeddings_are_nearly_the_same(tiny_encoder, tmp_path):
    texts = ["a lovely stay", "never again", *(f"review {letter}" for letter in "abcdefgh")]
    found = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        found[device] = embed(texts, find_encoder(str(tiny_encoder), "mean"), tmp_path / device, "hotels", [device])
    assert torch.allclose(found["cuda"].vectors, found["cpu"].vectors, atol=1e-4)
