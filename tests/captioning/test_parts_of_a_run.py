"""Parts of the videos: what `--shard` may say, that every video is in one part, and that parts make the whole."""

import json
from pathlib import Path

import pytest

from evlgen.captioning import CaptionRequest, caption_videos, plan_captions
from evlgen.captioning.joining import join_journals
from evlgen.captioning.video_shards import VideoShard
from evlgen.errors import UsageError
from evlgen.exports import Outputs, caption_and_export
from tests.captioning import fakes

ENVIRONMENTS = {
    "torchrun": ({"RANK": "2", "WORLD_SIZE": "4"}, "auto"),
    "a Slurm array from 1": (
        {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"},
        "auto",
    ),
    "srun": ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, "auto"),
    "Kubernetes": ({"JOB_COMPLETION_INDEX": "2"}, "auto/4"),
    "torchrun in a Slurm job of one task": (
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "RANK": "2", "WORLD_SIZE": "4"},
        "auto",
    ),
    "nothing": ({}, "2/4"),
}


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_who_numbers_this_process(case: str) -> None:
    environment, text = ENVIRONMENTS[case]
    assert VideoShard.parse(text, environment) == VideoShard(2, 4)


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("4/4", {}, "--shard 4/4: part 4 of 4 is not one of 0 to 3"),
        ("0/0", {}, "part 0 of 0"),
        ("first", {}, "--shard first is no part"),
        ("-1/4", {}, "--shard -1/4 is no part"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "finds none of RANK and WORLD_SIZE"),
        ("auto", {"RANK": "4", "WORLD_SIZE": "4"}, "from torchrun: part 4 of 4"),
    ],
)
def test_what_is_no_part(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        VideoShard.parse(text, environment)


def test_every_video_is_in_one_part_and_parts_are_even() -> None:
    names = [f"folder {number % 7}/clip{number}.mp4" for number in range(7000)] + ["\udcff.mp4"]
    held = [[name for name in names if VideoShard(index, 7).holds(name)] for index in range(7)]
    assert sorted(name for one in held for name in one) == sorted(names)
    assert all(900 < len(one) < 1100 for one in held)  # 1000 with a deviation of 29


def _plain(path: Path) -> list[str]:
    return sorted(json.dumps({**row, "seconds": 0}, sort_keys=True) for row in fakes.rows_of(path))


def _run(videos: Path, out: Path, **options: object) -> None:
    caption_videos(CaptionRequest([str(videos)], out, **options))  # type: ignore[arg-type]


def test_merged_parts_are_the_run_of_one(tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner) -> None:
    parts = [VideoShard(index, 3) for index in range(3)]
    whole, out = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    _run(videos, whole)
    for part in parts:
        _run(videos, out, shard=part)
    joined = join_journals([part.path_of(out) for part in parts], out)
    assert (joined.videos, joined.failed, joined.twice) == (6, 0, 0)
    assert _plain(out) == _plain(whole)
    names = [row["video"] for row in fakes.rows_of(out)]
    assert names == ["clip1.mp4", "clip2.mp4", "clip10.mp4", "sub/clip1.mp4", "sub/clip3.mkv", "sub/deep/clip1.webm"]

    # what the whole holds is done for every part, however many there are now
    assert not plan_captions(CaptionRequest([str(videos)], out, shard=VideoShard(0, 2))).work
    fakes.write_video(videos / "new.mp4", "new")
    (part,) = (one for one in (VideoShard(0, 2), VideoShard(1, 2)) if one.holds("new.mp4"))
    assert [item.name for item in plan_captions(CaptionRequest([str(videos)], out, shard=part)).work] == ["new.mp4"]


def test_a_caption_stays_before_a_failure_and_a_hand_before_both(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner
) -> None:
    good, bad, out = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    _run(videos, good)
    rows = fakes.rows_of(good)
    failed = {**rows[0], "status": "error", "caption": None, "error": {"kind": "timeout", "message": "late"}}
    by_hand = {**rows[1], "caption": "by hand", "edited": True}
    bad.write_text("".join(json.dumps(row) + "\n" for row in (failed, by_hand)))
    for order in ([good, bad], [bad, good]):
        out.unlink(missing_ok=True)
        joined = join_journals(order, out)
        captions = {row["video"]: row["caption"] for row in fakes.rows_of(out)}
        assert (joined.videos, joined.failed, joined.twice) == (6, 0, 2)
        assert captions["clip1.mp4"] == "caption of clip1.mp4"
        assert captions["clip2.mp4"] == "by hand"


def test_folders_are_told_as_seen_from_the_new_file(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner
) -> None:
    _run(videos, tmp_path / "a" / "one.jsonl")
    join_journals([tmp_path / "a" / "one.jsonl"], tmp_path / "b" / "c" / "all.jsonl")
    assert {row["root"] for row in fakes.rows_of(tmp_path / "b" / "c" / "all.jsonl")} == {"../../videos"}

    fakes.write_video(tmp_path / "other" / "clip1.mp4", "another")
    _run(tmp_path / "other", tmp_path / "a" / "two.jsonl")
    with pytest.raises(UsageError, match=r"clip1.mp4 is a file of two folders, \.\./videos in .* and \.\./other in"):
        join_journals([tmp_path / "a" / "one.jsonl", tmp_path / "a" / "two.jsonl"], tmp_path / "a" / "all.jsonl")


def test_a_part_has_sidecars_and_no_table(tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner) -> None:
    request = CaptionRequest([str(videos)], shard=VideoShard(0, 2), out=tmp_path / "out.jsonl")
    caption_and_export(request, Outputs.of(tmp_path / "out.jsonl", "txt"))
    names = [row["video"] for row in fakes.rows_of(VideoShard(0, 2).path_of(tmp_path / "out.jsonl"))]
    assert sorted(path.relative_to(videos).with_suffix("").as_posix() for path in videos.rglob("*.txt")) == sorted(
        name.rpartition(".")[0] for name in names
    )
    with pytest.raises(UsageError, match="is made of all videos, and --shard 0/2 captions a part"):
        caption_and_export(request, Outputs.of(tmp_path / "out.csv"))


def test_what_is_no_caption_file_is_not_merged(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(UsageError, match=r"notes\.txt holds no captions"):
        join_journals([tmp_path / "notes.txt"], tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="no such file"):
        join_journals([tmp_path / "missing.jsonl"], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
