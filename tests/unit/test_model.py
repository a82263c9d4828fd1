import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from noisy_feedback.learning.model import (
    RatingMLP,
    backward,
    forward,
    from_state_dict,
    init_model,
    is_scalar,
    predict,
    predict_class,
    state_dict,
)
from noisy_feedback.learning.training import single_threaded

WIDTHS = [(7, 64, 32, 5), (7, 64, 32, 1), (3, 8, 2), (4, 3)]  # also other depths: the last has no hidden layer


@pytest.fixture(autouse=True)
def on_one_thread():
    with single_threaded():
        yield


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def new(widths=(7, 64, 32, 5), seed=0):
    return init_model(widths, np.random.default_rng(seed))


def as_double(model):
    return RatingMLP(model.parameters.double(), model.widths)


def as_module(model):
    """The same network from torch.nn, with the same parameters."""
    linear = [torch.nn.Linear(n_in, n_out) for n_in, n_out in pairwise(model.widths)]
    layers = [layer for module in linear for layer in (module, torch.nn.ReLU())][:-1]
    module = torch.nn.Sequential(*layers).to(model.parameters.dtype)
    module.load_state_dict(state_dict(model))
    return module


def gradient_of(model, x, grad_logits):
    gradient = RatingMLP(torch.full_like(model.parameters, torch.nan), model.widths)
    backward(model, forward(model, x), grad_logits, gradient)
    return gradient


@pytest.mark.parametrize("widths", WIDTHS)
def test_it_is_a_plain_pytorch_mlp(widths):
    model, x = new(widths), random(11, widths[0])
    with torch.no_grad():
        assert torch.allclose(forward(model, x)[-1], as_module(model)(x), atol=1e-6)


def test_forward_gives_the_inputs_of_every_layer_and_leaves_its_own_unchanged():
    x = random(11, 7)
    given = x.clone()
    activations = forward(new(), given)
    assert [tuple(part.shape) for part in activations] == [(11, 7), (11, 64), (11, 32), (11, 5)]
    assert activations[0] is given
    assert torch.equal(given, x)


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_backward_pass_agrees_with_autograd(widths):
    model, x = as_double(new(widths)), random(11, widths[0]).double()
    grad_logits = random(11, widths[-1]).double()
    module = as_module(model)
    (module(x) * grad_logits).sum().backward()
    gradient = gradient_of(model, x, grad_logits)
    for known, found in zip(module.parameters(), [part for layer in gradient.layers for part in layer], strict=True):
        assert torch.allclose(found, known.grad, atol=1e-12)


def test_the_backward_pass_agrees_with_finite_differences():
    model, x = as_double(new((3, 64, 32, 5))), random(4, 3).double()
    grad_logits = random(4, 5).double()
    gradient, step = gradient_of(model, x, grad_logits).parameters, 1e-6
    for place in range(0, len(model.parameters), 97):
        up, down = model.copy(), model.copy()
        up.parameters[place] += step
        down.parameters[place] -= step
        values = [(forward(moved, x)[-1] * grad_logits).sum().item() for moved in (up, down)]
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[place].item(), abs=1e-6)


def test_the_backward_pass_leaves_the_gradient_of_the_logits_unchanged():
    model, x, grad_logits = new(), random(11, 7), random(11, 5)
    gradient_of(model, x, grad_logits)
    assert torch.equal(grad_logits, random(11, 5))


@pytest.mark.parametrize("batch", [1, 40, 700])
def test_single_precision_is_close_to_double(batch):
    model, x, grad_logits = new((384, 64, 32, 5)), random(batch, 384), random(batch, 5)
    exact = as_double(model)
    assert torch.allclose(forward(model, x)[-1].double(), forward(exact, x.double())[-1], atol=1e-5)
    close, precise = (
        gradient_of(m, part, grad.to(part.dtype)).parameters.double()
        for m, part, grad in ((model, x, grad_logits), (exact, x.double(), grad_logits))
    )
    assert torch.allclose(close, precise, atol=1e-3, rtol=1e-4)


