"""What strangers' files may use: pixels in a frame, and memory of the child that decodes."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler

from .bombs import png_bomb

GetClip = Callable[[str], Path]
MEGABYTES = 1 << 20


def test_larger_frames_are_refused_before_they_are_decoded(clip: GetClip, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_bomb(12_000))
    film = clip("cfr.mp4")
    with DecodePool(1, sampler=Sampler(frames=1)) as pool:
        whole = pool.decode(film)
    assert isinstance(whole, ClipFrames)
    _, height, width, _ = whole.frames.shape
    with DecodePool(1, sampler=Sampler(frames=1), most_pixels=width * height) as pool:
        assert isinstance(pool.decode(film), ClipFrames), "as many as allowed"
        refused = pool.decode(bomb)
    with DecodePool(1, sampler=Sampler(frames=1), most_pixels=width * height - 1) as pool:
        one_more = pool.decode(film)
    for found, path in ((refused, bomb), (one_more, film)):
        assert isinstance(found, DecodeFailure)
        assert found.kind == "too-large"
        assert found.message.startswith(f"{path}: more than ")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit address space")
def test_what_needs_more_memory_than_there_is_fails_alone(clip: GetClip, tmp_path: Path) -> None:
    """160 million pixels pass Pillow's own limit, and are 480 MB in RGB."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_bomb(12_600))
    with DecodePool(1, sampler=Sampler(frames=1), most_memory_bytes=900 * MEGABYTES) as pool:
        found = pool.decode(bomb)
        assert isinstance(found, DecodeFailure)
        assert found.message == f"{bomb}: not enough memory to decode it"
        assert isinstance(pool.decode(clip("cfr.mp4")), ClipFrames)
