"""Matrices in float16 on a CPU that computes in float32: half of the memory, and laid out once for few rows.

A step of a search multiplies a few rows with every matrix of the language model, and reading these is most of its time.
FBGEMM (x86 CPUs) rounds weights to float16, not what is multiplied with them, and adds up in float32: with 3 rows it
takes a sixth of the time of torch's product in float32, with 50 rows half of it, with 250 the same (docs/log.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 65504.0
"""The largest number in float16."""


def has_half_products() -> bool:
    """Whether torch has these products for this CPU."""
    known = torch.backends.quantized.engine in ("x86", "fbgemm") and hasattr(torch.ops.quantized, "linear_prepack_fp16")
    return known and bool(getattr(torch.cpu, "_is_avx2_supported", lambda: False)())


class HalfMatrix:
    """A matrix (M, N) that rows are multiplied with, as `torch.nn.functional.linear` does it.

    Args:
        weight: it, of numbers up to `LARGEST`.
    """

    def __init__(self, weight: Tensor) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float(), None)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., M) of float32 rows (..., N)."""
        y: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return y


def halved(weight: Tensor) -> Tensor | HalfMatrix:
    """A matrix in float16, or as it is where that cannot hold its numbers."""
    return HalfMatrix(weight) if float(weight.abs().max()) <= LARGEST else weight


def product(x: Tensor, matrix: Tensor | HalfMatrix) -> Tensor:
    """(..., M) of rows (..., N) and a matrix (M, N)."""
    return matrix(x) if isinstance(matrix, HalfMatrix) else torch.nn.functional.linear(x, matrix)
