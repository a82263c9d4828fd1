import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from noisy_feedback.learning.model import Learner, from_state_dict, init_model, predict, state_dict

WIDTHS = [(7, 64, 32, 5), (7, 64, 32, 1), (3, 8, 2), (4, 3)]  # also other depths: the last has no hidden layer


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def new(widths=(7, 64, 32, 5), seed=0):
    return init_model(widths, np.random.default_rng(seed))


def as_module(model):
    """The same network from torch.nn, with the same parameters."""
    layers = [layer for sizes in pairwise(model.widths) for layer in (torch.nn.Linear(*sizes), torch.nn.ReLU())]
    module = torch.nn.Sequential(*layers[:-1])
    module.load_state_dict(state_dict(model))
    return module


@pytest.mark.parametrize("widths", WIDTHS)
def test_it_predicts_and_learns_as_a_plain_pytorch_mlp_with_adam(widths):
    model, x, grad_logits = new(widths), random(11, widths[0]), random(11, widths[-1])
    given, module = x.clone(), as_module(model)
    learner, adam = Learner(model, 0.01), torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=5e-4)
    for _ in range(6):
        output = module(x)
        assert torch.allclose(learner.forward(given), output, atol=1e-5)
        probabilities = output.double() if widths[-1] == 1 else output.double().softmax(-1)
        assert torch.allclose(predict(model, x), probabilities, atol=1e-5)
        adam.zero_grad()
        (output * grad_logits).sum().backward()
        learner.step(grad_logits)
        known = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
        assert torch.allclose(learner.gradient.parameters, known, atol=1e-5)
        adam.step()
        assert torch.allclose(model.parameters, torch.nn.utils.parameters_to_vector(module.parameters()), atol=1e-5)
    assert torch.equal(given, x)
    assert torch.equal(grad_logits, random(11, widths[-1]))


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_model_is_the_same_from_its_state_dict_and_after_pickling_and_copies_share_nothing(widths):
    model = new(widths)
    content, named, copy = pickle.dumps(model), state_dict(model), model.copy()
    for same in (from_state_dict(named), pickle.loads(content), copy):
        assert torch.equal(same.parameters, model.parameters)
        assert same.widths == model.widths
    assert b"torch" not in content  # NumPy: torch would pass an open file for every tensor
    for tensor in (copy.parameters, *named.values()):
        tensor.zero_()
    assert torch.equal(model.parameters, new(widths).parameters)
