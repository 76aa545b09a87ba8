"""Real files through the real decoding children, with a model that reads the grey level of the frames."""

import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evlgen.captioners.protocol import Caption, PromptedClip
from evlgen.captioning import CaptionRequest, caption_run, caption_videos
from evlgen.decoding_options import DecodingOptions
from evlgen.video import ClipFrames, DecodePool

from . import fakes

GREY = {"dark.mp4": 40, "bright.mkv": 200, "-dash-.avi": 120, "picture.png": 90, "PHOTO.JPG": 170}
STILL = {"picture.png", "PHOTO.JPG"}


def write_clip(path: Path, level: int, frames: int = 12) -> None:
    """A clip of one grey level, 25 frames a second."""
    with av.open(path, "w", format={".mkv": "matroska"}.get(path.suffix, path.suffix[1:])) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            picture = np.full((48, 64, 3), level, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class GreyCaptioner(fakes.FakeCaptioner):
    """Says how bright a clip is, and of which shape."""

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        return [Caption(f"{clip.frames.mean():.0f} {clip.frames.shape}", -1.0, 2) for clip in clips]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, level in GREY.items():
        if name in STILL:
            Image.fromarray(np.full((48, 64, 3), level, np.uint8)).save(folder / name)
        else:
            write_clip(folder / name, level)
    (folder / "cut.mp4").write_bytes((folder / "dark.mp4").read_bytes()[:700])
    (folder / "empty.webm").touch()
    (folder / "text.mov").write_text("no video\n" * 100)
    return folder


def test_good_and_bad_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, GreyCaptioner(), decoder=False)
    monkeypatch.chdir(folder)
    out = tmp_path / "out.jsonl"
    summary = caption_videos(CaptionRequest(["."], out, workers=2, frames=3, timeout_seconds=30))
    rows = {row["video"]: row for row in fakes.rows_of(out)}
    assert set(rows) == {*GREY, "cut.mp4", "empty.webm", "text.mov"}
    for name, level in GREY.items():
        grey, shape = rows[name]["caption"].split(" ", 1)
        assert abs(int(grey) - level) <= 4, name
        assert rows[name]["status"] == "ok"
        if name in STILL:
            assert shape == "(1, 32, 32, 3)"
            assert (rows[name]["frame_indices"], rows[name]["timestamps_seconds"]) == ([0], [0.0])
            assert rows[name]["duration_seconds"] is None
            continue
        assert shape == "(3, 32, 32, 3)"
        assert rows[name]["frame_indices"] == [2, 6, 10], "the frames on display in the middles of three equal spans"
        assert rows[name]["timestamps_seconds"] == pytest.approx([0.08, 0.24, 0.4], abs=0.002)
    assert rows["empty.webm"]["error"]["kind"] == "empty-file"
    assert all(rows[name]["status"] == "error" for name in ("cut.mp4", "text.mov"))
    assert all(str(folder) not in rows[name]["error"]["message"] for name in ("cut.mp4", "empty.webm", "text.mov"))
    assert (summary.ok, summary.failed.total()) == (5, 3)


def test_a_stop_request_ends_the_decoding_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, GreyCaptioner(), decoder=False)
    listener, stop = fakes.stop_after(1)
    summary = caption_videos(CaptionRequest([str(folder)], tmp_path / "out.jsonl", batch_size=1), listener, stop)
    assert summary.interrupted
    assert caption_videos(CaptionRequest([str(folder)], tmp_path / "out.jsonl")).done_before <= summary.finished
    assert len(fakes.rows_of(tmp_path / "out.jsonl")) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit address space")
def test_a_decoder_that_eats_memory_costs_its_own_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, GreyCaptioner(), decoder=False)
    monkeypatch.setattr(caption_run, "usable_bytes", lambda: 0)
    for name in ("a.mp4", "hog.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"content")
    request = CaptionRequest(
        [str(tmp_path)], tmp_path / "out.jsonl", backend="tests.video.video_fakes:by_name", workers=1
    )
    caption_videos(request)
    rows = {row["video"]: row for row in fakes.rows_of(tmp_path / "out.jsonl")}
    assert {name: row["status"] for name, row in rows.items()} == {"a.mp4": "ok", "b.mp4": "ok", "hog.mp4": "error"}
    assert rows["hog.mp4"]["error"] == {"kind": "decode-error", "message": "not enough memory to decode it"}
    with DecodePool(1, 30.0, "tests.video.video_fakes:pid") as pool:
        clip = pool.decode(tmp_path / "a.mp4")
        assert isinstance(clip, ClipFrames)
        assert Path(f"/proc/{clip.indices[0]}/oom_score_adj").read_text() == "1000\n", "it goes before the run does"
