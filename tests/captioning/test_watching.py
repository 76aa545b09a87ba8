"""New and changed files are captioned as they come, whole, once, with one model."""

import os
import threading
import time
from pathlib import Path

import pytest

from evlgen.captioners import evlgen_captioner
from evlgen.captioning import CaptionRequest, Video
from evlgen.captioning.watching import _state_of, watch
from evlgen.errors import UsageError
from tests.captioning import fakes


def old(path: Path) -> Path:
    """Let a file look as if it had been written a minute ago."""
    os.utime(path, (time.time() - 60,) * 2)
    return path


def test_files_are_captioned_as_they_come(
    tmp_path: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    monkeypatch.setattr(evlgen_captioner, "load_captioner", lambda model, *_, **__: (loads.append(model), captioner)[1])
    folder, out, stop = tmp_path / "videos", tmp_path / "out.jsonl", threading.Event()
    folder.mkdir()
    request = CaptionRequest([str(folder)], out)
    rounds = watch(request, stop, 0.05)
    fakes.write_video(folder / "a.mp4", "one")
    old(folder / "a.mp4")
    assert next(rounds)(request, None, stop).ok == 1

    fakes.write_video(folder / "b.mp4", "two")
    old(folder / "b.mp4")
    assert next(rounds)(request, None, stop).ok == 1
    assert [row["video"] for row in fakes.rows_of(out)] == ["a.mp4", "b.mp4"]

    fakes.write_video(folder / "a.mp4", "one, changed")
    os.utime(folder / "a.mp4", (time.time() - 30,) * 2)
    while "one, changed" not in (said := [row["caption"] for row in fakes.rows_of(out)]):
        next(rounds)(request, None, stop)
    assert said.count("two") == 1
    assert len(loads) == 1
    stop.set()
    assert next(rounds, None) is None


def test_a_file_that_is_being_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"12345")
    now = path.stat().st_mtime
    for age, whole in ((1, False), (9, False), (11, True), (-3600, True)):  # the last: a clock that goes wrong
        os.utime(path, (now - age,) * 2)
        assert (_state_of(Video("clip.mp4", path), 10) is not None) is whole, age
    path.unlink()
    assert _state_of(Video("clip.mp4", path), 10) is None


def test_watching_needs_an_output_and_something_to_read_again(tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(UsageError, match="--watch needs --out"):
        next(watch(CaptionRequest([str(tmp_path)]), stop, 1))
    with pytest.raises(UsageError, match="cannot read standard input again"):
        next(watch(CaptionRequest(["-"], tmp_path / "out.jsonl"), stop, 1))
    with pytest.raises(UsageError, match="no such file"):
        next(watch(CaptionRequest([str(tmp_path / "none")], tmp_path / "out.jsonl"), stop, 1))
