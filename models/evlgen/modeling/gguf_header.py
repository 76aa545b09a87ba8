"""The header of a GGUF file, read within bounds: its reader in the package gguf believes every count that stands there.

Layout: magic, version, number of tensors, number of keys; each key with a type and a value; each tensor with name,
shape, type and offset. Counts are 64-bit numbers.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from evlgen.errors import WeightsError
from evlgen.modeling.transformers_opening import check_sizes

_MAGIC = b"GGUF"
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""The bytes of a value, by its type."""
_INTEGERS = {0: "<B", 2: "<H", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_STRING, _ARRAY = 8, 9
_SMALLEST_TENSOR_BYTES = 8 + 4 + 4 + 8
_MOST_NESTED = 4


def check_gguf(path: Path) -> None:
    """See that a GGUF file holds what its counts say, and sizes that a model can have.

    Raises:
        WeightsError: it does not, or it is no GGUF file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            if file.read(4) != _MAGIC:
                raise ValueError("it does not begin with GGUF")
            version, tensors, keys = struct.unpack("<IQQ", file.read(20))
            if version not in (2, 3):
                raise ValueError(f"version {version} is not 2 or 3")
            sizes: dict[str, int] = {}
            for _ in range(keys):
                name = _string(file, size).decode(errors="replace")
                (kind,) = struct.unpack("<I", file.read(4))
                if kind in _INTEGERS:
                    (sizes[name.rpartition(".")[2]],) = struct.unpack(_INTEGERS[kind], file.read(_BYTES[kind]))
                else:
                    _skip(file, kind, size)
            if tensors * _SMALLEST_TENSOR_BYTES > size - file.tell():
                raise ValueError(f"it says that it holds {tensors} tensors, more than it has room for")
        except (ValueError, struct.error) as error:
            reason = "it is cut short" if isinstance(error, struct.error) else str(error)
            raise WeightsError(f"{path} cannot be read as a GGUF model: {reason}", "fetch it again") from None
    check_sizes(sizes, str(path))


def _string(file: BinaryIO, size: int) -> bytes:
    (length,) = struct.unpack("<Q", file.read(8))
    _see_room(file, length, size)
    return file.read(length)


def _skip(file: BinaryIO, kind: int, size: int, nested: int = 0) -> None:
    if kind in _BYTES:
        file.seek(_BYTES[kind], 1)
    elif kind == _STRING:
        _string(file, size)
    elif kind == _ARRAY and nested < _MOST_NESTED:
        inner, count = struct.unpack("<IQ", file.read(12))
        each = _BYTES.get(inner, 8)  # a string or an array begins with its length
        _see_room(file, each * count, size)
        if inner in _BYTES:
            file.seek(each * count, 1)
        else:
            for _ in range(count):
                _skip(file, inner, size, nested + 1)
    else:
        raise ValueError(f"a value has type {kind}, which there is not")


def _see_room(file: BinaryIO, wanted: int, size: int) -> None:
    if wanted > size - file.tell():
        raise ValueError(f"a value of {wanted} bytes is longer than the file")
