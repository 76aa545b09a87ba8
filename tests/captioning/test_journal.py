"""The output file survives what happens to files: torn ends, foreign content, a full disk, a second writer."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from evlgen.captioning import (
    CaptionRequest,
    CaptionRow,
    JournalError,
    Listener,
    caption_videos,
    plan_captions,
    read_captions,
)
from evlgen.captioning import journal as journal_module
from evlgen.captioning.journal import Journal, read_state
from evlgen.errors import UsageError

from . import fakes


def row(video: str = "a.mp4", **changes: Any) -> CaptionRow:
    values: dict[str, Any] = {
        "video": video,
        "status": "ok",
        "caption": "a dog",
        "log_probability": -1.0,
        "token_count": 3,
        "alternatives": (),
        "tags": (),
        "frame_indices": (0, 5),
        "timestamps_seconds": (0.0, 1 / 3),
        "duration_seconds": 2.0,
        "model": "m",
        "model_hash": "h",
        "settings_hash": "s",
        "settings": {"frames": 2},
        "fingerprint": "1-ab",
        "root": None,
        "error": None,
        "warnings": (),
        "seconds": 0.12345,
    }
    return CaptionRow(**{**values, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "captions.jsonl"


def test_a_line_is_written_as_specified(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(row())
    assert path.read_text() == (
        '{"video": "a.mp4", "status": "ok", "caption": "a dog", "log_probability": -1.0, "token_count": 3, '
        '"frame_indices": [0, 5], "timestamps_seconds": [0.0, 0.333333], "duration_seconds": 2.0, "model": "m", '
        '"model_hash": "h", "settings_hash": "s", "settings": {"frames": 2}, "fingerprint": "1-ab", "error": null, '
        '"warnings": [], "seconds": 0.123, "format": 1}\n'
    )


@pytest.mark.parametrize("name", ["emoji 🎬.mp4", "line\nbreak\u2028.mp4", 'quote".mp4', "caf\udce9.mp4"])
def test_any_name_survives(path: Path, name: str) -> None:
    with Journal(path) as journal:
        journal.append(row(name))
        journal.append(row("b.mp4"))
    assert list(read_captions(path)) == [name, "b.mp4"]


def test_what_is_not_a_number_is_null(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(row(log_probability=float("nan"), seconds=float("inf")))
    written = read_captions(path)["a.mp4"]
    assert (written["log_probability"], written["seconds"]) == (None, None)


def test_the_last_line_of_a_video_counts(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(row(caption="first"))
        journal.append(row("b.mp4"))
        journal.append(row(caption="second", settings_hash="t"))
    assert [one["caption"] for one in read_captions(path).values()] == ["second", "a dog"]
    state = read_state(path)
    assert (state.entries["a.mp4"].settings_hash, state.lines) == ("t", 3)


def test_a_tear_anywhere_costs_at_most_the_torn_line(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(row("a.mp4"))
        journal.append(row("b.mp4", caption="ein Hündchen 🐕"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    near_the_ends = {*range(12), *range(first - 8, first + 12), *range(len(whole) - 8, len(whole))}
    for length in sorted({*range(0, len(whole), 17), *near_the_ends}):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            expected = ["a.mp4"] * (length >= first - 1) + ["b.mp4"] * (length >= len(whole) - 1)
            assert list(journal.state.entries) == expected
            journal.append(row("c.mp4"))
        assert [one["video"] for one in fakes.rows_of(path)] == [*expected, "c.mp4"]


def test_a_tail_of_zeros_after_a_power_cut_is_cut_off(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(row("a.mp4"))
    with path.open("ab") as file:
        file.write(bytes(500))
    with Journal(path) as journal:
        assert journal.state.torn
    assert [one["video"] for one in fakes.rows_of(path)] == ["a.mp4"]


def test_damaged_lines_in_the_middle_are_left_alone(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(row("a.mp4"))
    with path.open("ab") as file:
        file.write(b'{"video": "x.mp4", "sta\n\xff\xfe\n[1]\n' + b"[" * 100_000 + b"\n" + b"9" * 10_000 + b"\n")
    before = path.read_bytes()
    with Journal(path) as journal:
        assert (journal.state.bad_lines, list(journal.state.entries)) == (5, ["a.mp4"])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"my thesis", b"my thesis\n", b'{"a": 1}\n', b"\x00\x00\x00\x18ftypmp42" + b"x" * 90]
)
def test_a_file_that_is_something_else_is_not_touched(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UsageError, match="exists and is not a caption file; nothing was changed"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_folder_or_a_device_is_not_an_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        Journal(tmp_path)
    with pytest.raises(UsageError, match="is not a plain file"):
        Journal(Path(os.devnull))


def test_a_second_writer_is_refused_until_the_first_is_done(path: Path) -> None:
    with Journal(path) as first:
        with pytest.raises(JournalError, match="is being written by another evlgen run"):
            Journal(path)
        first.append(row())
    with Journal(path) as second:
        assert list(second.state.entries) == ["a.mp4"]


class FullDisk:
    """`os` of a machine whose disk takes so many bytes and then no more."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: Any) -> int:
        if self.free_bytes == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, bytes(data)[: self.free_bytes])
        self.free_bytes -= written
        return written


def test_a_full_disk_stops_the_run_and_loses_nothing(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = CaptionRequest([str(videos)], tmp_path / "out.jsonl", batch_size=2)
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "os", FullDisk(free_bytes=2000))
        with pytest.raises(JournalError, match=r"out\.jsonl: No space left on device \(every caption so far is safe"):
            caption_videos(request)
    kept = [one["video"] for one in fakes.rows_of(tmp_path / "out.jsonl")]
    assert 1 < len(kept) < 6
    assert caption_videos(request).done_before == len(kept)
    assert len(fakes.rows_of(tmp_path / "out.jsonl")) == 6


def test_an_output_that_is_deleted_meanwhile_is_noticed(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner
) -> None:
    out = tmp_path / "out.jsonl"

    class Deleter(Listener):
        def on_row(self, row: CaptionRow) -> None:
            out.unlink()

    with pytest.raises(JournalError, match="was removed or replaced while this run was writing to it"):
        caption_videos(CaptionRequest([str(videos)], out), Deleter())


def test_lines_of_before_formats_count_and_lines_of_a_newer_one_are_refused(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner
) -> None:
    out = tmp_path / "out.jsonl"
    request = CaptionRequest([str(videos)], out)
    caption_videos(request)
    old = [{key: value for key, value in row.items() if key != "format"} for row in fakes.rows_of(out)]
    out.write_text("".join(json.dumps(row) + "\n" for row in old))
    assert caption_videos(request).finished == 0

    newer = out.read_text() + json.dumps({**old[0], "format": 2}) + "\n"
    out.write_text(newer)
    for read in (caption_videos, plan_captions, lambda request: read_captions(request.out)):
        with pytest.raises(UsageError, match=r"holds lines of format 2, written by a newer evlgen; this one reads 1"):
            read(request)
    assert out.read_text() == newer
