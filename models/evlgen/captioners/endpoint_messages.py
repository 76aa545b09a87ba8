"""What is sent for a clip: its frames as JPEG in data URLs, and text around them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evlgen.captioners.protocol import PromptedClip
from evlgen.video.picture import as_jpeg, jpeg_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JPEG_QUALITY = 90
REQUEST = "Describe in one short sentence what can be seen."
"""What is asked, about videos and pictures alike, where no prompt is given."""


def template() -> str:
    """Everything here that changes an answer, for the hash of a configuration."""
    return json.dumps((JPEG_QUALITY, REQUEST, _preface((0.0, 1.5))))


def media(frames: NDArray[np.uint8], *, video: bool) -> list[dict[str, Any]]:
    """The blocks that carry the frames.

    Args:
        frames: RGB uint8 (F, H, W, 3).
        video: all in one block, as vLLM takes them; a single frame is a picture all the same.
    """
    pictures = [as_jpeg(frame, JPEG_QUALITY) for frame in frames]
    if video and len(pictures) > 1:
        texts = ",".join(base64.b64encode(one).decode() for one in pictures)
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{texts}"}}]
    return [{"type": "image_url", "image_url": {"url": jpeg_url(one)}} for one in pictures]


def messages(clip: PromptedClip, blocks: Sequence[dict[str, Any]], system_prompt: str) -> list[dict[str, Any]]:
    """The conversation that asks about a clip.

    Args:
        clip: its prompt is the request.
        blocks: of `media`.
        system_prompt: goes in front; empty for none.
    """
    before = [{"type": "text", "text": _preface(clip.timestamps_seconds)}] if len(blocks) > 1 else []
    user = {"role": "user", "content": [*before, *blocks, {"type": "text", "text": clip.prompt or REQUEST}]}
    return [{"role": "system", "content": system_prompt}, user] if system_prompt else [user]


def _preface(times: Sequence[float]) -> str:
    shown = ", ".join(f"{time:.1f}" for time in times)
    return f"These are {len(times)} frames of one video, in order, from {shown} seconds."