def test_layers_are_views_of_the_parameters():
    model = new()
    model.parameters.fill_(3.0)
    assert all((part == 3.0).all() for layer in model.layers for part in layer)
    assert sum(part.numel() for layer in model.layers for part in layer) == len(model.parameters)


def test_a_copy_shares_nothing():
    model = new()
    copy, before = model.copy(), model.parameters.clone()
    copy.parameters.zero_()
    assert torch.equal(model.parameters, before)
    assert copy.widths == model.widths


def test_initial_values_fill_pytorchs_range_and_no_more():
    for n_in, (weight, bias) in zip((400, 64, 32), new((400, 64, 32, 5)).layers, strict=True):
        bound = n_in**-0.5
        largest = max(weight.max(), -weight.min())
        assert 0.95 * bound < largest <= bound * (1 + 1e-6)  # rounded to single precision
        assert bias.abs().max() <= bound * (1 + 1e-6)
        assert (weight.mean().abs() < 0.15 * bound).all()


def test_initial_values_depend_on_the_generator_alone():
    assert torch.equal(new(seed=3).parameters, new(seed=3).parameters)
    assert not torch.equal(new(seed=3).parameters, new(seed=4).parameters)
    assert new().parameters.dtype == torch.float32


def test_probabilities_are_in_double_precision_and_sum_to_one():
    probabilities = predict(new(), random(11, 7))
    assert torch.allclose(probabilities.sum(-1), torch.ones(11, dtype=torch.double), rtol=1e-12)


def test_a_scalar_head_gives_one_number():
    model, x = new((7, 64, 32, 1)), random(11, 7)
    assert is_scalar(predict(model, x))
    assert torch.equal(predict(model, x), forward(model, x)[-1].double())


def test_the_predicted_class_is_the_most_probable_one():
    assert predict_class(torch.tensor([[0.1, 3.0, 2.0], [5.0, 4.0, 4.9]]), classes=3).tolist() == [1, 0]
    assert predict_class(torch.zeros(4, 2, 3), classes=3).shape == (4, 2)


def test_the_predicted_class_of_a_scalar_head_is_the_nearest_one():
    output = torch.tensor([[-0.7], [0.4], [3.6], [9.0]])
    assert predict_class(output, classes=5).tolist() == [0, 0, 4, 4]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("outputs", [1, 5])
def test_the_predicted_class_is_a_class_whatever_the_output(value, outputs):
    assert set(predict_class(torch.full((2, outputs), value), classes=5).tolist()) <= set(range(5))


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_model_is_the_same_from_its_state_dict(widths):
    model = new(widths)
    loaded = from_state_dict(state_dict(model))
    assert torch.equal(loaded.parameters, model.parameters)
    assert loaded.widths == model.widths


def test_the_state_dict_is_a_copy():
    model = new()
    before = model.parameters.clone()
    for tensor in state_dict(model).values():
        tensor.zero_()
    assert torch.equal(model.parameters, before)


@pytest.mark.parametrize("name", ["0.bias", "2.weight", "4.weight"])
def test_a_state_dict_whose_shapes_do_not_fit_is_refused(name):
    tensors = state_dict(new())
    tensors[name] = torch.zeros(*[size + 1 for size in tensors[name].shape])
    with pytest.raises((ValueError, RuntimeError)):
        from_state_dict(tensors)


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_model_is_the_same_after_pickling(widths):
    model = new(widths)
    content = pickle.dumps(model)
    loaded = pickle.loads(content)
    assert torch.equal(loaded.parameters, model.parameters)
    assert loaded.widths == model.widths
    assert b"torch" not in content  # NumPy: torch would pass an open file for every tensor
    assert torch.equal(forward(loaded, random(2, widths[0]))[-1], forward(model, random(2, widths[0]))[-1])
