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
ALIGNED = 16  # float32 numbers: a cache line

# Products of this many multiply-adds or more go to oneDNN where it is there: torch's own way to it (its compiler's
# operator) takes half the time of torch.bmm on CPUs for which MKL has no AVX-512 code; smaller ones cost more to
# hand over than they save (benchmarks/products.py). The size is that of one run: a run's bits know no other run.
LARGE = 2**24
HAS_ONEDNN = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()


@dataclass(frozen=True)
class Regressor:
    """R networks side by side; run r never sees another run's numbers.

    `parameters` (R, P) holds per run the weights (out, in) and biases (out,) of each layer in turn, where
    `blocks` says; `widths` is (d, 64, 32, C), or (d, 64, 32, 1) with a scalar head.
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
        views = []
        for (n_in, n_out), (weight, bias) in zip(pairwise(self.widths), blocks(self.widths), strict=True):
            matrix = self.parameters[:, weight].view(-1, n_out, n_in)
            views.append((matrix, self.parameters[:, bias].unsqueeze(1)))
        return views


def blocks(widths: Sequence[int]) -> list[tuple[slice, slice]]:
    """Where the weights and the biases of each layer lie among a run's parameters.

    Every block starts at a multiple of ALIGNED numbers, so that it lies in memory alike in a stack and alone:
    products of matrices that lie otherwise have other last bits. What is between the blocks is 0 and stays 0.
    """
    found, start = [], 0
    for n_in, n_out in pairwise(widths):
        weight = slice(start, start + n_out * n_in)
        bias = slice(aligned(weight.stop), aligned(weight.stop) + n_out)
        found.append((weight, bias))
        start = aligned(bias.stop)
    return found


def aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def empty_stack(runs: int, widths: Sequence[int]) -> Regressor:
    """Networks whose parameters are all 0."""
    return Regressor(torch.zeros(runs, aligned(blocks(widths)[-1][1].stop)), tuple(widths))


def new_regressor(dimensions: int, outputs: int, generators: Sequence[np.random.Generator]) -> Regressor:
    """One network per generator, with a logit per class, or one output, and PyTorch's initial values.

    These are uniform within 1/sqrt(inputs) of 0. Source: torch.nn.Linear (He et al. 2015, Delving Deep into
    Rectifiers, with a = sqrt(5)).
    """
    stack = empty_stack(len(generators), (dimensions, *HIDDEN, outputs))
    for run, generator in enumerate(generators):
        for weight, bias in stack.layers:
            bound = weight.shape[2] ** -0.5
            for block in (weight[run], bias[run]):
                block.copy_(torch.from_numpy(generator.uniform(-bound, bound, size=block.shape)))
    return stack


class Workspace:
    """Memory for one batch of a stack, to be used again: taking megabytes from the system at every step costs
    more than the products.

    `hidden` holds the outputs of the hidden layers, (R, B, width), `slopes` the gradients in them; `logits` is
    (R, B, C), and `x` (R, B, d) the place for embeddings that are gathered.
    """

    def __init__(self, regressor: Regressor, batch: int) -> None:
        *hidden, logits = (regressor.parameters.new_empty(len(regressor), batch, n) for n in regressor.widths[1:])
        self.hidden, self.logits = hidden, logits
        self.slopes = [torch.empty_like(output) for output in hidden]
        self.x: Tensor | None = None

    def gather(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """The named rows (R, ...) of the embeddings (n, d), as x (R, B, d)."""
        if self.x is None:
            self.x = embeddings.new_empty(*self.logits.shape[:2], embeddings.shape[1])
        torch.index_select(embeddings, 0, rows.flatten(), out=self.x.view(-1, embeddings.shape[1]))
        return self.x


def forward(regressor: Regressor, x: Tensor, workspace: Workspace) -> Tensor:
    """Embeddings (R, B, d) -> logits (R, B, C); the workspace keeps what `backward` needs."""
    inputs, outputs = [x, *workspace.hidden], [*workspace.hidden, workspace.logits]
    for depth, ((weight, bias), given, output) in enumerate(zip(regressor.layers, inputs, outputs, strict=True)):
        affine(given, weight, bias, out=output)
        if depth < len(outputs) - 1:
            output.relu_()
    return workspace.logits


def backward(regressor: Regressor, x: Tensor, workspace: Workspace, slope: Tensor, gradient: Regressor) -> None:
    """Write the parameters' gradient into `gradient`, from the loss's gradient `slope` (R, B, C) in the logits."""
    inputs = [x, *workspace.hidden]
    for depth in reversed(range(len(inputs))):
        weight_part, bias_part = gradient.layers[depth]
        sum_of_outer_products(slope, inputs[depth], out=weight_part)
        torch.sum(slope, dim=1, keepdim=True, out=bias_part)
        if depth > 0:  # the embeddings are frozen: no gradient goes into them
            into = workspace.slopes[depth - 1]
            torch.bmm(slope, regressor.layers[depth][0], out=into)
            # relu's derivative
            slope = torch.ops.aten.threshold_backward.grad_input(into, inputs[depth], 0, grad_input=into)


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
    """Embeddings (R, B, d) -> probabilities of the ratings (R, B, C), or the one output as it is; double precision."""
    output = forward(regressor, x, Workspace(regressor, x.shape[1])).double()
    return output if is_scalar(output) else torch.softmax(output, dim=-1)


def is_scalar(output: Tensor) -> bool:
    """Is this the output (..., 1) of a scalar head, rather than logits (..., C) of at least two classes?"""
    return output.shape[-1] == 1


def most_likely_class(output: Tensor, classes: int) -> Tensor:
    """Logits (..., C), or one output (..., 1), -> classes (...): the most probable, or the nearest on the scale."""
    if is_scalar(output):
        return output.squeeze(-1).round().clamp(0, classes - 1).long()
    return output.argmax(-1)


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
    widths = (weights[0].shape[1], *(weight.shape[0] for weight in weights))
    stack = empty_stack(1, widths)
    for number, (weight, bias) in enumerate(stack.layers):
        weight[0].copy_(weights[number])
        bias[0, 0].copy_(tensors[f"{2 * number}.bias"])
    return stack
