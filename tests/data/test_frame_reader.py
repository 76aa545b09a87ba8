"""Media by name in folders and archives, and which frames come out of them."""

import io
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evlgen.data.decoding import decode_items
from evlgen.data.media import MISSING, MediaStore
from evlgen.errors import EvlgenError, Failure, UsageError
from tests.data.media_files import clip, decode_frames, greys, lay_out, png
from tests.data.shards.tars import base_256, member

LEVELS = [20, 60, 100, 140, 180, 220]


@pytest.mark.parametrize("kind", ["folder", "tar", "tgz", "zip"])
def test_folders_and_archives_give_the_same(tmp_path: Path, kind: str) -> None:
    files = {"x.png": png(9), "deep/er/video7.mp4": b"film", "one/same.png": b"1", "two/same.png": b"2"}
    store = MediaStore(str(lay_out(tmp_path, files, kind)))
    for name, content in files.items():
        assert store.read(name) == content
        assert store.stamp(name)[0] == len(content)
    assert store.read("deep/er/video7") == b"film", "the suffix may be left out"
    assert store.stamp("y.png") == MISSING
    with pytest.raises(EvlgenError, match=r"holds no y.png"):
        store.read("y.png")
    if kind != "folder":
        assert store.read("video7") == b"film", "folders of an archive may be left out where one answer is there"
        assert store.stamp("same.png") == MISSING, "there are two"


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_names_may_not_lead_out_of_the_media(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    media = lay_out(tmp_path, {"x.png": png(9), "a/y.png": png(8)}, kind)
    store = MediaStore(str(media))
    for name in ("../secret.png", "a/../../secret.png", str(tmp_path / "secret.png"), "/etc/passwd", "../../../x"):
        with pytest.raises(UsageError, match=r"leads out of .* \(names must lie below the folder or archive"):
            store.stamp(name)
    if kind == "folder":
        assert store.read("a/../x.png") == store.read(str(media / "x.png")) == png(9)
        (media / "link").symlink_to(tmp_path)
        assert store.read("link/secret.png") == png(1), "who made the link meant it"


RECORDS = [b"30 mtime=" + b"9" * 20 + b"\n", b"16 mtime=nan    \n", b"16 mtime=1e400  \n", b"12 size=1_2\n"]


@pytest.mark.parametrize("records", RECORDS, ids=repr)
@pytest.mark.parametrize("size", [None, base_256((1 << 88) - 1), b"\xff" * 12, b"7" * 12], ids=repr)
def test_tars_with_odd_headers_are_one_line(tmp_path: Path, records: bytes, size: bytes | None) -> None:
    odd = member(b"1.png", b"one") + member(b"x", records, kind=b"x") + member(b"2.png", b"two", size=size)
    (tmp_path / "a.tar").write_bytes(odd + b"\0" * 1024)
    with suppress(UsageError):  # what the reader of tars makes of it is its own affair, but nothing else may come out
        store = MediaStore(str(tmp_path / "a.tar"))
        assert store.read("1.png") == b"one"
        store.stamp("2.png")


def test_other_media_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a folder nor a tar or zip \(check data"):
        MediaStore(str(tmp_path / "none"))
    (tmp_path / "text").write_text("words")
    with pytest.raises(UsageError, match=r"text is not a whole tar file or zip"):
        MediaStore(str(tmp_path / "text"))


def by_plain_loop(content: bytes, max_frames: int) -> list[np.ndarray]:
    """Every frame decoded, and floor((i + 1/2) n / count) of them for count = min(n, max_frames)."""
    with av.open(io.BytesIO(content)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    count = min(max_frames, len(frames))
    return [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]


def test_frames_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    files = {f"{n}.mp4": clip(LEVELS[:n]) for n in range(1, 7)}
    files["fast.mp4"] = clip([40 * (n % 6) + 20 for n in range(23)], rate=25)
    store = MediaStore(str(lay_out(tmp_path, files, "tar")))
    names = list(files)
    for most in (1, 4):
        found = dict(decode_items(names, store, lambda _, frames: frames, max_frames=most))
        assert sorted(found) == list(range(len(names)))
        for number, name in enumerate(names):
            want = by_plain_loop(files[name], most)
            assert len(found[number]) == len(want)
            assert all(np.array_equal(a, b) for a, b in zip(found[number], want, strict=True))


def test_a_frame_that_stays_long_is_given_once(tmp_path: Path) -> None:
    """Frame times count, not frame numbers: the third of four frames is on display for 26 of 30 seconds."""
    content = clip(LEVELS[:4], pts=[0, 1, 2, 28])
    assert greys(decode_frames("v.mp4", content, 4), LEVELS) == [100]
    assert greys(decode_frames("v.mp4", clip(LEVELS), 3), LEVELS) == [60, 140, 220]


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    stored = np.zeros((10, 20, 3), np.uint8)
    stored[:, :10] = 250  # bright on the left
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise: left goes up
    Image.fromarray(stored).save(buffer, "png", exif=exif)
    (frame,) = decode_frames("p.png", buffer.getvalue(), 4)
    assert frame.shape == (20, 10, 3)
    assert frame[:10].mean() == 250
    assert frame[10:].mean() == 0


def test_what_is_broken_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    files = {"good.png": png(9), "bad.png": b"no picture", "empty.png": b"", "cut.png": png(200, (400, 400))[:-40]}
    files |= {"good.mp4": clip(LEVELS), "bad.mp4": b"no video", "sub/deep.mp4": clip(LEVELS[:2])}
    names = [*files, "gone.mp4"]
    for kind in ("folder", "zip"):
        store = MediaStore(str(lay_out(tmp_path, files, kind)))
        found = dict(decode_items(names, store, lambda _, frames: len(frames), max_frames=4))
        broken = {b.name: b for b in found.values() if isinstance(b, Failure)}
        assert {names[n]: r for n, r in found.items() if isinstance(r, int)} == {
            "good.png": 1, "good.mp4": 4, "sub/deep.mp4": 2,
        }  # fmt: skip
        assert {name: b.kind for name, b in broken.items()} == {
            "bad.png": "decode-error", "empty.png": "empty-file", "cut.png": "decode-error", "bad.mp4": "decode-error",
            "gone.mp4": "missing",
        }  # fmt: skip
        assert "cannot identify image file" in broken["bad.png"].message
        assert "\n" not in "".join(b.message for b in broken.values())
        assert "/tmp" not in broken["bad.mp4"].message, "not the name of a temporary file"


def test_a_decoder_that_hangs_or_dies_costs_one_item(tmp_path: Path) -> None:
    files = dict.fromkeys(("sleep.mp4", "segfault.mp4", "fine.mp4"), b"x")
    store = MediaStore(str(lay_out(tmp_path, files, "folder")))
    found = dict(
        decode_items(
            list(files), store, lambda _, frames: int(frames[0].mean()), max_frames=1, timeout_seconds=1,
            backend="tests.video.video_fakes:by_name",
        )
    )  # fmt: skip
    assert isinstance(found[0], Failure)
    assert isinstance(found[1], Failure)
    assert (found[0].kind, found[1].kind, found[2]) == ("timeout", "crashed", 7)
