"""What is special about decoding with the machine's own ffmpeg program: other builds, hangs, crashes, what is missing.

Stand-ins for a user's ffmpeg are shell scripts; the contract that all backends share is in test_decoding.py.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from evlgen.errors import EvlgenError, UsageError
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler, backends
from evlgen.video.content_fingerprint import content_fingerprint
from tests.video.conftest import SOUND
from tests.video.test_decoding import decode, need

GetClip = Callable[[str], Path]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


@pytest.fixture(autouse=True)
def _binary() -> None:
    need("ffmpeg")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program called ffmpeg first in the path; "$REAL" is the real one, which answers for the version."""

    def make(script: str) -> None:
        monkeypatch.setenv("REAL", backends.find_ffmpeg())
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\ncase "$*" in *-version) exec "$REAL" "$@";; esac\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return make


def through_the_pool(path: Path, sampler: Sampler, timeout_seconds: float = 60.0) -> ClipFrames | DecodeFailure:
    with DecodePool(1, timeout_seconds, "ffmpeg", sampler) as pool:
        return next(pool.map([path]))


@pytest.mark.parametrize("name", SOUND)
def test_pictures_and_facts_are_those_of_pyav(name: str, clip: GetClip) -> None:
    ours, theirs = (decode(clip(name), Sampler("head-tail", 4), backend) for backend in ("ffmpeg", "pyav"))
    assert isinstance(ours, ClipFrames)
    assert isinstance(theirs, ClipFrames)
    assert ours.info == theirs.info
    # Equal with the same FFmpeg inside; other versions may round colours differently, by a level here and there.
    assert np.abs(ours.frames.astype(int) - theirs.frames).mean() < 1.0


def test_more_frames_than_terms_of_the_expression(clip: GetClip, monkeypatch: pytest.MonkeyPatch) -> None:
    from evlgen.video import ffmpeg_backend

    assert ffmpeg_backend._ranges([5]) == [(5, 5)]
    monkeypatch.setattr(ffmpeg_backend, "MOST_RANGES", 3)
    assert ffmpeg_backend._ranges([0, 1, 9, 10, 11, 30]) == [(0, 1), (9, 11), (30, 30)]
    result = decode(clip("vfr.mp4"), Sampler("fps", fps=Fraction(2)), "ffmpeg")
    expected = decode(clip("vfr.mp4"), Sampler("fps", fps=Fraction(2)))
    assert isinstance(result, ClipFrames)
    assert isinstance(expected, ClipFrames)
    assert len(result.indices) > 3
    assert (result.indices, result.warnings) == (expected.indices, ())


def test_a_codec_that_only_the_users_build_can_decode(
    clip: GetClip, tmp_path: Path, stand_in: Callable[[str], None]
) -> None:
    # PyAV's FFmpeg has no decoder for AVS3; the stand-in is a build whose AVS3 decoder understands H.264.
    head, _, tail = clip("cfr.mp4").read_bytes().rpartition(b"avc1")
    path = tmp_path / "avs3.mp4"
    path.write_bytes(head + b"avs3" + tail)
    stand_in('exec "$REAL" -c:v h264 "$@"')
    refused = decode(path, Sampler("head-tail", 3))
    result = through_the_pool(path, Sampler("head-tail", 3))
    expected = decode(clip("cfr.mp4"), Sampler("head-tail", 3))
    assert isinstance(refused, DecodeFailure)
    assert refused.kind == "no-video-stream"
    assert isinstance(result, ClipFrames), result
    assert isinstance(expected, ClipFrames)
    assert (result.indices, result.timestamps, result.warnings) == (expected.indices, expected.timestamps, ())
    assert (result.info.codec, result.info.width, result.info.height) == ("unknown", 128, 64)
    assert np.abs(result.frames.astype(int) - expected.frames).mean() < 1.0


def test_a_program_that_crashes_costs_its_file_and_is_named(clip: GetClip, stand_in: Callable[[str], None]) -> None:
    stand_in("kill -SEGV $$")
    path = clip("cfr.mp4")
    result = through_the_pool(path, Sampler())
    message = f"{path}: no frame could be decoded: ffmpeg was ended by signal 11"
    assert result == DecodeFailure(path, "decode-error", message, content_fingerprint(path))


@pytest.mark.slow
@pytest.mark.parametrize("end", ["deadline", "killed child"])
def test_ffmpeg_dies_with_the_child(end: str, clip: GetClip, tmp_path: Path, stand_in: Callable[[str], None]) -> None:
    if end == "killed child" and sys.platform != "linux":
        pytest.skip("only Linux tells a program that its parent was killed")
    stand_in(f"echo $$ > '{tmp_path}/pid.new'; mv '{tmp_path}/pid.new' '{tmp_path}/pid'; exec sleep 600")
    with DecodePool(1, 3.0 if end == "deadline" else 60.0, "ffmpeg") as pool:
        child = pool._ready_child(0)
        if end == "killed child":
            import threading

            threading.Thread(target=_kill_when_there, args=(child.pid, tmp_path / "pid"), daemon=True).start()
        (failure,) = pool.map([clip("cfr.mp4")])
        assert isinstance(failure, DecodeFailure)
        assert failure.kind == ("timeout" if end == "deadline" else "crashed")
        pid = int((tmp_path / "pid").read_text())
        assert _gone_within(5.0, pid)


def _kill_when_there(pid: int, sign: Path) -> None:
    while not sign.exists():
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)


def _gone_within(seconds: float, pid: int) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_no_program_is_an_error_that_names_both_ways_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        DecodePool(backend="ffmpeg")
    assert str(caught.value) == (
        "backend ffmpeg finds no ffmpeg program: install ffmpeg with the system's package manager, "
        "or run pip install imageio-ffmpeg"
    )


def test_another_package_called_ffmpeg_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ffmpeg.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with DecodePool(1, 30.0, "ffmpeg") as pool, pytest.raises(EvlgenError) as caught:
        next(pool.map(["a.mp4"]))
    assert str(caught.value) == (
        "the module ffmpeg that is imported is not ffmpeg-python's: the package ffmpeg shadows it "
        "(pip uninstall ffmpeg ffmpeg-python, then pip install ffmpeg-python)"
    )
