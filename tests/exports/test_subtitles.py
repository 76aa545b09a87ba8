"""Subtitles as players see them: FFmpeg's own readers, through PyAV, of files and of tracks in copies of videos."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from evlgen.errors import UsageError
from evlgen.exports import CaptionTemplate, ExportOptions, export_captions
from tests.video.video_clips import read_barcode, write_clip

from .exported_captions import line, touch, write


def cues(path: Path) -> list[tuple[float, float, str]]:
    """Start, end and text of every cue, as FFmpeg reads them."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            if packet.size:
                start = float(packet.pts * Fraction(packet.time_base))
                end = start + float(packet.duration * Fraction(packet.time_base))
                found.append((round(start, 3), round(end, 3), bytes(packet).decode().rstrip("\n")))
    return found


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    touch(tmp_path / "videos", "a.mp4", "b.mp4", "p.jpg")
    return write(
        tmp_path / "c.jsonl",
        line("a.mp4", "a dog", duration_seconds=3723.4567),
        line("b.mp4", "it sits", start_seconds=1.5, end_seconds=2.25),
        line("b.mp4", "it runs\n\naway", start_seconds=0.0, end_seconds=1.5),
        line("p.jpg", "a picture"),
    )


@pytest.mark.parametrize("to", ["srt", "vtt"])
def test_files(captions: Path, tmp_path: Path, to: str) -> None:
    report = export_captions(captions, to)
    assert cues(tmp_path / "videos" / f"a.{to}") == [(0.0, 3723.457, "a dog")]
    assert cues(tmp_path / "videos" / f"b.{to}") == [(0.0, 1.5, "it runs\naway"), (1.5, 2.25, "it sits")]
    assert (report.captions, report.written, dict(report.lacking)) == (3, 2, {"picture": 1})
    assert not (tmp_path / "videos" / f"p.{to}").exists()


def test_what_players_would_take_for_commands(captions: Path, tmp_path: Path) -> None:
    text = "1 < 2 <i>&amp; --> {\\an8}3"
    write(captions, line("a.mp4", text))
    for to in ("srt", "vtt"):
        export_captions(captions, to)
    srt = "1\n00:00:00,000 --> 00:00:02,000\n1 < 2 ‹i›&amp; → (\\an8}3\n"
    assert (tmp_path / "videos" / "a.srt").read_text() == srt
    vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n1 &lt; 2 &lt;i&gt;&amp;amp; --&gt; {\\an8}3\n"
    assert (tmp_path / "videos" / "a.vtt").read_text() == vtt


def test_lengths_that_nobody_knows(captions: Path, tmp_path: Path) -> None:
    write(
        captions,
        line("a.mp4", "x", duration_seconds=None),
        line("b.mp4", "y", duration_seconds=None, timestamps_seconds=[]),
    )
    export_captions(captions, "srt")
    assert cues(tmp_path / "videos" / "a.srt") == [(0.0, 2.5, "x")]  # the last frame seen, and a frame's distance more
    assert cues(tmp_path / "videos" / "b.srt") == [(0.0, 1.0, "y")]


def test_one_file_is_for_one_video(captions: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x.srt would hold the captions of one video, and .* has those of 3"):
        export_captions(captions, "srt", tmp_path / "x.srt")
    export_captions(captions, "srt", tmp_path / "x.srt", names=["a.mp4"])
    assert cues(tmp_path / "x.srt")[0][2] == "a dog"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mov_text"), ("a.mkv", "subrip"), ("a.avi", "subrip")])
def test_a_track(tmp_path: Path, name: str, codec: str) -> None:
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / name, "mpeg4" if name.endswith("avi") else "libx264", options={}, count=25)
    captions = write(tmp_path / "c.jsonl", line(name, "a dog", duration_seconds=1.0), line("gone.mp4", "x"))
    report = export_captions(captions, "subtitles", options=ExportOptions(CaptionTemplate(prefix="TOK ")))
    copy = tmp_path / "c-subtitles" / Path(name).with_suffix(".mkv" if name.endswith("avi") else Path(name).suffix)
    with av.open(str(copy)) as container:
        assert container.streams.subtitles[0].codec_context.name in (codec, "srt")
        assert [read_barcode(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)] == list(
            range(25)
        )
    with av.open(str(copy)) as container:
        text = b"".join(bytes(packet) for packet in container.demux(container.streams.subtitles[0]))
    assert b"TOK a dog" in text
    assert (report.written, report.missing) == (1, ["gone.mp4"])
    again = export_captions(captions, "subtitles")
    assert (again.written, again.kept) == (0, [copy])


def test_drawn_into_the_pictures(tmp_path: Path) -> None:
    """Below, where subtitles are, the copy differs from the video, and above it does not."""
    (tmp_path / "videos").mkdir()
    grey = [np.full((240, 320, 3), 100, np.uint8)] * 10
    write_clip(tmp_path / "videos" / "a.mp4", pictures=grey)
    captions = write(tmp_path / "c.jsonl", line("a.mp4", "a dog runs", duration_seconds=0.4))
    export_captions(captions, "subtitles", options=ExportOptions(burn=True))
    with av.open(str(tmp_path / "c-subtitles" / "a.mp4")) as container:
        assert not container.streams.subtitles
        picture = next(container.decode(video=0)).to_ndarray(format="gray").astype(int)
    assert abs(picture[:120] - 100).max() < 8
    assert abs(picture[120:] - 100).max() > 80


def test_a_video_that_ffmpeg_refuses_stops_no_other(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "bad.mp4")
    write_clip(tmp_path / "videos" / "good.mp4", count=5)
    captions = write(tmp_path / "c.jsonl", line("bad.mp4", "x"), line("good.mp4", "y"))
    report = export_captions(captions, "subtitles")
    assert (report.written, list(report.failed)) == (1, ["bad.mp4"])
    assert report.failed["bad.mp4"].startswith("ffmpeg: ")
    assert [path.name for path in (tmp_path / "c-subtitles").iterdir()] == ["good.mp4"]
