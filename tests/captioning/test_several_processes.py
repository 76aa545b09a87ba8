"""Several processes make the captions that one makes, and leave one file; their models and decoders are the fakes."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
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


def say_which_gpu(request: CaptionRequest, *arguments: Any) -> None:
    """Each process writes down what it sees."""
    assert request.out is not None
    seen = [request.device, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]]
    request.out.with_name(f"{request.shard}".replace("/", "-of-")).write_text(" ".join(seen))
    work_with_fakes(request, *arguments)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """As much of torch.cuda as is asked how many GPUs there are."""
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return cuda


def test_each_process_sees_one_gpu(
    tmp_path: Path,
    videos: Path,
    captioner: fakes.FakeCaptioner,
    monkeypatch: pytest.MonkeyPatch,
    two_gpus: SimpleNamespace,
) -> None:
    assert several_processes._gpus("auto") == ["0", "1"]
    monkeypatch.setattr(several_processes, "_work", say_which_gpu)
    monkeypatch.setattr(several_processes, "usable_cpus", lambda: 12)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1,7")  # of these, torch finds two
    several_processes.caption_in_parts(CaptionRequest([str(videos)], tmp_path / "out.jsonl"), processes=3)
    said = [(tmp_path / f"{index}-of-3").read_text() for index in range(3)]
    assert said == ["cuda 3 4", "cuda GPU-1 4", "cuda 3 4"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3, GPU-1,7", "this process sees what it saw"


def test_processes_that_others_started_take_gpus_in_turn(two_gpus: SimpleNamespace) -> None:
    own = several_processes.gpu_of_its_own
    assert [own("auto", {"LOCAL_RANK": str(number)}) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert own("cuda", {"SLURM_LOCALID": "1"}) == "cuda:1"
    assert own("cuda:0", {"LOCAL_RANK": "1"}) == "cuda:0"
    assert own("cpu", {"LOCAL_RANK": "1"}) == "cpu"
    assert own("auto", {"JOB_COMPLETION_INDEX": "1"}) == "auto"
    two_gpus.device_count = lambda: 1  # as Slurm's --gpus-per-task gives it
    assert own("auto", {"SLURM_LOCALID": "1"}) == "auto"


def test_processes_need_an_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--processes needs --out"):
        several_processes.caption_in_parts(CaptionRequest([str(tmp_path)]), processes=2)
    with pytest.raises(UsageError, match="--processes cannot read standard input"):
        several_processes.caption_in_parts(CaptionRequest(["-"], tmp_path / "out.jsonl"), processes=2)
