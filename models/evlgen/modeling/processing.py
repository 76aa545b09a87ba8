"""From pictures and frames to the model's input, and from token ids to text.

A picture is resized to the square input whole, its aspect not kept: nothing at the borders is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.errors import UsageError
from evlgen.modeling.inputs import Picture, clips_of, clips_of_images, clips_of_videos
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

    @overload
    def __call__(self, clips: Sequence[Any] | Picture) -> Tensor: ...

    @overload
    def __call__(
        self, *, images: Any = None, videos: Any = None, text: Any = None, return_tensors: str = "pt"
    ) -> Any: ...

    def __call__(
        self,
        clips: Sequence[Any] | Picture | None = None,
        *,
        images: Any = None,
        videos: Any = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str = "pt",
    ) -> Any:
        """Normalised float32 pixel values (B, F, 3, S, S).

        Sizes of items may differ, frame counts may not. Pictures are PIL images, arrays (H, W, 3), tensors with
        channels first or last, or paths; videos have a dimension of frames more, or are lists of pictures.

        Args:
            clips: one item, or a list of them, pictures and videos alike; or by transformers' names
            images: one picture, or a list of them, or
            videos: one video, or a list of them; a list of pictures is one video.
            text: with these two, a prompt for all, or one each, that captions go on from.
            return_tensors: there is "pt" alone.

        Returns:
            The tensor; for `images` or `videos` a `BatchFeature` with `pixel_values`, and `prompt` where there is a
            text: what `generate(**inputs)` takes.

        Raises:
            UsageError: items have different numbers of frames, or no frame, or something is no picture or video.
        """
        side, frames = self.config.vision.image_size, self.config.temporal.frames
        if sum(one is not None for one in (clips, images, videos)) != 1:
            raise UsageError("a processor takes clips, images= or videos=, one of them")
        if clips is not None:
            if text is not None:
                raise UsageError("text= goes with images= or videos=", "or give it to generate, as prompt=")
            if isinstance(clips, np.ndarray | Tensor):
                clips = list(clips) if clips.ndim == 5 else [clips]
            return self._pixels(clips_of(clips if isinstance(clips, list | tuple) else [clips], side, frames))
        if return_tensors != "pt":
            raise UsageError(f"return_tensors={return_tensors!r} is not known", "there is 'pt', tensors of torch")
        from transformers import BatchFeature

        found = clips_of_images(images, side) if images is not None else clips_of_videos(videos, side, frames)
        inputs: dict[str, Any] = {"pixel_values": self._pixels(found)}
        if text is not None:
            inputs["prompt"] = [text] * len(found) if isinstance(text, str) else list(text)
        return BatchFeature(inputs)

    def _pixels(self, clips: Sequence[NDArray[np.uint8]]) -> Tensor:
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

    def batch_decode(self, sequences: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Captions of token ids (B, T) or of lists of them, up to the end token."""
        end = self._end_token
        texts: list[str] = []
        for row in sequences.tolist() if isinstance(sequences, Tensor) else map(list, sequences):
            ids = row[: row.index(end)] if end in row else row
            texts.append(" ".join(self.tokenizer.decode(ids, skip_special_tokens=True).split()))
        return texts


def _square(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if frame.shape[:2] == (side, side):
        return frame
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
