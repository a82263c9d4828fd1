"""A GPU: what is put on it, its errors in one line, and, where there is one, the same numbers within rounding."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from noisy_feedback.config import LOSSES, NOISES, Config
from noisy_feedback.data.dataset import make_dataset
from noisy_feedback.data.embeddings import Embeddings, EmbeddingsInfo, embed
from noisy_feedback.data.encoder import find_encoder
from noisy_feedback.data.reviews import Reviews
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.feedback.comparisons import Feedback
from noisy_feedback.learning import examples
from tests.conftest import options, run_script

N, DIMENSIONS = 400, 8


def small_dataset(device):
    """400 reviews of five ratings with random embeddings, put together as for a run."""
    rng = np.random.default_rng(0)
    ratings = rng.integers(5, size=N)
    vectors = torch.from_numpy(ratings[:, None] + rng.normal(size=(N, DIMENSIONS))).float()
    info = EmbeddingsInfo("random", None, None, None, "0", None)
    reviews = Reviews("reviews.csv", None, "0", ["good"] * N, ratings, np.arange(1, 6))
    return make_dataset(reviews, Embeddings(vectors, info, 0, None), device)


def config(**options):
    return Config("multiclass", **{"k": 2, "ratio": 0.3, "epochs_t": 2, "epochs_f": 2, "batch_f": 32} | options)


def test_embeddings_and_what_a_kl_penalty_compares_with_are_put_on_the_device():
    """On "meta", a device that torch has everywhere; tests/unit/test_training.py runs an epoch on it."""
    assert small_dataset("meta").embeddings.device.type == "meta"
    lists = np.array([[0, 1, 2]])
    feedback = Feedback(lists, lists, 0, 3, np.zeros((1, 2)))
    for head, outputs in {"categorical": 5, "scalar": 1}.items():
        before, settings = np.full((N, outputs), 0.2), config(kl_weight=0.5, head=head, loss="hinge")
        compared = examples.compared_reviews(settings, feedback, before, torch.device("meta"))
        assert compared.reference.device.type == "meta"


# --- errors of a GPU are one line

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has a total of")
ILLEGAL_ACCESS = torch.AcceleratorError("CUDA error: an illegal memory access\nCompile with")
NO_KERNEL = RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")
NO_DRIVER = RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU\nand more")
FIT, TRY = "noisy_feedback.experiment.fit", "torch.zeros"  # what tries the GPU before the work
GPU_ERRORS = [
    ("main.py", FIT, OUT_OF_MEMORY),
    ("config.py", FIT, OUT_OF_MEMORY),
    ("main.py", "noisy_feedback.data.dataset.make_dataset", OUT_OF_MEMORY),
    ("main.py", FIT, ILLEGAL_ACCESS),
    ("main.py", TRY, NO_KERNEL),
    ("main.py", TRY, NO_DRIVER),
]


@pytest.mark.parametrize(("script", "place", "error"), GPU_ERRORS)
def test_a_gpu_that_is_full_or_fails_is_one_line_with_the_way_out(
    separable_reviews, tmp_path, monkeypatch, capsys, script, place, error
):
    monkeypatch.setattr(place, mock.Mock(side_effect=error))
    monkeypatch.setattr("torch.cuda.is_available", lambda: place == TRY)
    monkeypatch.setattr("noisy_feedback.processes.available_cores", lambda: 1)  # in this process, as on a GPU
    run_script(f"multiclass/{script}", options(separable_reviews, tmp_path / "results", "--use-cuda"), status=2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"{script}: error: out of memory, or the GPU failed ({str(error).splitlines()[0]})")
    assert "leave out --use-cuda" in line
    assert place != TRY or not list(tmp_path.iterdir()), "before the work"


# --- a real GPU

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
CASES = {
    **{loss: {"loss": loss, "flip_rate": 0.2 if loss in ("label-smoothing", "robust") else None} for loss in LOSSES},
    **{f"{loss} and a KL penalty": {"loss": loss, "kl_weight": 0.5} for loss in ("study", "dr-dpo")},
    # Reviews of nearly the same confidence can change places.
    **{f"{noise} noise": {"noise": noise} for noise in NOISES if noise != "least-confident"},
    "scalar head": {"head": "scalar", "loss": "bradley-terry"},
    "shuffled rows": {"shuffle": True},
    "pairs of binary": {"protocol": "binary", "k": 1},
}


def learn(config, device):
    """A training and a fine-tuning: the result and the model at the end."""
    dataset = small_dataset(device)
    tuned = fine_tune_model(config, dataset, train_model(config, dataset))
    return tuned.result, tuned.models["last"].parameters


@needs_gpu
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_learns_the_same_within_rounding(name):
    """One epoch each: sums have another order on a GPU, and more epochs enlarge the difference."""
    settings = replace(config(epochs_t=1, epochs_f=1), **CASES[name])
    (here, parameters_here), (there, parameters_there) = learn(settings, "cpu"), learn(settings, "cuda")
    assert parameters_there.is_cuda
    difference = parameters_there.cpu() - parameters_here
    assert difference.abs().max() < 1e-3  # parameters are within 1/sqrt(8); float32 without TF32, torch's default
    for epoch_there, epoch_here in zip(there.fine_tuning, here.fine_tuning, strict=True):
        assert epoch_there.objective == pytest.approx(epoch_here.objective, rel=1e-3)


@needs_gpu
def test_embeddings_of_a_gpu_are_nearly_the_same(tiny_encoder, tmp_path):
    texts = ["a lovely stay", "never again", *(f"review {letter}" for letter in "abcdefgh")]
    found = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        found[device] = embed(texts, find_encoder(str(tiny_encoder), "mean"), tmp_path / device, device)
    assert torch.allclose(found["cuda"].vectors, found["cpu"].vectors, atol=1e-4)
