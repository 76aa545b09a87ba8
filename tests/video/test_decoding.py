"""One contract for all backends and clips: the frames are those that decoding everything and the plain time rule give.

The outside truths are the bar code in every picture, PyAV used in the plainest way, and the ffmpeg binary.
"""

import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evlgen.errors import UsageError, VideoError
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler, backends, probe, pyav_backend
from evlgen.video.packets import plan_runs, scan_packets, straight_run
from tests.video import video_clips as clips
from tests.video.conftest import SOUND, VFR_PTS

GetClip = Callable[[str], Path]
SAMPLERS = [
    Sampler("uniform", 4),
    Sampler("head-tail", 5),
    Sampler("random-spans", 3, seed=1),
    Sampler("fps", fps=Fraction(3)),
    Sampler("times", times=(Fraction(1), Fraction(0), Fraction(1, 3), Fraction(100))),
]
DECORD_REFUSES = {
    "edit_list.mp4": "edit lists",
    "stream.ts": "transport streams",
    "two_streams.mp4": "several video streams",
}


STUBBORN = ["pyav", "ffmpeg"]  # those that keep going in damaged files


def need(backend: str) -> None:
    """Skip the test with the reason where the backend cannot run."""
    if backend == "decord":
        pytest.importorskip("decord", reason="decord is not installed")
    if backend == "ffmpeg":
        try:
            backends.find_ffmpeg()
        except UsageError as error:
            pytest.skip(str(error))


def decode(path: Path, sampler: Sampler, backend: str = "pyav", **settings: object) -> ClipFrames | DecodeFailure:
    """In this process: the same function that a child runs."""
    try:
        clip: ClipFrames = backends.load(backends.resolve(backend))(path, sampler, **settings)
    except VideoError as error:
        return DecodeFailure(path, error.kind, str(error))
    return clip


def _sampled() -> Iterator[Any]:
    """Every clip with every backend and every sampler; a program is started for each with the slowest of them."""
    for name in SOUND:
        for backend in backends.BACKENDS:
            if backend != "ffmpeg" or name in ("cfr.mp4", "vfr.mp4", "edit_list.mp4"):
                yield pytest.param(name, backend, SAMPLERS, id=f"{name}-{backend}")
            else:
                yield pytest.param(name, backend, SAMPLERS[::4], id=f"{name}-{backend}")
                yield pytest.param(name, backend, SAMPLERS[1:4], id=f"{name}-{backend}-more", marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "backend", "samplers"), _sampled())
def test_frames_are_those_on_display_at_the_chosen_times(
    name: str, backend: str, samplers: list[Sampler], clip: GetClip
) -> None:
    need(backend)
    path = clip(name)
    truth = clips.decode_everything(path)
    times = [time for time, _ in truth]
    first = clips.read_barcode(truth[0][1]) if "turned" not in name else 0
    # The last frame stays as long as its packet says; the slow truth knows no packets.
    last = scan_packets(path).timeline()
    duration = last.duration if last else times[-1]
    for sampler in samplers:
        result = decode(path, sampler, backend)
        if backend == "decord" and name in DECORD_REFUSES:
            assert isinstance(result, DecodeFailure)
            assert result.kind == "decode-error"
            assert DECORD_REFUSES[name] in result.message
            continue
        assert isinstance(result, ClipFrames), result
        if sampler.strategy == "uniform":
            wanted = [clips.shown_at(times, duration * (2 * i + 1) / 8) for i in range(4)]
        elif sampler.strategy == "head-tail":
            wanted = [clips.shown_at(times, times[-1] * i / 4) for i in range(5)]
        elif sampler.strategy == "times":
            wanted = [clips.shown_at(times, moment) for moment in sampler.times]
        else:
            wanted = list(result.indices)
        assert result.indices == tuple(wanted)
        assert result.timestamps == tuple(times[index] for index in wanted)
        assert [clips.read_barcode(picture) for picture in result.frames] == [first + index for index in wanted]
        assert result.frames.dtype == np.uint8
        assert result.frames.shape == (len(wanted), clips.HEIGHT, clips.WIDTH, 3)
        assert (result.info.width, result.info.height) == (clips.WIDTH, clips.HEIGHT)
        assert (result.partial, result.warnings) == (False, ())


@pytest.mark.parametrize("name", SOUND)
def test_jumping_gives_the_same_pixels_as_decoding_everything(name: str, clip: GetClip) -> None:
    path = clip(name)
    truth = clips.decode_everything(path)
    for index in range(0, len(truth), 3):
        result = decode(path, Sampler("times", times=(truth[index][0],)))
        assert isinstance(result, ClipFrames)
        assert result.indices == (index,)
        if "turned" not in name:
            np.testing.assert_array_equal(result.frames[0], truth[index][1])


