"""From RGB frames to the model's input, and from token ids to text.

A picture is resized to the square input whole, its aspect not kept: nothing at the borders is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.errors import UsageError
from evlgen.modeling.language_model import end_token
from evlgen.weights.named_models import find_checkpoint


class EVLGenProcessor:
    """Frames in, pixel values out; token ids in, captions out.

    Args:
        config: of the model.
        tokenizer: of its language model.
    """

    def __init__(self, config: EVLGenConfig, tokenizer: Any) -> None:
        self.config, self.tokenizer = config, tokenizer
        self._mean = torch.tensor(config.vision.mean, device="cpu").view(3, 1, 1)
        self._std = torch.tensor(config.vision.std, device="cpu").view(3, 1, 1)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "evlgen-mini", *, report: Any = None) -> Self:
        """The processor of a packaged model, a checkpoint folder or a hub repository; loads no model.

        Raises:
            UsageError, WeightsError: as for `EVLGenForConditionalGeneration.from_pretrained`.
        """
        from evlgen.modeling.language import load_tokenizer

        config = EVLGenConfig.from_pretrained(find_checkpoint(str(name_or_path)))
        return cls(config, load_tokenizer(config.language, report=report))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, which is all that `from_pretrained` needs: it names the tokenizer's source."""
        self.config.save_pretrained(folder)

    def __call__(self, clips: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Normalised float32 pixel values (B, F, 3, S, S).

        Args:
            clips: for every item its frames, uint8 RGB (F, H, W, 3); sizes may differ, frame counts may not.

        Raises:
            UsageError: items have different numbers of frames, or no frame.
        """
        counts = {len(c) for c in clips}
        if len(counts) != 1 or 0 in counts:
            raise UsageError(f"a batch needs clips of one frame count, got {sorted(counts)}", "group clips by frames")
        side = self.config.vision.image_size
        frames = np.stack([np.stack([_square(f, side) for f in clip]) for clip in clips])
        return self.normalise(torch.from_numpy(frames).permute(0, 1, 4, 2, 3))

    def normalise(self, pixels: Tensor) -> Tensor:
        """float32 pixel values of uint8 ones (B, F, 3, S, S), where those are."""
        x = pixels.float().div_(255)
        return x.sub_(self._mean.to(x.device)).div_(self._std.to(x.device))

    @cached_property
    def _end_token(self) -> int:
        return end_token(self.tokenizer, self.config.language.end_text)

    def batch_decode(self, sequences: Tensor) -> list[str]:
        """Captions of token ids (B, T), up to the end token."""
        end = self._end_token
        texts: list[str] = []
        for row in sequences.tolist():
            ids = row[: row.index(end)] if end in row else row
            texts.append(" ".join(self.tokenizer.decode(ids, skip_special_tokens=True).split()))
        return texts


def _square(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
