"""Learning on a GPU: with a pretended one everywhere, and with a real one where there is one.

The pretended GPU computes on the CPU. It keeps its tensors apart from the CPU's, as a real one does, and refuses
operators that only a CPU has.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from noisy_feedback import experiment, sweep
from noisy_feedback.config import LOSSES, NOISES, Config
from noisy_feedback.data import dataset as dataset_module
from noisy_feedback.data.dataset import Dataset, choose_device, make_dataset
from noisy_feedback.data.embeddings import Embeddings, EmbeddingsInfo, embed
from noisy_feedback.data.encoder import find_encoder
from noisy_feedback.data.reviews import Reviews
from noisy_feedback.experiment import fine_tune_model, train_model
from noisy_feedback.learning import examples, model, training
from noisy_feedback.learning.training import single_threaded
from tests.conftest import options, run_script

# --- a pretended GPU: the device "meta", which torch has everywhere and which allocates nothing

GPU, CPU = torch.device("meta"), torch.device("cpu")


class TensorOnGPU(torch.Tensor):
    """A tensor whose numbers only `PretendedGPU` can reach; `.numpy()` fails, as it does for any tensor of "meta"."""

    is_cuda = True

    def __new__(cls, numbers):
        shape = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset(), "dtype": numbers.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, numbers.shape, **shape, device=GPU)

    def __init__(self, numbers):
        self.numbers = numbers

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise RuntimeError(f"{operator} on a tensor of the pretended GPU, while that is off")


class PretendedGPU(TorchDispatchMode):
    """While it is on, every operator of torch comes through here; `downloads` counts what is copied to the CPU."""

    downloads = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        on_gpu = any(isinstance(tensor, TensorOnGPU) for tensor in tensors)
        target = kwargs.get("device") or (GPU if on_gpu else CPU)
        if operator in COPIES:
            self.downloads += on_gpu and (target == CPU or operator == COPIES[1])
        elif on_gpu:
            check_operator(operator, tensors)
        if "device" in {argument.name for argument in operator._schema.arguments}:
            kwargs["device"] = CPU
        args, kwargs = tree_map_only(TensorOnGPU, lambda tensor: tensor.numbers, (args, kwargs))
        found = operator(*args, **kwargs)
        return tree_map_only(torch.Tensor, TensorOnGPU, found) if target == GPU else found


COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten._local_scalar_dense.default)  # .to() and .item()
# An operator with none of these kernels has been written for single devices, and here always for the CPU.
KERNELS = ("Meta", "CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key


def check_operator(operator, tensors):
    """Refuse what a GPU refuses: operators of the CPU alone, and tensors of both, but for single numbers."""
    if operator.namespace != "aten" or not any(has_kernel(operator.name(), kernel) for kernel in KERNELS):
        raise NotImplementedError(f"{operator} is an operator of the CPU alone")
    if any(tensor.ndim for tensor in tensors if not isinstance(tensor, TensorOnGPU)):
        raise RuntimeError(f"{operator}: expected all tensors to be on the same device")


# --- what is learned on it

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


def learn(config, device):
    """A training and a fine-tuning; every number that they give."""
    dataset = small_dataset(device)
    with single_threaded():
        trained = train_model(config, dataset)
        result, models, _ = fine_tune_model(config, dataset, trained)
    return result, models, trained


def numbers_of(result):
    """Every score and every epoch of a result, for comparison."""
    epochs = [list(vars(epoch).values()) for epoch in (*result.training, *result.fine_tuning)]
    stages = [list(vars(metrics).values())[:-1] for metrics in (result.before, result.best, result.last)]
    return np.array(tree_leaves((epochs, stages)))


@pytest.fixture
def gpu():
    with PretendedGPU() as pretended:
        yield pretended


def test_a_dataset_puts_the_embeddings_on_the_device(gpu):
    assert isinstance(small_dataset("meta").embeddings, TensorOnGPU)


FLIP_RATE = {"label-smoothing": 0.2, "robust": 0.2}
CASES = {
    **{loss: {"loss": loss, "flip_rate": FLIP_RATE.get(loss)} for loss in LOSSES},
    **{f"{loss} and a KL penalty": {"loss": loss, "kl_weight": 0.5} for loss in ("study", "dr-dpo")},
    **{f"{noise} noise": {"noise": noise} for noise in NOISES},
    **{
        f"scalar head, {loss}": {"head": "scalar", "loss": loss}
        for loss in ("bradley-terry", "plackett-luce", "dr-dpo")
    },
    "shuffled rows": {"shuffle": True},
    "pairs of binary": {"protocol": "binary", "k": 1},
}


@pytest.mark.parametrize("name", CASES)
def test_learning_on_the_pretended_gpu_gives_the_numbers_of_the_cpu(name):
    settings = replace(config(), **CASES[name])
    on_cpu, _, _ = learn(settings, "cpu")
    with PretendedGPU():
        on_gpu, models, _ = learn(settings, "meta")
        assert all(isinstance(trained.parameters, TensorOnGPU) for trained in models.values())
    np.testing.assert_allclose(numbers_of(on_gpu), numbers_of(on_cpu), rtol=1e-6)
    assert on_gpu.comparisons == on_cpu.comparisons
    assert on_gpu.noise == on_cpu.noise


def test_an_epoch_fetches_its_numbers_once(gpu):
    def downloads(epochs):
        before = gpu.downloads
        learn(config(epochs_t=epochs, epochs_f=epochs, kl_weight=0.5), "meta")
        return gpu.downloads - before

    assert downloads(epochs=5) - downloads(epochs=2) == 2 * 3


def test_a_sweep_on_a_gpu_needs_no_worker_processes(gpu):
    runs = [config(seed=seed, ratio=ratio) for seed in (1, 2) for ratio in (0.0, 0.5)]
    results = list(sweep.compute_here(runs, small_dataset("meta")))
    assert [result.config for result in results] == runs


def test_a_model_learned_on_a_gpu_is_saved_from_the_cpu(gpu):
    _, models, _ = learn(config(), "meta")
    saved = model.state_dict(models["last"])
    assert all(type(tensor) is torch.Tensor and tensor.device.type == "cpu" for tensor in saved.values())


# --- the pretended GPU notices what a real one would refuse


def test_numbers_that_are_not_fetched_are_noticed_wherever_it_is(gpu, monkeypatch):
    fetch, places = torch.Tensor.cpu, []

    def place_of_caller():
        caller = sys._getframe(2)
        return Path(caller.f_code.co_filename).name, caller.f_lineno

    def note(tensor):
        places.append(place_of_caller())
        return fetch(tensor)

    monkeypatch.setattr(TensorOnGPU, "cpu", note, raising=False)
    learn(config(), "meta")
    assert len(set(places)) >= 3  # an epoch's numbers, the probabilities before fine-tuning, test predictions
    for place in set(places):

        def forget(tensor, place=place):
            return tensor if place_of_caller() == place else fetch(tensor)

        monkeypatch.setattr(TensorOnGPU, "cpu", forget)
        with pytest.raises(RuntimeError, match="numpy"):
            learn(config(), "meta")


def test_a_reference_that_is_not_moved_is_noticed(gpu, monkeypatch):
    class Stays:
        def __init__(self, tensor):
            self.tensor = tensor

        def to(self, device):
            return self.tensor

    log_probabilities = examples.log_probabilities
    monkeypatch.setattr(examples, "log_probabilities", lambda given: Stays(log_probabilities(given)))
    with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        learn(config(kl_weight=0.5), "meta")


def test_embeddings_that_are_not_moved_are_noticed(gpu, monkeypatch):
    monkeypatch.setattr(dataset_module, "Dataset", stays_on_the_cpu)
    assert not isinstance(small_dataset("meta").embeddings, TensorOnGPU)


def stays_on_the_cpu(embeddings, *others):
    return Dataset(embeddings.cpu(), *others)


CPU_ONLY = {
    "oneDNN's linear layer": lambda x: torch.ops.mkldnn._linear_pointwise(x, x[:1], None, "none", [], ""),
    "histogram": lambda x: torch.histogram(x.detach(), 3),
    "a tensor on the CPU": lambda x: x + torch.ones(x.shape),
}


@pytest.mark.parametrize("name", CPU_ONLY)
def test_an_operator_of_the_cpu_in_an_epoch_is_noticed(gpu, monkeypatch, name):
    forward = model.forward

    def with_another_operator(network, x):
        CPU_ONLY[name](x)
        return forward(network, x)

    monkeypatch.setattr(training, "forward", with_another_operator)
    with pytest.raises((RuntimeError, NotImplementedError)):
        learn(config(), "meta")


# --- errors of a GPU are one line


@pytest.fixture
def refused(separable_reviews, tmp_path, capsys):
    """Runs a small run or sweep with --use-cuda that has to fail; returns the last line on stderr."""

    def run(script="multiclass/main.py"):
        run_script(script, options(separable_reviews, tmp_path / "results", "--use-cuda"), status=2)
        return capsys.readouterr().err.splitlines()[-1]

    return run


def failing(error):
    def fails(*_, **__):
        raise error

    return fails


OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has a total capacity of"
)


@pytest.mark.parametrize("script", ["multiclass/main.py", "multiclass/config.py"])
def test_a_full_gpu_is_one_line_with_the_ways_out(refused, monkeypatch, script):
    monkeypatch.setattr(experiment, "fit", failing(OUT_OF_MEMORY))
    monkeypatch.setattr(sweep, "available_cores", lambda: 1)  # in this process, as on a GPU
    line = refused(script)
    assert line.startswith(f"{script.partition('/')[2]}: error: out of GPU memory: ")
    assert "--batch-f" in line
    assert "leave out --use-cuda" in line


def test_a_gpu_that_is_full_already_is_one_line(refused, monkeypatch):
    monkeypatch.setattr("noisy_feedback.prepare.make_dataset", failing(OUT_OF_MEMORY))
    assert "error: out of GPU memory: " in refused()


def test_a_gpu_that_fails_while_it_computes_is_one_line(refused, monkeypatch):
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with")
    monkeypatch.setattr(experiment, "fit", failing(error))
    expected = "main.py: error: the GPU failed (CUDA error: an illegal memory access was encountered)"
    assert refused().startswith(expected)


def test_another_error_while_computing_is_not_taken_for_one_of_the_gpu(refused, monkeypatch):
    monkeypatch.setattr(experiment, "fit", failing(RuntimeError("a mistake in the program")))
    with pytest.raises(RuntimeError, match="a mistake in the program"):
        refused()


@pytest.fixture
def found_gpu(monkeypatch):
    """torch says that there is a GPU, and fails on it with this error."""

    def finds(error, name):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", name)
        monkeypatch.setattr(torch, "zeros", failing(error))

    return finds


def test_a_card_that_torch_does_not_support_is_named_before_the_work(refused, found_gpu, tmp_path):
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")
    found_gpu(error, lambda: "Old Card")
    line = refused()
    assert "error: --use-cuda: Old Card cannot compute with torch " in line
    assert "(CUDA error: no kernel image is available for execution on the device)" in line
    assert "leave out --use-cuda" in line
    assert not (tmp_path / "results").exists()


def test_a_missing_driver_is_one_line(refused, found_gpu):
    error = RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU\nand more")
    found_gpu(error, failing(error))
    line = refused()
    assert "Found no NVIDIA driver on your system" in line
    assert "leave out --use-cuda" in line


def test_without_a_gpu_the_cpu_computes_and_the_screen_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(config(use_cuda=True)) == "cpu"
    assert capsys.readouterr().out == "no GPU found: running on the CPU\n"


# --- a real GPU

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")


@needs_gpu
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_learns_the_same_within_rounding(name):
    """One epoch each: sums have another order on a GPU, and more epochs enlarge the difference."""
    settings = replace(config(epochs_t=1, epochs_f=1), **CASES[name])
    if settings.noise == "least-confident":
        pytest.skip("reviews of nearly the same confidence can change places")
    (here, models_here, _), (there, models_there, _) = learn(settings, "cpu"), learn(settings, "cuda")
    assert models_there["last"].parameters.is_cuda
    difference = models_there["last"].parameters.cpu() - models_here["last"].parameters
    assert difference.abs().max() < 1e-3  # parameters are within 1/sqrt(8); float32 without TF32, torch's default
    for epoch_there, epoch_here in zip(there.fine_tuning, here.fine_tuning, strict=True):
        assert epoch_there.objective == pytest.approx(epoch_here.objective, rel=1e-3)


@needs_gpu
@pytest.mark.parametrize("script", ["multiclass/main.py", "binary/main.py"])
def test_a_run_ends_with_nearly_the_same_scores(overlapping_reviews, tmp_path, script):
    for device, more in {"cpu": [], "cuda": ["--use-cuda"]}.items():
        run_script(script, options(overlapping_reviews, tmp_path / device, "--ratio", 0.2, *more))
    here, there = (json.loads(next((tmp_path / device).glob("*/run.json")).read_text()) for device in ("cpu", "cuda"))
    assert there["device"] == torch.cuda.get_device_name()
    assert there["noise"] == here["noise"]
    assert there["comparisons"] == here["comparisons"]
    for stage in ("before", "last"):
        assert there[stage]["mean_absolute_error"] == pytest.approx(here[stage]["mean_absolute_error"], abs=0.05)


@needs_gpu
def test_a_sweep_on_a_gpu_is_kept_and_found_again(overlapping_reviews, tmp_path):
    more = ["--k", 2, "--seeds", 1, 2, 3, "--ratio", 0, 0.5, "--use-cuda"]
    given = options(overlapping_reviews, tmp_path, *more)
    run_script("multiclass/config.py", given)
    assert "6 runs, of which 6 are kept already" in run_script("multiclass/config.py", given)


@needs_gpu
def test_embeddings_of_a_gpu_are_nearly_the_same(tiny_encoder, tmp_path):
    texts = ["a lovely stay", "never again", *(f"review {letter}" for letter in "abcdefgh")]
    found = {}
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        found[device] = embed(texts, find_encoder(str(tiny_encoder), "mean"), tmp_path / device, "hotels", device)
    assert torch.allclose(found["cuda"].vectors, found["cpu"].vectors, atol=1e-4)


@needs_gpu
def test_more_than_the_gpu_holds_is_one_line(refused, monkeypatch):
    def too_much(*_, **__):
        torch.empty(2**50, device="cuda")

    monkeypatch.setattr(experiment, "fit", too_much)
    assert "error: out of GPU memory: " in refused()
