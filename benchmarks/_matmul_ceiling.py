"""What the machine can multiply: GFLOP/s of torch's matrix products in bfloat16 and float32, squares and a model's tall ones.

    python benchmarks/_matmul_ceiling.py --shape embedded|qwen2.5-0.5b|qwen2.5-1.5b [--rows 32] [--threads 2] [--json]

`bf16_gflops` and `fp32_gflops` are the best of all products; `by_shape` has each by the name "rows x inputs x outputs". The
tall ones are those of an update of `--rows` tokens: into the MLP, out of it, and the two products of the way back (for the
inputs and for the weights). "from memory" is the first of them over so many matrices that no cache holds them, as the
layers of a model come by: what a product with so few rows can really reach. The best of three rounds counts each time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from _ttt_peer import CHOICES, shape_config
from torch import Tensor

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SQUARES = (1_024, 2_048)
ROUNDS, SECONDS = 3, 0.1  # of each round
MEMORY = 2**28  # bytes of matrices that no cache holds

Product = Callable[[], Tensor]


def products(rows: int, width: int, mlp: int, dtype: torch.dtype) -> Iterator[tuple[str, float, Product]]:
    """Name, operations and the product itself, each when its turn comes, so that the large matrices are made last."""

    def matrix(*size: int) -> Tensor:
        return torch.randn(*size, dtype=dtype)

    for side in SQUARES:
        a, b = matrix(side, side), matrix(side, side)
        yield f"{side} x {side} x {side}", 2.0 * side**3, partial(torch.matmul, a, b)
    work = 2.0 * rows * width * mlp
    x, hidden = matrix(rows, width), matrix(rows, mlp)
    inward, outward = matrix(mlp, width), matrix(width, mlp)  # as nn.Linear stores them: outputs, inputs
    yield f"{rows} x {width} x {mlp}", work, partial(torch.matmul, x, inward.T)
    yield f"{rows} x {mlp} x {width}", work, partial(torch.matmul, hidden, outward.T)
    yield f"{rows} x {mlp} x {width}, for the inputs", work, partial(torch.matmul, hidden, inward)
    yield f"{mlp} x {rows} x {width}, for the weights", work, partial(torch.matmul, hidden.T, x)
    count = max(2, MEMORY // (inward.numel() * inward.element_size()))
    turns = itertools.cycle([matrix(mlp, width) for _ in range(count)])
    yield f"{rows} x {width} x {mlp}, from memory", work, lambda: x @ next(turns).T


@torch.no_grad()
def rate(work: float, product: Product) -> float:
    """GFLOP/s in the best of the rounds."""
    for _ in range(2):
        product()
    started = time.perf_counter()
    product()
    repeats = max(3, int(SECONDS / max(time.perf_counter() - started, 1e-6)))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(repeats):
            product()
        best = min(best, (time.perf_counter() - started) / repeats)
    return work / best / 1e9


def ceiling(shape: str, rows: int) -> dict[str, Any]:
    """The best rate of both precisions, and the rate of every product."""
    config = shape_config(shape)
    by_shape: dict[str, dict[str, float]] = {}
    for name, dtype in DTYPES.items():
        for size, work, product in products(rows, config.hidden_size, config.intermediate_size, dtype):
            by_shape.setdefault(size, {})[name] = round(rate(work, product), 1)
    best = {f"{name}_gflops": max(rates[name] for rates in by_shape.values()) for name in DTYPES}
    return best | {"by_shape": by_shape, "shape": shape, "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=CHOICES, default="embedded")
    parser.add_argument("--rows", type=int, default=32, help="tokens of an update")
    parser.add_argument("--threads", type=int, help="of torch; else as torch chooses")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rows < 1 or (options.threads is not None and options.threads < 1):
        parser.error("--rows and --threads begin at 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    found = ceiling(options.shape, options.rows)
    if options.json:
        print(json.dumps(found))
        return
    for size, rates in found["by_shape"].items():
        print(f"{size:>36}" + "".join(f"{rates[name]:>10,.1f} {name}" for name in DTYPES))
    print(f"{'best':>36}" + "".join(f"{found[f'{name}_gflops']:>10,.1f} {name}" for name in DTYPES) + "   GFLOP/s")


if __name__ == "__main__":
    main()
