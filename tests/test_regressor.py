from itertools import pairwise

import numpy as np
import pytest
import torch

from noisy_feedback import regressor
from noisy_feedback.regressor import Regressor, Workspace, blocks


def new(runs=3, dimensions=7, classes=5, seed=0):
    return regressor.new_regressor(dimensions, classes, [np.random.default_rng([seed, run]) for run in range(runs)])


def forward(stack, x):
    return regressor.forward(stack, x, Workspace(stack, x.shape[1]))


def as_double(stack):
    return Regressor(stack.parameters.double(), stack.widths)


def as_module(stack):
    widths = stack.widths
    module = torch.nn.Sequential(
        torch.nn.Linear(widths[0], widths[1]),
        torch.nn.ReLU(),
        torch.nn.Linear(widths[1], widths[2]),
        torch.nn.ReLU(),
        torch.nn.Linear(widths[2], widths[3]),
    )
    module.load_state_dict(regressor.state_dict(stack))
    return module


def functional(parameters, widths, x):
    """The same network in autograd's terms, from one run's flat parameters."""
    for depth, (n_in, n_out) in enumerate(pairwise(widths)):
        weight, bias = (parameters[block] for block in blocks(widths)[depth])
        x = torch.nn.functional.linear(x, weight.view(n_out, n_in), bias)
        x = x if depth == len(widths) - 2 else torch.relu(x)
    return x


def gradient_of(stack, x, slope):
    gradient = Regressor(torch.zeros_like(stack.parameters), stack.widths)
    workspace = Workspace(stack, x.shape[1])
    regressor.forward(stack, x, workspace)
    regressor.backward(stack, x, workspace, slope, gradient)
    return gradient.parameters


def test_it_is_the_study_architecture():
    assert new(dimensions=768).widths == (768, 64, 32, 5)


def test_every_run_is_a_plain_pytorch_mlp():
    stack, x = new(), torch.randn(3, 11, 7)
    logits = forward(stack, x)
    for run in range(3):
        assert torch.allclose(logits[run], as_module(stack[run : run + 1])(x[run]), atol=1e-6)


def test_the_backward_pass_agrees_with_autograd():
    stack, x = as_double(new()), torch.randn(3, 11, 7, dtype=torch.double)
    slope = torch.randn(3, 11, 5, dtype=torch.double)
    leaf = stack.parameters.clone().requires_grad_()
    logits = torch.stack([functional(leaf[run], stack.widths, x[run]) for run in range(3)])
    (logits * slope).sum().backward()
    assert torch.allclose(gradient_of(stack, x, slope), leaf.grad, atol=1e-12)


def test_the_backward_pass_agrees_with_finite_differences():
    stack, x = as_double(new(runs=1, dimensions=3)), torch.randn(1, 4, 3, dtype=torch.double)
    slope = torch.randn(1, 4, 5, dtype=torch.double)
    gradient = gradient_of(stack, x, slope)[0]
    step = 1e-6
    for place in range(0, stack.parameters.shape[1], 97):
        shifted = [stack.parameters.clone(), stack.parameters.clone()]
        shifted[0][0, place] += step
        shifted[1][0, place] -= step
        up, down = ((forward(Regressor(moved, stack.widths), x) * slope).sum().item() for moved in shifted)
        assert (up - down) / (2 * step) == pytest.approx(gradient[place].item(), abs=1e-6)


def test_initial_weights_fill_pytorchs_range_and_no_more():
    weight, bias = new(dimensions=400).layers[0]
    assert 0.049 < weight.abs().max() <= 0.05  # 1 / sqrt(400)
    assert bias.abs().max() <= 0.05


def test_a_run_starts_the_same_whatever_else_is_in_the_stack():
    assert torch.equal(new(runs=3).parameters[1:2], new(runs=2).parameters[1:2])


def test_probabilities_sum_to_one():
    probabilities = regressor.predict(new(), torch.randn(3, 11, 7))
    assert torch.allclose(probabilities.sum(-1), torch.ones(3, 11, dtype=torch.double))


def test_a_saved_regressor_is_the_same_when_loaded():
    stack = new(runs=1)
    loaded = regressor.from_state_dict(regressor.state_dict(stack))
    assert torch.equal(loaded.parameters, stack.parameters)
    assert loaded.widths == stack.widths


@pytest.mark.parametrize("batch", [40, 700])  # below and above the size that goes to another library
def test_large_products_are_the_same_as_small_ones(batch):
    generator = torch.Generator().manual_seed(0)
    stack = new(dimensions=384)
    x, slope = (torch.randn(3, batch, n, generator=generator) for n in (384, 5))
    exact = as_double(stack)
    assert torch.allclose(forward(stack, x).double(), forward(exact, x.double()), atol=1e-5)
    close, precise = gradient_of(stack, x, slope).double(), gradient_of(exact, x.double(), slope.double())
    assert torch.allclose(close, precise, atol=1e-3, rtol=1e-4)


def test_with_three_classes_every_block_still_starts_at_a_cache_line():
    assert all(block.start % 16 == 0 for pair in blocks((7, 64, 32, 3)) for block in pair)
    assert new(classes=3).parameters.shape[1] % 16 == 0


def test_a_scalar_head_gives_one_number_and_its_rating_is_the_nearest_on_the_scale():
    output = torch.tensor([[-0.7], [0.4], [3.6], [9.0]])
    assert regressor.most_likely_class(output, classes=5).tolist() == [0, 0, 4, 4]
    assert regressor.predict(new(classes=1), torch.randn(3, 11, 7)).shape == (3, 11, 1)
