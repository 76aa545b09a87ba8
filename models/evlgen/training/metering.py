"""Counting tensor memory without spending it: fake tensors have shapes, types and life times, and no content.

A model on fake tensors runs forward and backward in seconds whatever its size, and every storage that an operation
makes is counted from its birth to its death. Workspaces inside an operation (convolution, matrix products) and the
allocator's own losses are not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class AllocationMeter(TorchDispatchMode):
    """While this is open, counts the bytes of storages that operations make.

    Args:
        known: tensors that are there already; their storages, and views of them, are not counted.

    Attributes:
        now: bytes alive.
        peak: the most that were alive at once.
    """

    now: int
    peak: int

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in tree_iter(out):
            if isinstance(one, Tensor):
                self._note(one)
        return out

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        self._alive.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def make_fake(module: nn.Module) -> None:
    """Put fake CPU tensors in the place of all parameters and buffers of a module on the meta device.

    To be called with a FakeTensorMode open. Tied parameters stay tied. Fake tensors on the CPU take part in autocast,
    which tensors on the meta device do not.
    """
    made: dict[int, Tensor] = {}
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    made[id(tensor)] = _fake(tensor)
                store[name] = made[id(tensor)]  # type: ignore[assignment]


def _fake(tensor: Tensor) -> Tensor:
    fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return nn.Parameter(fake, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of distinct tensors."""
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())
