"""The rating model: an MLP, embedding -> 64 -> 32 -> one logit per rating (or one output, with a scalar head).

Forward pass, backward pass and the optimizer's step (Learner) are written out, because the bookkeeping of autograd and
torch.optim costs more than the matrix products of a network this small: with nn.Sequential, autograd and fused Adam the
published sweep takes 1.34 times as long at 768 dimensions (TripAdvisor's size) and 1.40 times at 384 (SST-5's), from
start to files. Tests compare all three with PyTorch's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

WEIGHT_DECAY = 5e-4  # the study's, in both phases


@dataclass(frozen=True)
class RatingMLP:
    """A network with layers of the given widths: (d, *hidden, C), or (d, *hidden, 1) with a scalar head.

    `parameters` (P,) holds the weights (out, in) and biases (out,) of each layer in turn, in one tensor, so that the
    optimizer's step is one call.
    """

    parameters: Tensor
    widths: tuple[int, ...]

    @cached_property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Per layer the weights (out, in) and biases (out,), as views of the parameters."""
        sizes = [size for n_in, n_out in pairwise(self.widths) for size in (n_in * n_out, n_out)]
        blocks = self.parameters.split(sizes)
        return [
            (weight.view(-1, n_in), bias)
            for n_in, weight, bias in zip(self.widths, blocks[::2], blocks[1::2], strict=False)
        ]

    def copy(self) -> "RatingMLP":
        return RatingMLP(self.parameters.clone(), self.widths)

    def __reduce__(self) -> Any:  # between processes as NumPy: torch would pass an open file for every tensor
        return from_array, (self.parameters.cpu().numpy(), self.widths)


def from_array(parameters: np.ndarray, widths: Sequence[int]) -> RatingMLP:
    """A network from its parameters (P,)."""
    return RatingMLP(torch.tensor(parameters), tuple(widths))


def init_model(widths: Sequence[int], rng: np.random.Generator, device: torch.device | str = "cpu") -> RatingMLP:
    """A new network with PyTorch's initial values, uniform within 1/sqrt(inputs) of 0.

    Source: torch.nn.Linear (He et al. 2015, Delving Deep into Rectifiers, with a = sqrt(5)).
    """
    blocks = []
    for n_in, n_out in pairwise(widths):
        bound = n_in**-0.5
        blocks += [rng.uniform(-bound, bound, size=n_in * n_out), rng.uniform(-bound, bound, size=n_out)]
    parameters = torch.tensor(np.concatenate(blocks), dtype=torch.float32, device=device)
    return RatingMLP(parameters, tuple(widths))


def forward(model: RatingMLP, x: Tensor) -> list[Tensor]:
    """The inputs of every layer, then the output: x (B, d), hidden layers (B, width), logits (B, C)."""
    activations = [x]
    for depth, (weight, bias) in enumerate(model.layers, start=1):
        output = torch.addmm(bias, activations[-1], weight.T)
        activations.append(output.relu_() if depth < len(model.layers) else output)
    return activations


class Learner:
    """Trains a model in place: forward, backward, and PyTorch's fused Adam on its one parameter tensor."""

    def __init__(self, model: RatingMLP, learning_rate: float) -> None:
        self.model = model
        self.learning_rate = learning_rate
        self.gradient = RatingMLP(torch.empty_like(model.parameters), model.widths)
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(model.parameters), torch.zeros_like(model.parameters)
        self.steps = torch.zeros((), device=model.parameters.device)
        self.activations: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, C) of embeddings (B, d), which `step` refers to."""
        self.activations = forward(self.model, x)
        return self.activations[-1]

    def step(self, grad_logits: Tensor) -> None:
        """Change the parameters, given the gradient of what is minimised in the logits (B, C) of `forward`."""
        self.backward(grad_logits)
        adam(
            [self.model.parameters],
            [self.gradient.parameters],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=WEIGHT_DECAY,
            eps=1e-8,
            maximize=False,
        )

    def backward(self, grad: Tensor) -> None:
        """Write the gradient of the parameters, given that of the logits (B, C)."""
        layers = self.model.layers
        for depth in reversed(range(len(layers))):
            weight_gradient, bias_gradient = self.gradient.layers[depth]
            torch.mm(grad.T, self.activations[depth], out=weight_gradient)
            torch.sum(grad, dim=0, out=bias_gradient)
            if depth > 0:  # the embeddings are frozen: they need no gradient
                grad = torch.mm(grad, layers[depth][0]).mul_(self.activations[depth] > 0)


def predict(model: RatingMLP, x: Tensor) -> Tensor:
    """Probabilities of the ratings (B, C), or the one output (B, 1), of embeddings (B, d); in double precision."""
    output = forward(model, x)[-1].double()
    return output if is_scalar(output) else torch.softmax(output, dim=-1)


def is_scalar(output: Tensor) -> bool:
    """Is this the output (..., 1) of a scalar head, rather than logits (..., C) of two classes or more?"""
    return output.shape[-1] == 1


def predict_class(output: Tensor, classes: int) -> Tensor:
    """The most probable class of logits (..., C), or the class nearest to one output (..., 1); shape (...)."""
    if is_scalar(output):
        known = output.squeeze(-1).nan_to_num()  # NaN as an index ends the process on a GPU; `fit` reports it as a loss
        return known.round().clamp(0, classes - 1).long()
    return output.argmax(-1)


def state_dict(model: RatingMLP) -> dict[str, Tensor]:
    """The parameters by name, as in torch.nn.Sequential(Linear, ReLU, Linear, ReLU, Linear)."""
    tensors = {}
    for number, (weight, bias) in enumerate(model.layers):
        tensors[f"{2 * number}.weight"] = weight.cpu().clone()
        tensors[f"{2 * number}.bias"] = bias.cpu().clone()
    return tensors


def from_state_dict(tensors: dict[str, Tensor]) -> RatingMLP:
    """The inverse of `state_dict`."""
    names = [f"{2 * number}.{kind}" for number in range(len(tensors) // 2) for kind in ("weight", "bias")]
    widths = (tensors["0.weight"].shape[1], *(len(tensors[name]) for name in names[1::2]))
    model = RatingMLP(torch.cat([tensors[name].flatten() for name in names]), widths)
    if any(own[name].shape != tensors[name].shape for own in [state_dict(model)] for name in names):
        raise ValueError("shapes of weights and biases do not fit together")
    return model