def test_far_targets_are_reached_by_jumps_and_near_ones_together(clip: GetClip) -> None:
    scan = scan_packets(clip("cfr.mp4"))
    pts = [packet.pts for packet in scan.shown() or []]
    assert [p for p, packet in enumerate(scan.packets) if packet.is_keyframe] == [0, 12, 24, 36, 48]
    runs = plan_runs(scan, [pts[40], pts[2], pts[41]])  # type: ignore[list-item]
    assert [(run.start, run.targets) for run in runs] == [(0, (pts[2],)), (36, (pts[40], pts[41]))]
    dense = plan_runs(scan, [value for value in pts if value is not None])
    assert dense == straight_run([value for value in pts if value is not None])


def test_jumps_really_decode_less(clip: GetClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip("cfr.mp4")
    starts = []
    frames = pyav_backend._Reader._frames
    monkeypatch.setattr(
        pyav_backend._Reader, "_frames", lambda s, start, *a: starts.append(start) or frames(s, start, *a)
    )
    decode(path, Sampler("times", times=(Fraction(8, 5),)))
    assert starts == [36]


def test_frames_that_nothing_depends_on_are_left_out(clip: GetClip) -> None:
    path = clip("cfr.mp4")
    scan = scan_packets(path)
    wanted = {packet.pts for packet in scan.shown() or []} - {None}
    last = max(value for value in wanted if value is not None)

    def decoded(wanted: set[int]) -> int:
        return len(list(pyav_backend._Reader(path, None, 1)._frames(0, scan, [], wanted)))

    assert decoded({value for value in wanted if value is not None}) == 50
    assert decoded({last}) < 40


def test_gradual_refresh_is_not_entered_in_the_middle(clip: GetClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip("intra_refresh.mp4")
    assert sum(packet.is_keyframe for packet in scan_packets(path).packets) > 1  # the file promises entry points
    result = decode(path, Sampler("times", times=(Fraction(8, 5),)))
    assert isinstance(result, ClipFrames)
    np.testing.assert_array_equal(result.frames[0], clips.decode_everything(path)[40][1])


def test_a_seek_that_lands_wrong_falls_back_to_decoding_through(clip: GetClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clip("cfr.mp4")

    def lost(*_: object) -> object:
        raise pyav_backend._SeekFailedError

    monkeypatch.setattr(pyav_backend, "_after_seek", lost)
    result = decode(path, Sampler("times", times=(Fraction(8, 5),)))
    assert isinstance(result, ClipFrames)
    assert clips.read_barcode(result.frames[0]) == 40


def test_packets_without_times_fall_back_to_decoding_twice(clip: GetClip, monkeypatch: pytest.MonkeyPatch) -> None:
    from evlgen.video.packets import PacketScan

    monkeypatch.setattr(PacketScan, "shown", lambda self: None)
    for name in ("cfr.mp4", "vfr.mp4", "edit_list.mp4", "mpeg4_b.avi"):
        truth = clips.decode_everything(clip(name))
        result = decode(clip(name), Sampler("head-tail", 5))
        assert isinstance(result, ClipFrames)
        wanted = [clips.shown_at([time for time, _ in truth], truth[-1][0] * i / 4) for i in range(5)]
        assert result.indices == tuple(wanted)
        np.testing.assert_array_equal(result.frames, np.stack([truth[index][1] for index in wanted]))


def test_variable_frame_rate_times_are_exact(clip: GetClip) -> None:
    result = decode(clip("vfr.mp4"), Sampler("fps", fps=Fraction(100)))
    assert isinstance(result, ClipFrames)
    assert result.timestamps == tuple(Fraction(pts, 100) for pts in VFR_PTS)


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_size_is_met_exactly_by_an_antialiased_filter(backend: str, clip: GetClip) -> None:
    from PIL import Image

    need(backend)
    result = decode(clip("cfr.mp4"), Sampler(frames=2), backend, size=(40, 50))
    full = decode(clip("cfr.mp4"), Sampler(frames=2), backend)
    assert isinstance(result, ClipFrames)
    assert isinstance(full, ClipFrames)
    assert result.frames.shape == (2, 50, 40, 3)
    expected = [np.asarray(Image.fromarray(f).resize((40, 50), Image.Resampling.BICUBIC)) for f in full.frames]
    np.testing.assert_array_equal(result.frames, np.stack(expected))


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_a_longest_side_keeps_the_aspect_and_enlarges_nothing(backend: str, clip: GetClip) -> None:
    need(backend)
    full, small, same = (decode(clip("cfr.mp4"), Sampler(frames=1), backend, size=size) for size in (None, 32, 5000))
    assert isinstance(full, ClipFrames)
    assert isinstance(small, ClipFrames)
    assert isinstance(same, ClipFrames)
    _, height, width, _ = full.frames.shape
    assert width > height
    assert small.frames.shape == (1, round(32 * height / width), 32, 3)
    np.testing.assert_array_equal(same.frames, full.frames)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("absent.mp4", "missing", "no such file"),
        ("empty.mp4", "empty-file", "the file is empty (0 bytes)"),
        ("audio.mp4", "no-video-stream", "there is no video stream that can be decoded"),
        ("text.mp4", "decode-error", "Invalid data found when processing input"),
        ("no_index.mp4", "decode-error", "Invalid data found when processing input"),
    ],
)
@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_files_without_frames_say_why(name: str, kind: str, message: str, backend: str, clip: GetClip) -> None:
    need(backend)
    path = clip(name) if name != "absent.mp4" else Path("absent.mp4")
    assert decode(path, Sampler(), backend) == DecodeFailure(path, kind, f"{path}: {message}")
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert caught.value.kind == kind


def test_a_folder_is_not_a_video(tmp_path: Path) -> None:
    assert decode(tmp_path, Sampler()) == DecodeFailure(tmp_path, "missing", f"{tmp_path}: not a file")


@pytest.mark.parametrize("backend", STUBBORN)
@pytest.mark.parametrize("name", ["cut_short.mp4", "cut_short.mkv", "cut_short.avi"])
def test_a_file_cut_short_gives_what_is_left_of_it(name: str, backend: str, clip: GetClip) -> None:
    need(backend)
    result = decode(clip(name), Sampler("head-tail", 4), backend)
    assert isinstance(result, ClipFrames), result
    assert result.partial
    assert any("cut short" in warning for warning in result.warnings)
    assert 5 < result.indices[-1] < 45
    assert [clips.read_barcode(picture) for picture in result.frames] == list(result.indices)
    strict = decode(clip(name), Sampler("head-tail", 4), backend, strict=True)
    assert isinstance(strict, DecodeFailure)
    assert strict.kind == "decode-error"


@pytest.mark.parametrize("backend", STUBBORN)
def test_damage_in_the_middle_is_survived_and_reported(backend: str, clip: GetClip) -> None:
    need(backend)
    result = decode(clip("damaged.mp4"), Sampler("fps", fps=Fraction(25)), backend)
    assert isinstance(result, ClipFrames), result
    assert result.partial
    assert result.warnings
    right = [clips.read_barcode(p) == index for p, index in zip(result.frames, result.indices, strict=True)]
    assert all(right[:12])  # before the damage
    assert all(right[-12:])  # after it
    strict = decode(clip("damaged.mp4"), Sampler("fps", fps=Fraction(25)), backend, strict=True)
    assert isinstance(strict, DecodeFailure)
    assert strict.kind == "decode-error"


def test_frames_that_do_not_need_the_damaged_part_are_exact_and_quiet(clip: GetClip) -> None:
    result = decode(clip("damaged.mp4"), Sampler("times", times=(Fraction(49, 25),)))
    assert isinstance(result, ClipFrames)
    assert (result.indices, result.warnings) == ((49,), ())
    assert clips.read_barcode(result.frames[0]) == 49


def test_probe_reads_the_header(clip: GetClip) -> None:
    info = probe(clip("cfr.mp4"))
    assert (info.codec, info.width, info.height, info.rotation) == ("h264", 128, 64, 0)
    assert (info.declared_frame_count, info.average_frame_rate) == (50, 25)
    assert (info.duration_seconds, info.video_stream_count, info.has_audio) == (2, 1, False)
    assert "mp4" in info.container_format
    assert probe(clip("two_streams.mp4")).video_stream_count == 2


@pytest.mark.parametrize("name", ["a:b.mp4", "-dash.mp4", "100%d.mp4", "été [1].mp4", "http:x.mp4"])
@pytest.mark.parametrize("backend", STUBBORN)
def test_odd_file_names(name: str, backend: str, clip: GetClip, tmp_path: Path) -> None:
    need(backend)
    path = tmp_path / name
    path.write_bytes(clip("one_frame.mp4").read_bytes())
    assert isinstance(decode(path, Sampler(frames=1), backend), ClipFrames)


@pytest.mark.parametrize("name", ["cfr.mp4", "vfr.mp4", "late_start.mkv", "edit_list.mp4", "stream.ts", "vp9.webm"])
def test_frame_times_agree_with_the_ffmpeg_binary(name: str, clip: GetClip, ffmpeg: str) -> None:
    command = [ffmpeg, "-v", "error", "-i", str(clip(name)), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-enc_time_base", "1:100000", "-f", "framehash", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pts = [int(line.split(",")[2]) for line in lines if line and not line.startswith("#")]
    timeline = scan_packets(clip(name)).timeline()
    assert timeline is not None
    (base,) = {line.split()[-1] for line in lines if line.startswith("#tb")}
    seconds = [float((value - pts[0]) * Fraction(base)) for value in pts]
    assert [float(time) for time in timeline.times] == pytest.approx(seconds, abs=1e-4)


@pytest.mark.parametrize("name", ["turned_90.mp4", "turned_180.mp4", "turned_270.mp4", "cfr.mp4", "vp9.webm"])
def test_pictures_agree_with_the_ffmpeg_binary_which_turns_them_by_itself(
    name: str, clip: GetClip, ffmpeg: str
) -> None:
    command = [
        ffmpeg,
        "-v",
        "error",
        "-i",
        str(clip(name)),
        "-frames:v",
        "8",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    expected = np.frombuffer(raw, np.uint8).reshape(8, clips.HEIGHT, clips.WIDTH, 3).astype(int)
    result = decode(clip(name), Sampler("times", times=tuple(Fraction(i, 25) for i in range(8))))
    assert isinstance(result, ClipFrames)
    assert np.abs(result.frames.astype(int) - expected).mean() < 1.0


def test_real_decoding_through_the_pool(clip: GetClip) -> None:
    names = ["cfr.mp4", "text.mp4", "turned_90.mp4", "empty.mp4", "vfr.mp4"]
    with DecodePool(2, 30.0, sampler=Sampler("head-tail", 2), size=(64, 32)) as pool:
        results = {result.path.name: result for result in pool.map(clip(name) for name in names)}
    assert {name: r.kind for name, r in results.items() if isinstance(r, DecodeFailure)} == {
        "text.mp4": "decode-error",
        "empty.mp4": "empty-file",
    }
    for name, last in [("cfr.mp4", 49), ("turned_90.mp4", 29), ("vfr.mp4", 19)]:
        result = results[name]
        assert isinstance(result, ClipFrames)
        assert result.frames.shape == (2, 32, 64, 3)
        assert [clips.read_barcode(picture) for picture in result.frames] == [0, last]


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("name", ["ffconcat.mp4", "list.m3u8", "manifest.mpd", "still-%d.jpg"])
def test_what_names_another_file_is_refused(name: str, backend: str, clip: GetClip, tmp_path: Path) -> None:
    need(backend)
    (tmp_path / "other.mp4").write_bytes(clip("cfr.mp4").read_bytes())
    (tmp_path / "other.ts").write_bytes(clip("stream.ts").read_bytes())
    Image.fromarray(clips.barcode(1)).save(tmp_path / "still-1.jpg")
    path = tmp_path / name
    path.write_text(
        {
            "ffconcat.mp4": "ffconcat version 1.0\nfile other.mp4\n",
            "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n",
            "manifest.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>\n',
            "still-%d.jpg": "a name that is a pattern\n",
        }[name]
    )
    failure = decode(path, Sampler(), backend)
    assert isinstance(failure, DecodeFailure), "another file's content"
    assert failure.kind == "decode-error"
    if name in ("ffconcat.mp4", "list.m3u8"):
        assert failure.message == (
            f"{path}: it is a playlist, or of a format that is not opened: only the file itself is read "
            "(name the videos themselves)"
        )


@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_pictures_that_are_damaged_make_a_clip_partial(backend: str, clip: GetClip, tmp_path: Path) -> None:
    need(backend)
    data = bytearray(clip("noisy.avi").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(0).integers(0, 256, 200, np.uint8).tobytes()
    path = tmp_path / "damaged.avi"
    path.write_bytes(data)
    result = decode(path, Sampler("fps", fps=Fraction(25)), backend)
    assert isinstance(result, ClipFrames), result
    assert result.partial
    assert "damage" in result.warnings[0] or "could not be decoded" in result.warnings[0]
    strict = decode(path, Sampler("fps", fps=Fraction(25)), backend, strict=True)
    assert isinstance(strict, DecodeFailure)
    assert strict.message == f"{path}: {result.warnings[0]}"
