"""Pictures and videos in every shape that people hold them in give the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from tests.video.video_clips import write_clip

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


def normalised(frames: np.ndarray) -> torch.Tensor:
    """By hand: the tiny tower's mean and deviation are 0.5."""
    return torch.from_numpy((frames.astype(np.float32) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)[None]


@pytest.mark.parametrize(
    "videos",
    [
        FRAMES,
        [FRAMES],
        FRAMES[None],
        torch.from_numpy(FRAMES),
        torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
        FRAMES.astype(np.float32) / 255,
        [Image.fromarray(frame) for frame in FRAMES],
        [list(FRAMES)],
    ],
    ids=["array", "list", "batch", "tensor", "channels-first", "floats", "pil", "list-of-lists"],
)
def test_a_video_in_any_shape(model: EVLGenForConditionalGeneration, videos: Any) -> None:
    inputs = model.processor(videos=videos)
    torch.testing.assert_close(inputs["pixel_values"], normalised(FRAMES))


def test_pictures_in_any_shape(model: EVLGenForConditionalGeneration, tmp_path: Path) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    one, rgba = Image.fromarray(FRAMES[0]), Image.fromarray(FRAMES[1]).convert("RGBA")
    moved = torch.from_numpy(FRAMES[2]).permute(2, 0, 1)
    inputs = model.processor(images=[one, rgba, moved, tmp_path / "a.png"], text="a", return_tensors="pt")
    want = torch.cat([normalised(FRAMES[place : place + 1]) for place in (0, 1, 2, 0)])
    torch.testing.assert_close(inputs["pixel_values"], want)
    torch.testing.assert_close(model.processor([one, rgba, moved, str(tmp_path / "a.png")]), want)
    torch.testing.assert_close(model.processor(one), want[:1])
    torch.testing.assert_close(model.processor(images=FRAMES)["pixel_values"], want[:3])
    output = model.generate(**inputs, num_beams=2, max_length=4)
    assert output.texts == model.generate(want, prompt="a", num_beams=2, max_new_tokens=4).texts


def test_a_file_is_decoded_as_captioning_decodes_it(model: EVLGenForConditionalGeneration, tmp_path: Path) -> None:
    from evlgen.video import ClipFrames, DecodePool, Sampler

    write_clip(tmp_path / "a.mp4")
    with DecodePool(1, sampler=Sampler(frames=3), size=(48, 48)) as pool:
        clip = pool.decode(tmp_path / "a.mp4")
    assert isinstance(clip, ClipFrames)
    found = model.processor(videos=[str(tmp_path / "a.mp4"), tmp_path / "a.mp4"])["pixel_values"]
    torch.testing.assert_close(found, normalised(clip.frames).expand(2, -1, -1, -1, -1))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": np.zeros((4, 4, 4), np.uint8)}, r"shape \(4, 4, 4\) is no picture or video"),
        ({"images": np.full((4, 4, 3), -1.0)}, "values of a picture are -1 to -1, floats are expected to be 0 to 1"),
        ({"images": np.zeros((4, 4, 3), np.int64)}, "pictures of int64 are not known"),
        ({"images": {}}, "dict is no picture or video"),
        ({"images": "https://example.org/a.png"}, "addresses are not fetched"),
        ({"images": "nothing.png"}, "nothing.png"),
        ({"videos": [[FRAMES, FRAMES]]}, "holds pictures, not videos"),
        ({"videos": [FRAMES, FRAMES[:1]]}, r"a batch needs clips of one frame count, got \[1, 3\]"),
        ({"videos": []}, r"one frame count, got \[\]"),
        ({"videos": [[]]}, "a video without a frame"),
        ({"images": FRAMES, "videos": FRAMES}, "one of them"),
        ({}, "one of them"),
        ({"images": FRAMES, "return_tensors": "np"}, "return_tensors='np' is not known"),
    ],
)
def test_what_is_no_picture_is_one_line(model: EVLGenForConditionalGeneration, given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        model.processor(**given)
    assert "\n" not in str(caught.value)
