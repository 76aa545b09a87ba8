"""Miniature checkpoints on disk, and their conversion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from evlgen.configuration import VisionConfig
from evlgen.conversion import Assumed, convert, eva_vit_g
from tests.conversion import authors as mini

ASSUMED: dict[str, Any] = {
    "r": mini.R, "heads": mini.HEADS, "vision_heads": mini.VISION_HEADS, "temporal_heads": mini.TEMPORAL_HEADS,
    "frames": 3, "prompt_after": "", "end_text": "\n",  # tokenizers here have a token a byte
}  # fmt: skip


def mini_tower(source: str) -> VisionConfig:
    """What has to be said of a tower that is not in the checkpoint."""
    arguments = {
        **eva_vit_g().arguments, "depth": mini.BLOCKS, "img_size": 12, "patch_size": mini.PATCH,
        "embed_dim": mini.WIDTH, "num_heads": mini.VISION_HEADS, "mlp_ratio": mini.HIDDEN / mini.WIDTH,
    }  # fmt: skip
    sizes = {"image_size": 12, "width": mini.WIDTH, "tokens": mini.TOKENS}
    return eva_vit_g(source).model_copy(update={"arguments": arguments, **sizes})


def save(tensors: dict[str, Tensor], file: Path) -> Path:
    """As the authors do, beside what else a run keeps; or safetensors."""
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({"model": tensors, "optimizer": {"state": {}}, "epoch": 3, "config": {"run": {"lr": 1e-4}}}, file)
    return file


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., Path]:
    """`converted(tensors, "opt")` saves, converts, and returns the folder; keywords change what is assumed."""

    def run(tensors: dict[str, Tensor], family: str, name: str = "checkpoint.pth", **assumed: Any) -> Path:
        language = tmp_path / f"{family}-source"
        if not language.exists():
            mini.language_folder(family, language)
        file = save(tensors, tmp_path / name)
        folder = tmp_path / f"{file.stem}-converted"
        convert(file, folder, Assumed(**{**ASSUMED, "language": str(language), **assumed}))
        return folder

    return run
