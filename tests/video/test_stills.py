"""Pictures through the same functions as videos: every format, depth, colour space and orientation, by content."""

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from evlgen.data.decoding import decode_picture
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler, backends
from tests.video import video_clips as clips
from tests.video.test_decoding import decode, need

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> the stored picture as it is to be seen
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.transpose(1, 0, 2), 2),
    8: lambda stored: np.rot90(stored, 1),
}


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def sixteen_bit_png(samples: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits a sample, uint16 (H, W, C), by the letter of its specification."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_is_one_frame_whatever_its_name(form: str, backend: str, tmp_path: Path) -> None:
    need(backend)
    path = tmp_path / "named.mp4"
    path.write_bytes(saved(Image.fromarray(clips.barcode(77)), form))
    result = decode(path, Sampler(frames=4), backend)
    assert isinstance(result, ClipFrames), result
    assert (result.indices, result.timestamps, result.frames.shape) == ((0,), (0,), (1, clips.HEIGHT, clips.WIDTH, 3))
    assert clips.read_barcode(result.frames[0]) == 77
    assert (result.info.duration_seconds, result.info.codec, result.partial) == (None, form.lower(), False)
    small = decode(path, Sampler(frames=4), backend, size=(32, 16))
    assert isinstance(small, ClipFrames)
    assert small.frames.shape == (1, 16, 32, 3)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_says_which_way_is_up(orientation: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(
        decode_picture(saved(Image.fromarray(stored), exif=exif)), UPRIGHT[orientation](stored)
    )


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_scaled_by_their_depth(form: str) -> None:
    values = np.array([[0, 128, 129, 255, 257, 32768, 65407, 65535]], np.uint16)
    seen = decode_picture(saved(Image.fromarray(values), form))
    np.testing.assert_array_equal(seen, np.rint(values / 257).astype(np.uint8)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2), (2, 4), (4, 6)])
def test_sixteen_bits_of_every_kind_of_png_stay_within_a_level(channels: int, colour_type: int) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (5, 7, channels), np.uint16)
    if channels in (2, 4):
        samples[..., -1] = 65535
    seen = decode_picture(sixteen_bit_png(samples, colour_type)).astype(float)
    colours = samples[..., :3] if channels >= 3 else samples[..., :1].repeat(3, 2)
    assert np.abs(seen - colours / 257).max() <= 1


def test_floats_are_seen_by_their_range() -> None:
    values = np.array([[-1.0, 0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(decode_picture(saved(Image.fromarray(values), "TIFF"))[0, :, 0], [0, 128, 255])


def test_palettes_and_printers_colours() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    palette = Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(decode_picture(saved(palette)), colours)
    printed = Image.frombytes("CMYK", (2, 1), bytes([0, 255, 255, 0, 0, 0, 0, 255]))  # red; black
    assert decode_picture(saved(printed, "TIFF")).tolist() == [[[255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.frombytes("RGBA", (3, 1), bytes([9, 9, 9, 0, 100, 100, 100, 255, 0, 0, 0, 128]))
    seen = decode_picture(saved(image.convert(mode)))[0, :, 0].tolist()
    assert seen[0] == 255
    if mode != "P":
        assert seen[1:] == [100, 127]  # 0 * 128/255 + 255 * 127/255


def test_postscript_under_a_pictures_name_is_not_opened() -> None:
    with pytest.raises(UnidentifiedImageError, match="it is none of JPEG, PNG, WEBP, GIF, BMP, TIFF"):
        decode_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("form", ["WEBP", "PNG", "GIF"])
def test_an_animation_is_sampled_like_a_video(form: str, backend: str, tmp_path: Path) -> None:
    need(backend)
    images = [Image.fromarray(clips.barcode(number)) for number in range(8)]
    path = tmp_path / "animation.webp"
    path.write_bytes(
        saved(images[0], form, save_all=True, append_images=images[1:], duration=[100, 300] * 4, lossless=True)
    )
    moments = tuple(Fraction(tenths, 10) for tenths in (0, 1, 3, 4, 13))
    result = decode(path, Sampler("times", times=moments), backend)
    assert isinstance(result, ClipFrames), result
    assert result.indices == (0, 1, 1, 2, 7)  # frames come on at 0, 0.1, 0.4, 0.5, 0.8, 0.9, 1.2, 1.3 s
    assert result.timestamps == tuple(Fraction(tenths, 10) for tenths in (0, 1, 1, 4, 13))
    assert [clips.read_barcode(picture) for picture in result.frames] == list(result.indices)


def test_of_several_pages_the_first_is_seen_and_that_is_said(tmp_path: Path) -> None:
    pages = [Image.fromarray(clips.barcode(number)) for number in (3, 4)]
    path = tmp_path / "pages.tif"
    path.write_bytes(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    result = decode(path, Sampler())
    assert isinstance(result, ClipFrames)
    assert (clips.read_barcode(result.frames[0]), result.warnings) == (
        3,
        ("only the first of its 2 pages is looked at",),
    )


def test_a_bad_picture_is_a_failure_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cut.jpg"
    content = saved(Image.fromarray(clips.noisy_barcode(1)), "JPEG")
    path.write_bytes(content[: len(content) // 2])
    failure = decode(path, Sampler())
    assert isinstance(failure, DecodeFailure)
    assert failure.kind == "decode-error"
    assert failure.message.startswith(f"{path}: the picture cannot be decoded: image file is truncated")
    path.write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    failure = decode(path, Sampler())
    assert isinstance(failure, DecodeFailure)
    assert "decompression bomb" in failure.message


def test_pictures_and_videos_go_through_one_pool(tmp_path: Path) -> None:
    picture, clip = tmp_path / "a.png", tmp_path / "b.mp4"
    picture.write_bytes(saved(Image.fromarray(clips.barcode(5))))
    clips.write_clip(clip, count=2)
    with DecodePool(1, 30.0, sampler=Sampler(frames=2)) as pool:
        counts = {result.path: len(result.frames) for result in pool.map([picture, clip])}  # type: ignore[union-attr]
    assert counts == {picture: 1, clip: 2}
