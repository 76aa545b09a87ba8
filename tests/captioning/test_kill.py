"""kill -9 at any moment, again and again: no video is lost, none is captioned twice, no line is broken.

The runs are forked children with the fakes in place; every line trickles to the disk in small pieces, so that many
kills hit the middle of one.
"""

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evlgen.captioning import CaptionRequest, caption_videos

from . import fakes

VIDEOS = 12

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dozen videos; one cannot be decoded, one breaks the model, one is partial."""
    for number in range(VIDEOS - 3):
        fakes.write_video(tmp_path / "v" / f"{number}.mp4", f"caption {number} 🎬")
    fakes.write_video(tmp_path / "v" / "bad.mp4", fail="decode-error")
    fakes.write_video(tmp_path / "v" / "culprit.mp4", **{"raise": "device fault"})
    fakes.write_video(tmp_path / "v" / "partial.mp4", partial=True)
    return tmp_path / "v"


def _child(request: CaptionRequest) -> None:
    fakes.slow_writes(setattr, chunk_bytes=97, pause_seconds=0.0002)
    caption_videos(request)
    os._exit(0)  # not through pytest


def run_and_kill(request: CaptionRequest, after_bytes: int) -> None:
    """Kill when the output has grown by so much: a moment that does not depend on how fast the machine is."""
    assert request.out is not None
    target = after_bytes + (request.out.stat().st_size if request.out.exists() else 0)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(request,))
    process.start()
    while process.is_alive() and not (request.out.exists() and request.out.stat().st_size >= target):
        time.sleep(0.0002)
    process.kill()
    process.join()


def assert_complete(out: Path) -> None:
    rows = fakes.rows_of(out)
    assert len(rows) == VIDEOS
    assert len({row["video"] for row in rows}) == VIDEOS
    assert {row["video"] for row in rows if row["status"] == "error"} == {"bad.mp4", "culprit.mp4"}
    captions = {row["video"]: row["caption"] for row in rows}
    assert all(captions[f"{number}.mp4"] == f"caption {number} 🎬" for number in range(VIDEOS - 3))


@pytest.mark.parametrize("trajectories", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_over_and_over(folder: Path, tmp_path: Path, captioner: fakes.FakeCaptioner, trajectories: int) -> None:
    dice = random.Random(trajectories)
    torn = 0
    for trajectory in range(trajectories):
        out = tmp_path / f"{trajectory}.jsonl"
        request = CaptionRequest([str(folder)], out, batch_size=dice.randint(1, 5))
        safe: list[bytes] = []
        for _ in range(4):
            run_and_kill(request, dice.randint(0, 3000))
            written = out.read_bytes() if out.exists() else b""
            lines = written.split(b"\n")
            torn += lines.pop() != b""
            assert lines[: len(safe)] == safe, "what was written stays as it was"
            safe = lines
        caption_videos(request)
        assert_complete(out)
    assert torn > trajectories // 3, "the kills must hit the middle of lines for this test to mean anything"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), garbage=st.binary(max_size=3).filter(lambda data: b"\n" not in data))
def test_cut_anywhere(
    folder: Path, tmp_path: Path, captioner: fakes.FakeCaptioner, share: float, garbage: bytes
) -> None:
    whole = tmp_path / "whole.jsonl"
    if not whole.exists():
        caption_videos(CaptionRequest([str(folder)], whole))
    out = tmp_path / "cut.jsonl"
    content = whole.read_bytes()
    cut = content[: int(share * len(content))]
    out.write_bytes(cut + (garbage if cut.count(b"\n") else b""))
    summary = caption_videos(CaptionRequest([str(folder)], out))
    assert_complete(out)
    assert summary.finished <= VIDEOS - cut.count(b"\n")


def test_two_runs_on_one_output(folder: Path, tmp_path: Path, captioner: fakes.FakeCaptioner) -> None:
    out = tmp_path / "out.jsonl"
    for path in folder.iterdir():
        fakes.write_video(path, "slow", sleep=0.5)
    request = CaptionRequest([str(folder)], out, batch_size=1)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(request,))
    process.start()
    try:
        deadline = time.monotonic() + 10
        while not out.exists() or out.stat().st_size == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(fakes.journal.JournalError, match="is being written by another evlgen run"):
            caption_videos(request)
    finally:
        process.kill()
        process.join()
    for path in folder.iterdir():
        fakes.write_video(path, "quick")
    caption_videos(request)
    assert {row["video"] for row in fakes.rows_of(out)} == {path.name for path in folder.iterdir()}
