"""The rating regressor: a stack of R independent MLPs, embedding -> 64 -> 32 -> C logits.

Forward and backward pass are written out, because autograd's bookkeeping costs more than the products of
networks this small. A test holds them against autograd.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

HIDDEN = (64, 32)

# Products of this many multiply-adds or more go to oneDNN where it is there: torch's own way to it (its compiler's
# operator) takes half the time of torch.bmm on CPUs for which MKL has no AVX-512 code; smaller ones cost more to
# hand over than they save (benchmarks/products.py). The size is that of one run: a run's bits know no other run.
LARGE = 2**24
HAS_ONEDNN = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()


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

    @cached_property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Views of the parameters: per layer the weights (R, out, in) and biases (R, 1, out)."""
        views, start = [], 0
        for n_in, n_out in pairwise(self.widths):
            middle, end = start + n_out * n_in, start + n_out * n_in + n_out
            weight, bias = self.parameters[:, start:middle], self.parameters[:, middle:end]
            views.append((weight.view(-1, n_out, n_in), bias.unsqueeze(1)))
            start = end
        return views


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


class Workspace:
    """Memory for one batch of a stack, to be used again: taking megabytes from the system at every step costs
    more than the products.

    `inputs` holds the input of every layer, (R, B, width), the embeddings first; `logits` is (R, B, C);
    `slopes` holds the gradients in the outputs of the hidden layers.
    """

    def __init__(self, regressor: Regressor, batch: int) -> None:
        *inputs, logits = (regressor.parameters.new_empty(len(regressor), batch, n) for n in regressor.widths)
        self.inputs, self.logits = inputs, logits
        self.slopes = [torch.empty_like(hidden) for hidden in inputs[1:]]

    def load(self, embeddings: Tensor, rows: Tensor) -> None:
        """Put the named rows of the embeddings (n, d), R * B of them, to where the first layer reads."""
        torch.index_select(embeddings, 0, rows.flatten(), out=self.inputs[0].view(-1, embeddings.shape[1]))


def forward(regressor: Regressor, workspace: Workspace) -> Tensor:
    """Logits (R, B, C) of the embeddings that stand in the workspace, which keeps what `backward` needs."""
    outputs = [*workspace.inputs[1:], workspace.logits]
    for depth, ((weight, bias), x, output) in enumerate(zip(regressor.layers, workspace.inputs, outputs, strict=True)):
        affine(x, weight, bias, out=output)
        if depth < len(outputs) - 1:
            output.relu_()
    return workspace.logits


def backward(regressor: Regressor, workspace: Workspace, slope: Tensor, gradient: Regressor) -> None:
    """Write the parameters' gradient into `gradient`, from the loss's gradient `slope` (R, B, C) in the logits."""
    for depth in reversed(range(len(regressor.layers))):
        x, (weight_part, bias_part) = workspace.inputs[depth], gradient.layers[depth]
        sum_of_outer_products(slope, x, out=weight_part)
        torch.sum(slope, dim=1, keepdim=True, out=bias_part)
        if depth > 0:  # the embeddings are frozen: no gradient goes into them
            into = workspace.slopes[depth - 1]
            torch.bmm(slope, regressor.layers[depth][0], out=into)
            slope = torch.ops.aten.threshold_backward.grad_input(into, x, 0, grad_input=into)  # relu's derivative


def affine(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
    """x weight^T + bias, from (R, B, in), (R, out, in), (R, 1, out) into (R, B, out)."""
    if not for_onednn(x, out.shape[2]):
        torch.baddbmm(bias, x, weight.mT, out=out)
        return
    for run in range(len(x)):
        out[run] = torch.ops.mkldnn._linear_pointwise(x[run], weight[run], bias[run, 0], "none", [], "")


def sum_of_outer_products(slope: Tensor, x: Tensor, out: Tensor) -> None:
    """slope^T x, from (R, B, out), (R, B, in) into (R, out, in)."""
    if not for_onednn(x, out.shape[1]):
        torch.bmm(slope.mT, x, out=out)
        return
    for run in range(len(x)):
        out[run] = torch.ops.mkldnn._linear_pointwise(slope[run].T, x[run].T, None, "none", [], "")


def for_onednn(x: Tensor, width: int) -> bool:
    """Is the product of x (R, B, in) with `width` columns better done by oneDNN?"""
    large = x.shape[1] * x.shape[2] * width >= LARGE
    return large and HAS_ONEDNN and x.dtype == torch.float32 and not x.is_cuda


def predict(regressor: Regressor, x: Tensor) -> Tensor:
    """Embeddings (R, B, d) -> probabilities of the ratings (R, B, C), double precision."""
    workspace = Workspace(regressor, x.shape[1])
    workspace.inputs[0] = x
    return torch.softmax(forward(regressor, workspace).double(), dim=-1)


def state_dict(regressor: Regressor) -> dict[str, Tensor]:
    """A stack of one, named as in torch.nn.Sequential(Linear, ReLU, Linear, ReLU, Linear)."""
    (_,) = regressor.parameters
    tensors = {}
    for number, (weight, bias) in enumerate(regressor.layers):
        tensors[f"{2 * number}.weight"] = weight[0].cpu().clone()
        tensors[f"{2 * number}.bias"] = bias[0, 0].cpu().clone()
    return tensors


def from_state_dict(tensors: dict[str, Tensor]) -> Regressor:
    """The inverse of `state_dict`."""
    weights = [tensors[f"{2 * number}.weight"] for number in range(len(tensors) // 2)]
    flat = [
        part.reshape(-1) for number in range(len(weights)) for part in (weights[number], tensors[f"{2 * number}.bias"])
    ]
    widths = (weights[0].shape[1], *(weight.shape[0] for weight in weights))
    return Regressor(torch.cat(flat).unsqueeze(0), widths)
