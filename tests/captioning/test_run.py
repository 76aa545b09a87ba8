"""What a run captions, what it skips, and what one bad video costs; with a fake decoder and model."""

import shutil
from pathlib import Path

import pytest

from evlgen.captioners import evlgen_captioner
from evlgen.captioning import (
    CaptionRequest,
    CaptionRow,
    Decision,
    Listener,
    ModelBrokenError,
    Plan,
    caption_videos,
    plan_captions,
)
from evlgen.captioning import clip_pipeline as pipeline_module
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError

from . import fakes

ALL = ["clip1.mp4", "clip2.mp4", "clip10.mp4", "sub/clip1.mp4", "sub/clip3.mkv", "sub/deep/clip1.webm"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "captions.jsonl"


class Ear(Listener):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.plans: list[Plan] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_plan(self, plan: Plan) -> None:
        self.plans.append(plan)


def test_every_video_gets_its_own_caption(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    summary = caption_videos(CaptionRequest([str(videos)], out, batch_size=4))
    rows = fakes.rows_of(out)
    assert [row["video"] for row in rows] == ALL
    assert all(row["caption"] == f"caption of {row['video']}" for row in rows)
    assert [len(batch) for batch in captioner.batches] == [4, 2]
    assert (summary.ok, summary.partial, summary.without_caption, summary.interrupted) == (6, 0, 0, False)
    assert rows[0] == {
        "video": "clip1.mp4",
        "status": "ok",
        "caption": "caption of clip1.mp4",
        "log_probability": -1.5,
        "token_count": 4,
        "frame_indices": [0, 1, 2, 3],
        "timestamps_seconds": [0.0, 0.5, 1.0, 1.5],
        "duration_seconds": 2.0,
        "model": "evlgen-mini",
        "model_hash": "hash-of-evlgen-mini",
        "settings_hash": rows[1]["settings_hash"],
        "settings": {
            "model": "evlgen-mini",
            "model_hash": "hash-of-evlgen-mini",
            "config_hash": "config",
            "frames": 4,
            "sampler": "uniform",
            "backend": "pyav",
            "strict": False,
            "num_beams": 3,
            "max_length": 30,
            "min_length": 0,
            "dtype": "float32",
        },
        "fingerprint": rows[0]["fingerprint"],
        "root": "videos",
        "error": None,
        "warnings": [],
        "seconds": rows[0]["seconds"],
        "format": 1,
    }


def test_a_second_run_does_nothing_and_loads_no_model(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    caption_videos(CaptionRequest([str(videos)], out))
    before = out.read_bytes()
    monkeypatch.setattr(fakes.evlgen_captioner, "load_captioner", None)
    summary = caption_videos(CaptionRequest([str(videos)], out, batch_size=1, workers=7, timeout_seconds=1))
    assert (summary.done_before, summary.finished) == (6, 0)
    assert out.read_bytes() == before


def test_only_new_and_changed_videos_are_done(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    caption_videos(CaptionRequest([str(videos)], out))
    fakes.write_video(videos / "clip0.mp4", "new")
    fakes.write_video(videos / "clip2.mp4", "changed")
    caption_videos(CaptionRequest([str(videos)], out))
    assert [(row["video"], row["caption"]) for row in fakes.rows_of(out)[6:]] == [
        ("clip0.mp4", "new"),
        ("clip2.mp4", "changed"),
    ]


def test_a_folder_may_move(videos: Path, out: Path, captioner: fakes.FakeCaptioner, tmp_path: Path) -> None:
    caption_videos(CaptionRequest([str(videos)], out))
    moved = tmp_path / "elsewhere" / "again"
    shutil.move(videos, moved)
    assert caption_videos(CaptionRequest([str(moved)], out)).done_before == 6


def test_a_stopped_run_goes_on_where_it_ended(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    listener, stop = fakes.stop_after(1)
    summary = caption_videos(CaptionRequest([str(videos)], out, batch_size=2), listener, stop)
    assert (summary.interrupted, summary.finished) == (True, 2), "the batch in the model is finished and written"
    summary = caption_videos(CaptionRequest([str(videos)], out, batch_size=2))
    assert (summary.interrupted, summary.done_before, summary.finished) == (False, 2, 4)
    assert sorted(row["video"] for row in fakes.rows_of(out)) == sorted(ALL)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"decoding": DecodingOptions(5)}, "num_beams 3 -> 5"),
        (
            {"decoding": DecodingOptions(max_new_tokens=12, min_new_tokens=4)},
            "max_new_tokens 30 -> 12, min_new_tokens 0 -> 4",
        ),
        ({"frames": 8}, "frames 4 -> 8"),
        ({"sampler": "head-tail"}, "sampler uniform -> head-tail"),
        ({"backend": "decord"}, "backend pyav -> decord"),
        ({"strict": True}, "strict False -> True"),
        ({"dtype": "bfloat16"}, "dtype float32 -> bfloat16"),
        ({"model": "big"}, "model evlgen-mini -> big, model_hash hash-of-evlgen-mini -> hash-of-big"),
    ],
)
def test_other_settings_are_done_again_and_the_user_is_told(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner, change: dict[str, object], difference: str
) -> None:
    caption_videos(CaptionRequest([str(videos)], out))
    ear = Ear()
    again = CaptionRequest([str(videos)], out, **change)  # type: ignore[arg-type]
    assert caption_videos(again, ear).ok == 6
    assert (ear.plans[0].count(Decision.OTHER_SETTINGS), ear.plans[0].difference) == (6, difference)
    assert len(fakes.rows_of(out)) == 12
    assert caption_videos(again).done_before == 6
    back = CaptionRequest([str(videos)], out, dtype="float32")  # auto would stay with what the file is in now
    assert caption_videos(back).ok == 6, "the last line counts: going back is work too"


def test_one_bad_file_costs_one_line(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    (videos / "clip3.mp4").write_text("garbage")
    fakes.write_video(videos / "clip4.mp4", fail="timeout")
    fakes.write_video(videos / "clip5.mp4", partial=True)
    summary = caption_videos(CaptionRequest([str(videos)], out))
    assert (summary.ok, summary.partial, dict(summary.failed)) == (6, 1, {"decode-error": 1, "timeout": 1})
    rows = {row["video"]: row for row in fakes.rows_of(out)}
    assert len(rows) == 9
    assert rows["clip3.mp4"]["error"] == {"kind": "decode-error", "message": "not a video"}
    assert [rows["clip3.mp4"][key] for key in ("status", "caption", "log_probability")] == ["error", None, None]
    assert (rows["clip3.mp4"]["frame_indices"], rows["clip3.mp4"]["fingerprint"] is None) == ([], False)
    assert (rows["clip5.mp4"]["status"], rows["clip5.mp4"]["warnings"]) == ("partial", ["the end is damaged"])


def test_failures_are_left_alone_until_asked_or_until_the_file_changes(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner
) -> None:
    fakes.write_video(videos / "clip3.mp4", fail="timeout")
    fakes.write_video(videos / "clip4.mp4", fail="decode-error")
    caption_videos(CaptionRequest([str(videos)], out))
    summary = caption_videos(CaptionRequest([str(videos)], out))
    assert (summary.finished, dict(summary.failed_before)) == (0, {"timeout": 1, "decode-error": 1})
    assert summary.without_caption == 2
    fakes.write_video(videos / "clip4.mp4", "mended")
    assert caption_videos(CaptionRequest([str(videos)], out)).ok == 1
    summary = caption_videos(CaptionRequest([str(videos)], out, retry_failed=True))
    assert (summary.finished, dict(summary.failed)) == (1, {"timeout": 1})


def test_a_missing_entry_of_a_list_is_one_error_and_is_done_once_it_is_there(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner, tmp_path: Path
) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"{videos}/clip1.mp4\n{videos}/gone.mp4\n")
    request = CaptionRequest([f"@{listing}"], out)
    assert dict(caption_videos(request).failed) == {"missing": 1}
    assert [row["fingerprint"] is None for row in fakes.rows_of(out)] == [
        row["status"] == "error" for row in fakes.rows_of(out)
    ]
    assert caption_videos(request).finished == 0
    fakes.write_video(videos / "gone.mp4", "back")
    assert caption_videos(request).ok == 1


def test_the_first_batch_is_small_so_that_captions_are_seen_early(
    tmp_path: Path, out: Path, captioner: fakes.FakeCaptioner
) -> None:
    for number in range(40):
        fakes.write_video(tmp_path / "v" / f"{number:02}.mp4")
    caption_videos(CaptionRequest([str(tmp_path / "v")], out))
    assert [len(batch) for batch in captioner.batches] == [4, 16, 16, 4]


def test_files_are_decoded_while_the_model_is_loaded(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    decode, load = captioner.decoder.map, evlgen_captioner.load_captioner
    monkeypatch.setattr(captioner.decoder, "map", lambda *args: (begun.append("decoding"), decode(*args))[1])
    monkeypatch.setattr(
        evlgen_captioner,
        "load_captioner",
        lambda *args, **options: (begun.append("loading"), load(*args, **options))[1],
    )
    assert caption_videos(CaptionRequest([str(videos)], out)).ok == 6
    assert begun == ["decoding", "loading"]


def test_the_culprit_of_a_batch_is_found(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    fakes.write_video(videos / "clip3.mp4", **{"raise": "device fault"})
    summary = caption_videos(CaptionRequest([str(videos)], out))
    assert (summary.ok, dict(summary.failed)) == (6, {"model-error": 1})
    error = next(row["error"] for row in fakes.rows_of(out) if row["error"])
    assert error == {"kind": "model-error", "message": "device fault"}


def test_a_model_that_always_fails_stops_the_run(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    for number in range(20, 40):
        fakes.write_video(videos / f"clip{number}.mp4", **{"raise": "device fault"})
    with pytest.raises(ModelBrokenError, match="failed on 10 videos in a row; the last time: device fault"):
        caption_videos(CaptionRequest([str(videos)], out, batch_size=1))
    assert len(fakes.rows_of(out)) < 20


@pytest.mark.parametrize(("fits", "sizes"), [(3, [16, 8, 4, 2, 2, 2, 2, 2, 2, 2]), (1, [16, 8, 4, 2] + [1] * 16)])
def test_out_of_memory_halves_the_batch(
    tmp_path: Path, out: Path, captioner: fakes.FakeCaptioner, fits: int, sizes: list[int]
) -> None:
    for number in range(16):
        fakes.write_video(tmp_path / "v" / f"{number}.mp4", str(number))
    captioner.memory_clips = fits
    ear = Ear()
    summary = caption_videos(CaptionRequest([str(tmp_path / "v")], out, batch_size=16), ear)
    assert (summary.ok, summary.batch_size) == (16, sizes[-1])
    assert [len(batch) for batch in captioner.batches][: len(sizes)] == sizes
    assert ear.notes[0] == "out of memory: going on with batches of 8"
    assert captioner.releases == len(ear.notes)


def test_out_of_memory_at_one_is_an_error_line(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    captioner.memory_clips = 0
    summary = caption_videos(CaptionRequest([str(videos)], out))
    assert dict(summary.failed) == {"out-of-memory": 6}


def test_batches_hold_one_frame_count(tmp_path: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    for number in range(40):
        fakes.write_video(tmp_path / "v" / f"{number}.mp4", str(number), frames=1 + number % 7)
    summary = caption_videos(CaptionRequest([str(tmp_path / "v")], out, batch_size=4))
    assert summary.ok == 40
    assert all(len({int(text) % 7 for text in batch}) == 1 and len(batch) <= 4 for batch in captioner.batches)


def test_an_idle_model_takes_what_is_there(
    tmp_path: Path, out: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "LINGER_SECONDS", 0.1)
    fakes.write_video(tmp_path / "v" / "1.mp4", "quick")
    fakes.write_video(tmp_path / "v" / "2.mp4", "slow", decode_sleep=0.6)
    summary = caption_videos(CaptionRequest([str(tmp_path / "v")], out))
    assert captioner.batches == [["quick"], ["slow"]]
    assert summary.bottleneck == "decoding"


def test_limit_takes_the_first_that_are_not_done(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    summary = caption_videos(CaptionRequest([str(videos)], out, limit=2))
    assert (summary.ok, summary.beyond_limit) == (2, 4)
    caption_videos(CaptionRequest([str(videos)], out, limit=3))
    assert [row["video"] for row in fakes.rows_of(out)] == ALL[:5]


def test_a_plan_says_why_and_writes_nothing(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.write_video(videos / "clip2.mp4", fail="timeout")
    caption_videos(CaptionRequest([str(videos)], out, limit=3))
    fakes.write_video(videos / "clip1.mp4", "changed")
    with out.open("ab") as file:
        file.write(b'{"video": "torn')
    before = out.read_bytes()
    monkeypatch.setattr(fakes.evlgen_captioner, "load_captioner", None)
    plan = plan_captions(CaptionRequest([str(videos)], out, limit=2))
    assert [(one.item.name, one.decision) for one in plan.items] == [
        ("clip1.mp4", Decision.CHANGED),
        ("clip2.mp4", Decision.FAILED_BEFORE),
        ("clip10.mp4", Decision.DONE),
        ("sub/clip1.mp4", Decision.NEW),
        ("sub/clip3.mkv", Decision.BEYOND_LIMIT),
        ("sub/deep/clip1.webm", Decision.BEYOND_LIMIT),
    ]
    assert out.read_bytes() == before


def test_a_plan_makes_no_file(videos: Path, out: Path, captioner: fakes.FakeCaptioner) -> None:
    assert len(plan_captions(CaptionRequest([str(videos)], out)).work) == 6
    assert not out.exists()


def test_all_that_contradicts_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        CaptionRequest(
            ["x"],
            decoding=DecodingOptions(num_beams=0, min_new_tokens=9, max_new_tokens=5),
            timeout_seconds=0,
            retry_failed=True,
            limit=0,
        )
    assert caught.value.what == (
        "--num-beams 0 is not 1 to 1000; --min-new-tokens 9 is more than --max-new-tokens 5; --limit 0 is not 1 to "
        "1000000000000; --timeout 0 is not more than 0 and at most 604800 seconds; --retry-failed needs --out: the "
        "file that says what failed"
    )


def test_frames_and_tokens_are_told_before_a_batch_is_done(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner
) -> None:
    heard: list[tuple[int, ...]] = []

    class Watcher(Listener):
        def on_progress(self, frames: int, tokens: int) -> None:
            heard.append((frames, tokens))

        def on_row(self, row: CaptionRow) -> None:
            heard.append(())

    captioner.batch_size = 2
    caption_videos(CaptionRequest([str(videos)], out, limit=3), Watcher())
    assert heard == [(4, 0), (8, 0), (8, 2), (), (), (12, 2), (12, 3), ()]
