"""How decoded clips are given to models of transformers: four ways, by what their processors can.

1. a chat template and a video processor: one video a clip, with the frames' true times, not sampled again;
2. a chat template alone: the frames as pictures of one message;
3. GIT: a stack of as many frames as it has temporal embeddings; InstructBLIPVideo: four frames as one video;
4. neither (BLIP, BLIP-2, Florence-2): one picture at a time.

Frames go in at the size they were decoded in; the processors resize them. F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from evlgen.captioners.hub_models import FIXED_FRAMES
from evlgen.captioners.protocol import PromptedClip
from evlgen.errors import UsageError, first_line

TICKS = 1000
"""Times are handed over as frame numbers of a video of so many frames a second: rates that vary are told rightly."""


class Inputs(Protocol):
    """Makes the tensors of a batch.

    Attributes:
        single_frames: clips must have one frame each.
        mixed_prompts: prompts of several lengths may be in one batch.
    """

    single_frames: bool
    mixed_prompts: bool

    def __call__(self, clips: Sequence[PromptedClip]) -> Mapping[str, Any]:
        """What `generate` takes, on the CPU."""


def inputs_of(processor: Any, config: Any, system_prompt: str) -> Inputs:
    """The way that suits a model.

    Raises:
        UsageError: it takes no system prompt.
    """
    chat = ChatInputs(processor, system_prompt)
    if chat.is_possible():
        return chat
    if system_prompt:
        raise UsageError(f"--system-prompt means nothing to {config.model_type} models: they do not chat")
    if config.model_type == "git" and config.num_image_with_embedding:
        return StackInputs(processor, config.num_image_with_embedding)
    if config.model_type in FIXED_FRAMES:
        return VideoInputs(processor, FIXED_FRAMES[config.model_type])
    return PictureInputs(processor, is_git=config.model_type == "git")


class ChatInputs:
    """Ways 1 and 2: a message of the user with the clip and the prompt, behind the system prompt where one is given."""

    single_frames = False
    mixed_prompts = True

    def __init__(self, processor: Any, system_prompt: str) -> None:
        self._processor = processor
        self._system_prompt = system_prompt
        self.takes_video = False
        self._least = 1
        if tokenizer := getattr(processor, "tokenizer", None):
            tokenizer.padding_side = "left"  # what is generated follows the last token of every prompt
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token

    def is_possible(self) -> bool:
        """Whether there is a template that has a place for videos, or for pictures; the former is preferred."""
        video = getattr(self._processor, "video_processor", None)
        if video is not None and self._shows("video"):
            self.takes_video, self._least = True, int(getattr(video, "temporal_patch_size", None) or 1)
            return True
        return self._shows("image")

    def _shows(self, kind: str) -> bool:
        try:
            with_it, without = (self._render("a", blocks) for blocks in ([{"type": kind}], []))
        except Exception:  # no template, or one that knows no such block
            return False
        return with_it != without

    def _render(self, prompt: str, blocks: Sequence[Mapping[str, str]], system_prompt: str = "") -> str:
        content = [*map(dict, blocks), {"type": "text", "text": prompt}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system_prompt:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system_prompt}]})
        return str(self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _text(self, clip: PromptedClip, frames: int) -> str:
        blocks = [{"type": "video"}] if self.takes_video else [{"type": "image"}] * frames
        try:
            text = self._render(clip.prompt, blocks, self._system_prompt)
        except Exception as error:
            raise UsageError(
                f"the chat template of this model cannot take --system-prompt: {first_line(error)}"
            ) from error
        if self._system_prompt and self._system_prompt not in text:
            raise UsageError("the chat template of this model leaves --system-prompt out", "put it into --prompt")
        return text

    def check(self) -> None:
        """Raise a UsageError if the template takes no system prompt."""
        if self._system_prompt:
            self._text(PromptedClip(np.zeros((1, 1, 1, 3), np.uint8), (0.0,), "a"), 1)

    def __call__(self, clips: Sequence[PromptedClip]) -> Mapping[str, Any]:
        chosen = [fitted(clip, max(self._least, len(clip.frames))) for clip in clips]
        texts = [self._text(clip, len(frames)) for clip, (frames, _) in zip(clips, chosen, strict=True)]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        begins = self._processor.tokenizer.bos_token
        if begins and texts[0].startswith(begins):  # the template has put it there, and the tokenizer would again
            options["add_special_tokens"] = False
        if not self.takes_video:
            pictures = [[picture(frame) for frame in frames] for frames, _ in chosen]
            inputs = self._processor(text=texts, images=pictures, **options)
        else:
            inputs = self._processor(
                text=texts,
                videos=[frames for frames, _ in chosen],
                do_sample_frames=False,
                video_metadata=[
                    metadata(frames, times, clip.duration_seconds)
                    for clip, (frames, times) in zip(clips, chosen, strict=True)
                ],
                **options,
            )
        return {name: value for name, value in inputs.items() if name != "video_metadata"}


class StackInputs:
    """Way 3, GIT: pixel values of (B, F, 3, H, W), and the prompt behind the token that begins a caption."""

    single_frames = False
    mixed_prompts = False  # its positions are absolute and know of no padding

    def __init__(self, processor: Any, frames: int) -> None:
        self._processor = processor
        self._frames = frames

    def __call__(self, clips: Sequence[PromptedClip]) -> Mapping[str, Any]:
        frames = [picture(frame) for clip in clips for frame in fitted(clip, self._frames)[0]]
        pixels = self._processor(images=frames, return_tensors="pt")["pixel_values"]
        tokens = [begun(self._processor.tokenizer, clip.prompt) for clip in clips]
        return {
            "pixel_values": pixels.reshape(len(clips), self._frames, *pixels.shape[1:]),
            "input_ids": torch.tensor(tokens),
            "attention_mask": torch.ones(len(tokens), len(tokens[0]), dtype=torch.long),
        }


class VideoInputs:
    """Way 3, InstructBLIPVideo: so many frames a clip, and the prompt, which its Q-Former reads too."""

    single_frames = False
    mixed_prompts = False

    def __init__(self, processor: Any, frames: int) -> None:
        self._processor = processor
        self._frames = frames

    def __call__(self, clips: Sequence[PromptedClip]) -> Mapping[str, Any]:
        videos = [fitted(clip, self._frames)[0] for clip in clips]
        texts = [clip.prompt for clip in clips]
        return dict(self._processor(images=videos, text=texts, padding=True, return_tensors="pt"))


class PictureInputs:
    """Way 4: one picture a clip, and the prompt where there is one."""

    single_frames = True
    mixed_prompts = False

    def __init__(self, processor: Any, *, is_git: bool) -> None:
        self._processor, self._is_git = processor, is_git

    def __call__(self, clips: Sequence[PromptedClip]) -> Mapping[str, Any]:
        pictures = [picture(frame) for clip in clips for frame in clip.frames]
        prompt = clips[0].prompt
        if self._is_git:
            tokens = begun(self._processor.tokenizer, prompt)
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            return {"pixel_values": pixels, "input_ids": torch.tensor([tokens] * len(clips))}
        texts = {"text": [clip.prompt for clip in clips], "padding": True} if prompt else {}
        return dict(self._processor(images=pictures, return_tensors="pt", **texts))


def begun(tokenizer: Any, prompt: str) -> list[int]:
    """The tokens that a caption of GIT goes on from."""
    return [tokenizer.cls_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]


def fitted(clip: PromptedClip, frames: int) -> tuple[NDArray[np.uint8], list[float]]:
    """(frames, H, W, 3) and their times: a clip that has fewer shows some of its frames again, in order."""
    have = len(clip.frames)
    chosen = [place * have // frames for place in range(frames)]
    if chosen == list(range(have)):
        return clip.frames, list(clip.timestamps_seconds)
    return clip.frames[chosen], [clip.timestamps_seconds[place] for place in chosen]


def picture(frame: NDArray[np.uint8]) -> Any:
    """One frame as processors of pictures take it."""
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(frame))


def metadata(
    frames: NDArray[np.uint8], times: Sequence[float], duration_seconds: float | None = None
) -> dict[str, Any]:
    """What a video processor is told of frames that are chosen already.

    It takes the rate of the frames from their number and that of all frames, `total_num_frames`: one mean distance for
    every frame.
    """
    ticks = [round(time * TICKS) for time in times]
    distance = (ticks[-1] - ticks[0]) / (len(ticks) - 1) if len(ticks) > 1 else 0.0
    total = max(round(distance * len(ticks)), 1)
    height, width = frames.shape[1:3]
    return {
        "total_num_frames": total,
        "fps": float(TICKS),
        "width": width,
        "height": height,
        "duration": max(duration_seconds or total / TICKS, times[-1]),
        "frames_indices": ticks,
    }
