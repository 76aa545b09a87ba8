"""The frozen tower as the feature cache sees it, alone or inside a model, and the fingerprint of what it computes."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.data.views import TRANSFORM
from evlgen.modeling.pretrained import read_tensors
from evlgen.modeling.processing import EVLGenProcessor
from evlgen.modeling.vision import VisionTower
from evlgen.system.progress import ProgressCallback
from evlgen.weights import fetch

LAYOUT = 5  # raise when rows of a cache mean something else


class Encoder(Protocol):
    """What the cache needs of a model; `EVLGenForConditionalGeneration` has it."""

    config: EVLGenConfig
    vision: VisionTower
    processor: EVLGenProcessor

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Frame features (B, F, N, C) of normalised frames (B, F, 3, S, S)."""
        ...


class FrozenTower:
    """The vision tower of a model without its language model: enough to fill a cache."""

    def __init__(self, config: EVLGenConfig) -> None:
        self.config = config
        self.vision = VisionTower(config.vision)
        self.processor = EVLGenProcessor(config, None)

    @classmethod
    def from_config(
        cls,
        config: EVLGenConfig,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        report: ProgressCallback | None = None,
    ) -> Self:
        """Load the tower, as `EVLGenForConditionalGeneration.from_config` does: features and fingerprint are the same.

        Args:
            config: of the whole model.
            dtype: of the tower's weights.
            device: where it computes.
            report: told of downloads.

        Raises:
            WeightsError: a file is missing, damaged, or not the pinned one.
        """
        tower = cls(config)
        if config.vision.source is not None:
            tower.vision.load_weights(read_tensors(fetch(config.vision.source, report=report)))
        tower.vision.freeze(dtype)
        tower.vision.to(device)
        return tower

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Frame features (B, F, N, C) of normalised frames (B, F, 3, S, S)."""
        first = next(self.vision.trunk.parameters())
        return self.vision.encode(pixel_values.to(first.device, first.dtype))


def encode_rows(encoder: Encoder, views: list[NDArray[np.uint8]]) -> NDArray[np.float16]:
    """Features (R, N, C) of R pictures (S, S, 3)."""
    with torch.inference_mode():
        features = encoder.encode(encoder.processor([view[None] for view in views]))
        rows: NDArray[np.float16] = features[:, 0].to(torch.float16).cpu().numpy()
    return rows


def fingerprint(encoder: Encoder, *, views: int, max_frames: int) -> dict[str, Any]:
    """Everything that decides what a row of a cache holds, apart from the file: tower, weights, precision, transform.

    The weights are hashed as they are in memory, 1 to 2 GB a second; where they came from does not matter.
    """
    tower = encoder.config.vision.model_dump(mode="json", exclude={"source", "layout"})
    return {
        "layout": LAYOUT,
        "vision": tower,
        "weights": weights_hash(encoder),
        "precision": str(next(encoder.vision.trunk.parameters()).dtype).removeprefix("torch."),
        "transform": TRANSFORM,
        "views": views,
        "max_frames": max_frames,
    }


def weights_hash(encoder: Encoder) -> str:
    """A hash (128 bits) of the trunk's tensors, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in encoder.vision.trunk.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def probe(encoder: Encoder) -> NDArray[np.float16]:
    """Features (N, C) of one synthetic picture: where code changed, they tell although the fingerprint is the same."""
    side = encoder.config.vision.image_size
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    picture = np.stack([x * 255 // side, y * 255 // side, (x // 7 + y // 11) % 2 * 200], axis=-1).astype(np.uint8)
    features: NDArray[np.float16] = encode_rows(encoder, [picture])[0]
    return features
