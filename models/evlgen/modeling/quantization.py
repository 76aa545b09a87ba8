"""The frozen language model in 8 bit (arXiv 2208.07339) or 4 bit (NF4, arXiv 2305.14314), with bitsandbytes.

The matrices of the layers are quantized while they are read; embeddings, head and norms keep their precision, and
gradients pass through to the soft prompts and to LoRA. bitsandbytes is an optional extra, imported when it is needed.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import nn

from evlgen.errors import UsageError
from evlgen.modeling.adapters import MARK

NF4_BLOCK = 64
"""Weights that share one scale, which is a float32 number (bitsandbytes' default; scales are not quantized again)."""


def loading_options(kind: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What from_pretrained is told to quantize.

    Args:
        kind: `LanguageConfig.quantization`.
        dtype: of what is not quantized, and of 4-bit matrix products.
        device: where the model is loaded; quantized weights stay there.

    Raises:
        UsageError: bitsandbytes is missing, or does not know the device.
    """
    if kind == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"model.language.quantization {kind} needs the package bitsandbytes", "pip install 'evlgen[quantize]'"
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says in every product that it rounds to float16
    import bitsandbytes
    import transformers

    known = bitsandbytes.supported_torch_devices
    if device.type not in known:
        raise UsageError(
            f"model.language.quantization {kind}: the installed bitsandbytes does not run on {device.type}",
            f"it runs on {', '.join(sorted(known))}; or set model.language.quantization to none",
        )
    if kind == "int8":
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    return {"quantization_config": config, "device_map": {"": device}}


def saved_bytes(kind: str, layers: nn.Module, weight_bytes: int) -> int:
    """Memory that quantization saves, reckoned on a model that is not quantized.

    Args:
        kind: `LanguageConfig.quantization`.
        layers: of the language model; its adapters are left out.
        weight_bytes: that a weight would take otherwise.
    """
    if kind == "none":
        return 0
    matrices = [p for n, p in layers.named_parameters() if p.dim() == 2 and MARK not in n]
    return sum(p.numel() * weight_bytes - matrix_bytes(kind, *p.shape) for p in matrices)


def matrix_bytes(kind: str, rows: int, columns: int) -> int:
    """Bytes of one quantized matrix with its scales: one a row, or one a block of `NF4_BLOCK` weights."""
    count = rows * columns
    return count + 4 * rows if kind == "int8" else -(-count // 2) + 4 * -(-count // NF4_BLOCK)
