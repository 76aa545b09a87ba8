"""A checksum of named tensors, kept in the header of every weight file that we write and compared when it is read.

safetensors has none: a file with zeros of a disk in the place of what was trained would load, and caption wrongly.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

import torch

from evlgen.errors import WeightsError
from evlgen.system.names import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

KEY = "checksum"
"""Its key in the header's metadata. Files of others, and those from before there was one, are taken as they are."""


def checksum_of(tensors: Mapping[str, Tensor]) -> str:
    """A checksum of names and values that finds damage, as `evlgen.system.hashes.checksum` does for files."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values: Any = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(name.encode() + b"\0" + zlib.crc32(values).to_bytes(4, "big"))
    return f"crc32-{digest.hexdigest()[:32]}"


def check_sum(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path, hint: str = "take a copy, or make it again"
) -> None:
    """Compare what was read with what was written.

    Args:
        tensors: all that the file holds.
        metadata: of its header.
        path: the file, for errors.
        hint: what to try if it is damaged.

    Raises:
        WeightsError: they differ.
    """
    kept = metadata.get(KEY)
    if kept is not None and kept != checksum_of(tensors):
        raise WeightsError(f"{printable(path)} is damaged: its values are not those that were written", hint)
