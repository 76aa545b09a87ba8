"""Clips made once for the whole session, by name; skipped with the reason where an encoder or tool is missing."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video import video_clips as clips

VFR_PTS = [0, 10, 20, 90, 95, 180, 182, 184, 300, 301, 330, 400, 402, 430, 500, 501, 502, 503, 700, 760]


def ffmpeg_binary() -> str:
    """FFmpeg as an outside reference; the test that asks for it is skipped where there is none."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs an ffmpeg binary (pip install imageio-ffmpeg)")
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _edit_list(path: Path, get: Callable[[str], Path]) -> None:
    # A cut without re-encoding: the frames between the keyframe and the cut stay in the file, hidden by an edit list.
    command = [ffmpeg_binary(), "-v", "error", "-y", "-ss", "0.7", "-i", str(get("cfr.mp4")), "-c", "copy", str(path)]
    subprocess.run(command, check=True)


def _gif(path: Path, get: Callable[[str], Path]) -> None:
    pictures = [clips.barcode(number) for number in range(12)]
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 300] * 6)


def _turned(degrees: int) -> Callable[[Path, Callable[[str], Path]], None]:
    def make(path: Path, get: Callable[[str], Path]) -> None:
        if not hasattr(av.VideoStream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a display matrix")
        stored = [np.rot90(clips.barcode(n), k=-degrees // 90).copy() for n in range(30)]
        clips.write_clip(path, pictures=stored, rotation=degrees)

    return make


def _cut(source: str, share: float) -> Callable[[Path, Callable[[str], Path]], None]:
    def make(path: Path, get: Callable[[str], Path]) -> None:
        data = get(source).read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return make


def _x264(params: str) -> Callable[[Path, Callable[[str], Path]], None]:
    def make(path: Path, get: Callable[[str], Path]) -> None:
        clips.write_clip(path, options={**clips.X264, "x264-params": params})

    return make


VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "12", "b": "400k"}
MAKERS: dict[str, Callable[[Path, Callable[[str], Path]], object]] = {
    "cfr.mp4": lambda path, get: clips.write_clip(path),
    "vfr.mp4": lambda path, get: clips.write_clip(path, count=20, pts=VFR_PTS, time_base=Fraction(1, 100)),
    "late_start.mkv": lambda path, get: clips.write_clip(path, pts=list(range(60, 110))),
    "open_gop.mp4": _x264("keyint=12:min-keyint=12:scenecut=0:bframes=3:open-gop=1"),
    "intra_refresh.mp4": _x264("keyint=12:intra-refresh=1:bframes=0"),
    "edit_list.mp4": _edit_list,
    "stream.ts": lambda path, get: clips.write_clip(path),
    "fragmented.mp4": lambda path, get: clips.write_clip(
        path, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "turned_90.mp4": _turned(90),
    "turned_180.mp4": _turned(180),
    "turned_270.mp4": _turned(270),
    "mpeg4.avi": lambda path, get: clips.write_clip(path, "mpeg4", options={"g": "12", "b": "2000k"}),
    "mpeg4_b.avi": lambda path, get: clips.write_clip(path, "mpeg4", options={"g": "12", "bf": "2", "b": "2000k"}),
    "vp9.webm": lambda path, get: clips.write_clip(path, "libvpx-vp9", options=VP9),
    "animation.gif": _gif,
    "one_frame.mp4": lambda path, get: clips.write_clip(path, count=1),
    "two_streams.mp4": lambda path, get: clips.write_clip(path, streams=2),
    "faststart.mp4": lambda path, get: clips.write_clip(
        path, pictures=[clips.noisy_barcode(n) for n in range(50)], container_options={"movflags": "faststart"}
    ),
    "noisy.avi": lambda path, get: clips.write_clip(
        path, "mpeg4", pictures=[clips.noisy_barcode(n) for n in range(50)], options={"g": "12", "b": "2000k"}
    ),
    "cut_short.mp4": _cut("faststart.mp4", 0.6),
    "cut_short.avi": _cut("noisy.avi", 0.6),
    "cut_short.mkv": _cut("late_start.mkv", 0.6),
    "no_index.mp4": _cut("cfr.mp4", 0.6),
    "damaged.mp4": lambda path, get: clips.damage(get("faststart.mp4"), path, 0.4, 0.5),
    "audio.mp4": lambda path, get: clips.write_audio(path),
    "empty.mp4": lambda path, get: path.write_bytes(b""),
    "text.mp4": lambda path, get: path.write_text("this is not a video\n" * 50),
}
SOUND = [
    "cfr.mp4", "vfr.mp4", "late_start.mkv", "open_gop.mp4", "intra_refresh.mp4", "edit_list.mp4", "stream.ts",
    "fragmented.mp4", "turned_90.mp4", "turned_180.mp4", "turned_270.mp4", "mpeg4.avi", "mpeg4_b.avi", "vp9.webm",
    "animation.gif", "one_frame.mp4", "two_streams.mp4",
]  # fmt: skip


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The path of an ffmpeg binary."""
    return ffmpeg_binary()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`clip("cfr.mp4")` is the path of that clip, made on first use."""
    folder = tmp_path_factory.mktemp("clips")

    def get(name: str) -> Path:
        path = folder / name
        if not path.exists():
            try:
                MAKERS[name](path, get)
            except av.error.EncoderNotFoundError as error:
                pytest.skip(f"{name}: this PyAV has no such encoder: {error}")
        return path

    return get
