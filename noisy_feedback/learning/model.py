"""The rating model: an MLP, embedding -> 64 -> 32 -> one logit per rating (or one output, with a scalar head).

Forward pass, backward pass and the optimizer's step (Learner) are written out: in a network this small, autograd and
torch.optim cost more than the matrix products. With nn.Sequential, autograd and fused Adam the whole published sweep
takes 1.34 times as long at 768 dimensions (TripAdvisor) and 1.40 at 384 (SST-5). Tests compare with PyTorch's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

WEIGHT_DECAY = 5e-4  # the study's, in both phases
# PyTorch's defaults. The kernel of torch.optim.Adam(fused=True) is called directly: with that and one kernel for the
# gradient of the ReLU, a training takes 0.92 (768 dimensions) and 0.89 times as long (384).
ADAM: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}


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
        inputs = self.widths[:-1]
        weights = [weight.view(-1, n_in) for n_in, weight in zip(inputs, blocks[::2], strict=True)]
        return list(zip(weights, blocks[1::2], strict=True))

    def copy(self) -> "RatingMLP":
        return RatingMLP(self.parameters.clone(), self.widths)

    def __reduce__(self) -> Any:  # between processes as NumPy: torch would pass an open file for every tensor
        return from_array, (self.parameters.cpu().numpy(), self.widths)


def from_array(parameters: np.ndarray, widths: tuple[int, ...]) -> RatingMLP:
    """A network from its parameters (P,)."""
    return RatingMLP(torch.tensor(parameters), widths)


def init_model(widths: Sequence[int], rng: np.random.Generator, device: torch.device | str = "cpu") -> RatingMLP:
    """A new network with PyTorch's initial weights and biases, uniform within 1/sqrt(inputs) of 0.

    Source: torch.nn.Linear (He et al. 2015, Delving Deep into Rectifiers, with a = sqrt(5)).
    """
    layers = [rng.uniform(-(n_in**-0.5), n_in**-0.5, size=(n_in + 1) * n_out) for n_in, n_out in pairwise(widths)]
    return RatingMLP(torch.tensor(np.concatenate(layers), dtype=torch.float32, device=device), tuple(widths))


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
        """The logits (B, C) of embeddings (B, d); `step` refers to them."""
        self.activations = forward(self.model, x)
        return self.activations[-1]

    def step(self, grad_logits: Tensor) -> None:
        """Change the parameters, given the gradient of what is minimised in the logits (B, C) of `forward`."""
        grad, layers = grad_logits, self.model.layers
        for depth in reversed(range(len(layers))):
            weight_gradient, bias_gradient = self.gradient.layers[depth]
            torch.mm(grad.T, self.activations[depth], out=weight_gradient)
            torch.sum(grad, dim=0, out=bias_gradient)
            if depth > 0:  # the embeddings are frozen: they need no gradient
                grad = torch.mm(grad, layers[depth][0])
                grad = torch.ops.aten.threshold_backward(grad, self.activations[depth], 0)  # of the ReLU
        self.steps += 1
        parameters, gradient = [self.model.parameters], [self.gradient.parameters]
        settings = {**ADAM, "lr": self.learning_rate, "weight_decay": WEIGHT_DECAY}
        torch._fused_adam_(parameters, gradient, [self.exp_avg], [self.exp_avg_sq], [], [self.steps], **settings)


def predict(model: RatingMLP, x: Tensor) -> Tensor:
    """Probabilities of the ratings (B, C), or the one output (B, 1), of embeddings (B, d); in double precision."""
    output = forward(model, x)[-1].double()
    return output if is_scalar(output) else torch.softmax(output, dim=-1)


def is_scalar(output: Tensor) -> bool:
    """Is this the output (..., 1) of a scalar head, rather than logits (..., C) of two classes or more?"""
    return output.shape[-1] == 1


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
    own = state_dict(model)
    if any(own[name].shape != tensors[name].shape for name in names):
        raise ValueError("shapes of weights and biases do not fit together")
    return model
