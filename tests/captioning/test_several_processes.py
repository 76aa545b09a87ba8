"""Several processes make the captions that one makes, and leave one file; their models and decoders are the fakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from evlgen.captioning import CaptionRequest, Listener, caption_videos, several_processes
from evlgen.captioning.video_shards import VideoShard
from evlgen.errors import EvlgenError, UsageError
from tests.captioning import fakes

WORK = several_processes._work


def work_with_fakes(*arguments: Any) -> None:
    """What a process does here; it is started from nothing, so that the fakes must be put in again."""
    fakes.install(setattr, fakes.FakeCaptioner())
    WORK(*arguments)


def captions(path: Path) -> dict[str, str]:
    return {row["video"]: row["caption"] for row in fakes.rows_of(path)}


def test_two_processes_make_what_one_makes(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several_processes, "_work", work_with_fakes)
    fakes.write_video(videos / "broken.mp4", "none", fail="decode-error")
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    caption_videos(CaptionRequest([str(videos)], whole))

    # what a killed run of three processes left in the file of a part is not made again
    (left,) = (row for row in fakes.rows_of(whole) if row["video"] == "clip2.mp4")
    part = next(shard for shard in (VideoShard(index, 3) for index in range(3)) if shard.holds("clip2.mp4"))
    part.path_of(out).write_text(json.dumps({**left, "caption": "made before the kill"}) + "\n")

    heard: list[str] = []
    listener = Listener()
    listener.on_row = lambda row: heard.append(row.label)  # type: ignore[method-assign]
    request = CaptionRequest([str(videos)], out)
    summary = several_processes.caption_in_parts(request, listener, processes=2)
    assert sorted(heard) == sorted(set(captions(whole)) - {"clip2.mp4"})
    assert (summary.ok, summary.failed, summary.planned) == (5, {"decode-error": 1}, 6)
    assert captions(out) == {**captions(whole), "clip2.mp4": "made before the kill"}
    assert [path.name for path in tmp_path.glob("out*")] == ["out.jsonl"]
    assert several_processes.caption_in_parts(request, Listener(), processes=2).planned == 0


def test_what_others_wrote_is_kept_when_one_is_killed(
    tmp_path: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several_processes, "_work", die_or_work)
    names = [f"{number}.mp4" for number in range(8)]
    for name in names:
        fakes.write_video(tmp_path / "videos" / name, name)
    request = CaptionRequest([str(tmp_path / "videos")], tmp_path / "out.jsonl")
    with pytest.raises(EvlgenError, match="process 1 of 2 ended with exit code 7"):
        several_processes.caption_in_parts(request, Listener(), processes=2)
    assert set(captions(tmp_path / "out.jsonl")) == {name for name in names if VideoShard(0, 2).holds(name)}


def die_or_work(request: CaptionRequest, *arguments: Any) -> None:
    """The second process ends at once."""
    if request.shard == VideoShard(1, 2):
        raise SystemExit(7)
    work_with_fakes(request, *arguments)


def test_processes_need_an_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--processes needs --out"):
        several_processes.caption_in_parts(CaptionRequest([str(tmp_path)]), processes=2)
    with pytest.raises(UsageError, match="--processes cannot read standard input"):
        several_processes.caption_in_parts(CaptionRequest(["-"], tmp_path / "out.jsonl"), processes=2)
