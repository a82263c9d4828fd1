"""The rating regressor: a stack of R independent MLPs, embedding -> 64 -> 32 -> C logits.

Forward and backward pass are written out, because autograd's bookkeeping costs more than the products of
networks this small. A test holds them against autograd.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

HIDDEN = (64, 32)


@dataclass(frozen=True)
class Regressor:
    """R networks side by side; run r never sees another run's numbers.

    `parameters` (R, P) holds per run the weights (out, in) and biases (out,) of each layer in turn;
    `widths` is (d, 64, 32, C).
    """

    parameters: Tensor
    widths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, runs: slice) -> "Regressor":
        """Some of the runs, on the same memory."""
        return Regressor(self.parameters[runs], self.widths)

    def pick(self, runs: Sequence[int]) -> "Regressor":
        """Copies of the named runs, in that order, a run as often as it is named."""
        return Regressor(self.parameters[list(runs)], self.widths)


def new_regressor(dimensions: int, classes: int, generators: Sequence[np.random.Generator]) -> Regressor:
    """One network per generator, with PyTorch's initial values: uniform within 1/sqrt(inputs) of 0.

    Source: torch.nn.Linear (He et al. 2015, Delving Deep into Rectifiers, with a = sqrt(5)).
    """
    widths = (dimensions, *HIDDEN, classes)
    networks = [
        np.concatenate(
            [
                generator.uniform(-(n_in**-0.5), n_in**-0.5, size=n_out * n_in + n_out)
                for n_in, n_out in pairwise(widths)
            ]
        )
        for generator in generators
    ]
    return Regressor(torch.from_numpy(np.stack(networks)).float(), widths)


def layers(parameters: Tensor, widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Views of flat parameters (R, P) as weights (R, out, in) and biases (R, 1, out)."""
    views, start = [], 0
    for n_in, n_out in pairwise(widths):
        middle, end = start + n_out * n_in, start + n_out * n_in + n_out
        views.append((parameters[:, start:middle].view(-1, n_out, n_in), parameters[:, middle:end].unsqueeze(1)))
        start = end
    return views


def forward(regressor: Regressor, x: Tensor) -> list[Tensor]:
    """Embeddings (R, B, d) -> the inputs of every layer, and last the logits (R, B, C)."""
    *hidden, (weight, bias) = layers(regressor.parameters, regressor.widths)
    activations = [x]
    for hidden_weight, hidden_bias in hidden:
        activations.append(torch.baddbmm(hidden_bias, activations[-1], hidden_weight.mT).relu_())
    activations.append(torch.baddbmm(bias, activations[-1], weight.mT))
    return activations


def backward(regressor: Regressor, activations: Sequence[Tensor], slope: Tensor) -> Tensor:
    """Gradient of the parameters (R, P), from the loss's gradient `slope` (R, B, C) in the logits."""
    gradient = torch.empty_like(regressor.parameters)
    parts = zip(
        layers(regressor.parameters, regressor.widths),
        layers(gradient, regressor.widths),
        activations[:-1],
        strict=True,
    )
    for depth, ((weight, _), (weight_part, bias_part), inputs) in reversed(list(enumerate(parts))):
        torch.bmm(slope.mT, inputs, out=weight_part)
        torch.sum(slope, dim=1, keepdim=True, out=bias_part)
        if depth > 0:  # the embeddings are frozen: no gradient goes into them
            slope = torch.bmm(slope, weight) * (inputs > 0)
    return gradient


def predict(regressor: Regressor, x: Tensor) -> Tensor:
    """Embeddings (R, B, d) -> probabilities of the ratings (R, B, C), double precision."""
    return torch.softmax(forward(regressor, x)[-1].double(), dim=-1)


def state_dict(regressor: Regressor) -> dict[str, Tensor]:
    """A stack of one, named as in torch.nn.Sequential(Linear, ReLU, Linear, ReLU, Linear)."""
    (_,) = regressor.parameters
    tensors = {}
    for number, (weight, bias) in enumerate(layers(regressor.parameters, regressor.widths)):
        tensors[f"{2 * number}.weight"] = weight[0].clone()
        tensors[f"{2 * number}.bias"] = bias[0, 0].clone()
    return tensors


def from_state_dict(tensors: dict[str, Tensor]) -> Regressor:
    """The inverse of `state_dict`."""
    weights = [tensors[f"{2 * number}.weight"] for number in range(len(tensors) // 2)]
    flat = [
        part.reshape(-1) for number in range(len(weights)) for part in (weights[number], tensors[f"{2 * number}.bias"])
    ]
    widths = (weights[0].shape[1], *(weight.shape[0] for weight in weights))
    return Regressor(torch.cat(flat).unsqueeze(0), widths)
