"""Is oneDNN worth handing a product to? One thread, the first layer's products at growing batch sizes.

    python benchmarks/products.py

The best of some tries: what a product can gain, before what a whole training makes of it (`LARGE` in
noisy_feedback/regressor.py).
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from noisy_feedback import regressor

TRIES = 60


def milliseconds(work: Callable[[], None]) -> float:
    """The best of some tries, after two to warm up."""
    found = []
    for _ in range(TRIES + 2):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return 1e3 * min(found[2:])


def main() -> None:
    torch.set_num_threads(1)
    print("  batch  dimensions   x W^T: torch.baddbmm   oneDNN   ratio   slope^T x: torch.bmm   oneDNN   ratio")
    for dimensions in (384, 768):
        for batch in (64, 256, 512, 1024, 2048):
            x, slope = torch.randn(1, batch, dimensions), torch.randn(1, batch, 64)
            weight, bias, out = torch.randn(1, 64, dimensions), torch.randn(1, 1, 64), torch.empty(1, batch, 64)
            times = []
            for large in (2**62, 0):
                regressor.LARGE = large
                times.append(milliseconds(partial(regressor.affine, x, weight, bias, out)))
                times.append(milliseconds(partial(regressor.sum_of_outer_products, slope, x, weight)))
            forward, backward, onednn_forward, onednn_backward = times
            print(
                f"{batch:7} {dimensions:11} {forward:20.3f} ms {onednn_forward:5.3f} ms {forward / onednn_forward:6.2f}"
                f" {backward:20.3f} ms {onednn_backward:5.3f} ms {backward / onednn_backward:6.2f}"
            )


if __name__ == "__main__":
    main()
