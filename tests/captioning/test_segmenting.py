"""Captions of parts: which parts there are, rows that say so, and a run that goes on in the middle of a video."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evlgen.captioners.protocol import Caption, PromptedClip
from evlgen.captioning import CaptionRequest, Listener, Video, caption_videos, plan_captions, read_captions
from evlgen.captioning.segmenting import Segments, _windows
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from tests.captioning import fakes


class GreyCaptioner(fakes.FakeCaptioner):
    """Says how bright a clip is."""

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        return [Caption(f"grey {round(clip.frames.mean(), -1):.0f}", -1.0, 2) for clip in clips]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip of 20 for 2 s, 120 for 2 s and 240 for 1 s, a picture, and what is no video; the model tells the grey."""
    folder = tmp_path / "clips"
    folder.mkdir()
    with av.open(folder / "steps.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in [20] * 20 + [120] * 20 + [240] * 10:
            picture = np.full((48, 64, 3), level, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / "picture.png")
    (folder / "none.mp4").write_text("no video")
    fakes.install(monkeypatch.setattr, GreyCaptioner(), decoder=False)
    return folder


def rows(path: Path) -> list[tuple[str, float | None, float | None, str | None]]:
    return [
        (row["video"], row.get("start_seconds"), row.get("end_seconds"), row["caption"])
        for row in fakes.rows_of(path)
        if row["status"] != "error"
    ]


def test_windows_and_what_cannot_be_cut(folder: Path, tmp_path: Path) -> None:
    out, notes = tmp_path / "out.jsonl", []
    listener = Listener()
    listener.on_note = notes.append  # type: ignore[method-assign]
    request = CaptionRequest([str(folder)], out, segments=Segments.parse("fixed:2"), frames=2)
    summary = caption_videos(request, listener)
    assert (summary.ok, dict(summary.failed)) == (4, {"decode-error": 1})
    assert sorted(rows(out), key=str) == [
        ("picture.png", None, None, "grey 90"),
        ("steps.mp4", 0.0, 2.0, "grey 20"),
        ("steps.mp4", 2.0, 4.0, "grey 120"),
        ("steps.mp4", 4.0, 5.0, "grey 240"),
    ]
    assert any(note.startswith("none.mp4: no parts found, it is taken as a whole: ") for note in notes)
    settings = fakes.rows_of(out)[0]["settings"]
    assert settings["segments"] == "fixed:2"


def test_a_run_goes_on_in_the_middle_of_a_video(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    table = tmp_path / "parts.csv"
    table.write_text("video,start,end\nsteps.mp4,0,1.9\nsteps.mp4,0:02,00:00:03.900\nsteps.mp4,4.2,9\n")
    request = CaptionRequest([str(folder / "steps.mp4")], out, segments=Segments.parse(str(table)), limit=2)
    assert caption_videos(request).ok == 2
    assert rows(out) == [("steps.mp4", 0.0, 1.9, "grey 20"), ("steps.mp4", 2.0, 3.9, "grey 120")]
    assert [item.item.key for item in plan_captions(request).items if item.decision.is_work] == [
        "steps.mp4#t=4.200,9.000"
    ]
    assert caption_videos(request).ok == 1
    assert rows(out)[2] == ("steps.mp4", 4.2, 9.0, "grey 240")
    assert caption_videos(request).finished == 0
    assert list(read_captions(out)) == [
        "steps.mp4#t=0.000,1.900",
        "steps.mp4#t=2.000,3.900",
        "steps.mp4#t=4.200,9.000",
    ]
    whole = CaptionRequest([str(folder / "steps.mp4")], out)
    assert caption_videos(whole).ok == 1, "the whole video is another item"


def test_a_part_behind_the_end_is_no_caption_of_the_last_frame(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_text("video,start,end\nsteps.mp4,7,9\n")
    out = tmp_path / "out.jsonl"
    request = CaptionRequest([str(folder / "steps.mp4")], out, segments=Segments.parse(str(tmp_path / "parts.csv")))
    assert dict(caption_videos(request).failed) == {"no-frames": 1}
    (row,) = fakes.rows_of(out)
    assert row["error"]["message"].endswith("a part begins at 7 s, and the video ends at 5 s")
    assert (row["start_seconds"], row["end_seconds"]) == (7.0, 9.0)


def test_scenes_are_found_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scenedetect")
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    video = Video("steps.mp4", folder / "steps.mp4")
    found = Segments.parse("scenes").of([video], 60)
    assert [part.span for part in found] == [
        (Fraction(0), Fraction(2)),
        (Fraction(2), Fraction(4)),
        (Fraction(4), Fraction(5)),
    ]
    asked: list[int] = []
    again = Segments.parse("scenes").of([video], 60, lambda name, done, total, unit="bytes": asked.append(done))
    assert (again, asked) == (found, [])


def test_what_is_left_belongs_to_the_last_window() -> None:
    def windows(duration: float, seconds: float) -> list[tuple[float, float]]:
        return [(float(a), float(b)) for a, b in _windows(Fraction(str(duration)), Fraction(str(seconds)))]

    assert windows(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert windows(9.9, 4) == [(0, 4), (4, 9.9)]
    assert windows(1, 4) == [(0, 1)]
    assert windows(0, 4) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video,start\na.mp4,1\n", "has no column end"),
        ("video,start,end\na.mp4,2,1\n", "line 2: 2 to 1 is no part of a video"),
        ("video,start,end\na.mp4,1,soon\n", "line 2: 1 to soon is no part"),
        ("video,start,end\n", "has no lines"),
        (
            "video,start,end\nb.mp4,0,1\n",
            r"names none of the 1 videos \(its first is b\.mp4; the first video is a\.mp4\)",
        ),
    ],
)
def test_tables_that_say_nothing(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        Segments.parse(str(tmp_path / "parts.csv")).of([Video("a.mp4", tmp_path / "a.mp4")], 1)


def test_rules_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no rule and no file"):
        Segments.parse("shots")
    for text in ("fixed:0", "fixed:", "fixed:x", "fixed:1e9"):
        with pytest.raises(UsageError, match=r"expected 0\.1 to 86400 seconds"):
            Segments.parse(text)
    with pytest.raises(UsageError, match="takes a sampler of a fixed number of frames, and keyframes is none"):
        CaptionRequest(["x"], segments=Segments("scenes"), sampler="keyframes").resolve()
