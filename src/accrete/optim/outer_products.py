"""Plain gradient descent on linear maps whose gradients are never written out. Ends at weights that moved.

Of y = W x over n tokens the gradient of W is a sum of n outer products, left^T right with left = dL/dy [n, rows] and
right = x [n, columns]. For the 32 tokens of a mini-batch that is a small pair for a large matrix, and its norm needs no more
than the pair: |left^T right|^2 = sum((left left^T) * (right right^T)). So clipping costs nothing, and a step reads and writes
each weight once.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Product:
    """One use of a weight. Its gradient is left^T right: dL/d`output` on one side, `beside` on the other."""

    weight: nn.Parameter
    output: Tensor
    beside: Tensor
    output_is_left: bool = True


class OuterProductSGD:
    """W <- W - rate_W * min(1, clip / |gradient of all weights|) * gradient; `clip` 0 leaves it."""

    def __init__(self, rates: Mapping[nn.Parameter, float], clip: float = 0.0):
        self.rates, self.clip = dict(rates), clip

    def step(self, loss: Tensor, products: SequenceOf[Product]) -> None:
        """One step on `loss`; a weight is used once in it."""
        gradients = torch.autograd.grad(loss, [product.output for product in products])
        with torch.no_grad():
            pairs = [_sides(p, gradient) for p, gradient in zip(products, gradients, strict=True)]
            scale = self._scale(pairs) if self.clip else 1.0
            for product, (left, right) in zip(products, pairs, strict=True):
                product.weight.add_(left.T @ right, alpha=-scale * self.rates[product.weight])

    def _scale(self, pairs: SequenceOf[tuple[Tensor, Tensor]]) -> float:
        squares = []
        for left, right in pairs:
            left, right = left.float(), right.float()
            squares.append(((left @ left.T) * (right @ right.T)).sum())
        return min(1.0, self.clip / max(float(torch.stack(squares).sum()), 1e-24) ** 0.5)


def _sides(product: Product, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """left and right, a row for each token."""
    beside = product.beside.to(gradient.dtype)
    left, right = (gradient, beside) if product.output_is_left else (beside, gradient)
    return left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
