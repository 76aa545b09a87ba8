"""Frames decoded in every step against the feature cache, against slow loops, and with files that are broken."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from evlgen.configuration import VisionConfig
from evlgen.data import store_filling
from evlgen.data.decoding import FrameReader, decode_items
from evlgen.data.features import prepare_source
from evlgen.data.findings import BrokenItemError
from evlgen.data.frame_index import FrameIndex, build_index
from evlgen.data.media import MediaStore
from evlgen.data.pixels import PixelSource
from evlgen.data.views import make_views
from evlgen.errors import EvlgenError, Failure
from tests.data.media_files import clip, data_of, decode_frames, lay_out, png, source_of
from tests.modeling.conftest import TINY_CNN, TINY_VIT, tiny_config, tiny_model

FILES = {
    "p.png": png(200), "v.mp4": clip([20, 120, 220]), "long.mp4": clip([10, 60, 110, 160, 210] * 5, rate=25),
    "still.mp4": clip([20, 60, 100, 140], pts=[0, 1, 2, 28]), "one.mp4": clip([77]),
}  # fmt: skip
NAMES = list(FILES)
MOST = 3


@pytest.fixture(scope="module")
def reader() -> Iterator[FrameReader]:
    with FrameReader(MOST, 96) as made:
        yield made


def pixels_of(media: MediaStore, reader: FrameReader, folder: Path, views: int, share: float = 0.0) -> PixelSource:
    source = source_of(media, NAMES, views=views)
    found = build_index(source, max_frames=MOST, folder=folder, max_broken_share=share)
    assert found is not None
    return PixelSource(source, found, reader, max_broken_share=share)


VIT = TINY_VIT.model_copy(update={"arguments": {**TINY_VIT.arguments, "img_size": 96}, "image_size": 96, "tokens": 37})


@pytest.mark.parametrize(("kind", "views", "vision"), [("folder", 3, TINY_CNN), ("zip", 1, VIT)])
def test_pixels_are_those_that_the_feature_cache_encodes(
    tmp_path: Path, reader: FrameReader, kind: str, views: int, vision: VisionConfig
) -> None:
    """All items, frames and views; of one view, videos come resized from where they are decoded, in both."""
    media = MediaStore(str(lay_out(tmp_path, FILES, kind)))
    pixels = pixels_of(media, reader, tmp_path, views)
    model = tiny_model(tiny_config(vision.model_copy(update={"mean": (0.4, 0.5, 0.6)})))
    source = source_of(media, NAMES, views=views)
    prepared = prepare_source(model, source, data_of(max_frames=MOST), folder=tmp_path)
    assert prepared is not None
    cache = prepared.cache
    assert pixels.frames == cache.frames
    assert (pixels.views, pixels.names) == (cache.views, NAMES)
    for number, frames in enumerate(cache.frames):
        for view in range(views):
            shown = pixels.get(number, list(range(frames)), view)
            assert (shown.dtype, shown.shape) == (np.uint8, (frames, 3, 96, 96))
            with torch.no_grad():
                ours = model.encode(model.processor.normalise(torch.from_numpy(shown)[None]))[0]
            theirs = torch.from_numpy(np.array(cache.get(number, list(range(frames)), view))).float()
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_pixels_are_those_of_a_slow_loop(tmp_path: Path, reader: FrameReader) -> None:
    """Byte for byte, in the order in which frames are asked for, one of them twice."""
    media = MediaStore(str(lay_out(tmp_path, FILES, "tar")))
    pixels = pixels_of(media, reader, tmp_path, 2)
    made = make_views("v.mp4", decode_frames("v.mp4", FILES["v.mp4"], MOST), 2, 96)
    want = [made[f * 2 + 1].transpose(2, 0, 1) for f in (2, 0, 0)]
    assert np.array_equal(pixels.get(1, [2, 0, 0], 1), np.stack(want))


def test_bytes_normalised_later_are_what_the_processor_makes() -> None:
    processor = tiny_model(tiny_config(TINY_CNN.model_copy(update={"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)})))
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    later = processor.processor.normalise(torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())[None])
    assert torch.equal(later, processor.processor([frames]))


def test_a_file_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media, asked = lay_out(tmp_path, FILES, "folder"), []

    def counting(names: list[str], *arguments: object, **options: object) -> object:
        asked.extend((name, options["backend"]) for name in names)
        return decode_items(names, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store_filling, "decode_items", counting)

    def build(**options: object) -> FrameIndex:
        source = source_of(MediaStore(str(media)), NAMES, **options)
        found = build_index(source, max_frames=MOST, folder=tmp_path)
        assert found is not None
        return found

    first = build()
    assert first.frames == [1, 3, 3, 1, 1]
    assert asked == [(name, "evlgen.video.pyav_backend:count") for name in NAMES[1:]], "of a picture nothing is read"
    asked.clear()
    assert build() == first
    assert asked == []
    (media / "v.mp4").write_bytes(clip([1, 250]))
    assert build().frames == [1, 2, 3, 1, 1]
    assert [name for name, _ in asked] == ["v.mp4"]
    asked.clear()
    assert build(role="validation").frames == [1, 2, 3, 1, 1]
    assert asked == [(name, "pyav") for name in NAMES], "what is validated on is decoded"
    source = source_of(MediaStore(str(media)), NAMES)
    assert build_index(source, max_frames=2, folder=tmp_path, stop=lambda: True) is None


def test_what_is_known_to_be_broken_is_left_out(tmp_path: Path) -> None:
    files = {**FILES, "bad.mp4": b"no video", "empty.png": b"", "bad.png": b"no picture"}
    media, names = (
        MediaStore(str(lay_out(tmp_path, files, "folder"))),
        [*NAMES, "bad.mp4", "empty.png", "bad.png", "gone"],
    )
    bare = [Failure("no-captions", "line 3 has no captions", "mute.mp4")]
    options = {"max_frames": MOST, "folder": tmp_path}
    source = source_of(media, names, uncaptioned=bare)
    with pytest.raises(EvlgenError) as error:
        build_index(source, max_broken_share=0.1, **options)
    assert str(error.value).startswith(
        "set/train: 2 of 10 items (20.0%) cannot be used, data.max_broken_share allows 10.0%: mute.mp4: line 3 has no "
        "captions; empty.png: the file is empty"
    ), "before anything is decoded"
    found = build_index(source, max_broken_share=0.5, **options)
    assert found is not None
    assert found.usable == [0, 1, 2, 3, 4, 7], "a picture's content is looked at when it is needed"
    assert [b.name for b in found.broken] == ["mute.mp4", "empty.png", "bad.mp4", "gone"]
    thorough = build_index(
        source_of(media, names, uncaptioned=bare, role="validation"), max_broken_share=0.5, **options
    )
    assert thorough is not None
    assert thorough.usable == [0, 1, 2, 3, 4]
    assert "broken-set-train.jsonl" in {path.name for path in thorough.place.iterdir()}


def test_what_turns_out_to_be_broken_is_said_and_counted(tmp_path: Path, reader: FrameReader) -> None:
    folder = lay_out(tmp_path, FILES, "folder")
    media = MediaStore(str(folder))
    pixels = pixels_of(media, reader, tmp_path, 1, share=0.2)
    (folder / "p.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(BrokenItemError, match=r"^p.png cannot be used: it cannot be decoded: Unidentified"):
            pixels.get(0, [0], 0)
    assert [b.name for b in pixels.news()] == ["p.png"]
    assert pixels.news() == []
    (folder / "v.mp4").unlink()
    with pytest.raises(EvlgenError, match=r"^set/train: 2 of 5 items \(40.0%\) .* allows 20.0%: p.png: .*; v.mp4: "):
        pixels.get(1, [0], 0)
    assert pixels.get(2, [0], 0).shape == (1, 3, 96, 96)


@pytest.mark.slow
def test_a_decoder_that_hangs_costs_one_item_and_closing_does_not_wait(tmp_path: Path) -> None:
    files = dict.fromkeys(("sleep.mp4", "segfault.mp4", "fine.mp4"), b"x")
    media, names = MediaStore(str(lay_out(tmp_path, files, "folder"))), list(files)
    known = FrameIndex([0, 1, 2], [1, 1, 1], [], tmp_path)
    fake = "tests.video.video_fakes:by_name"
    with FrameReader(1, 8, workers=1, timeout_seconds=1, backend=fake) as reader:
        pixels = PixelSource(source_of(media, names), known, reader, max_broken_share=0.9)
        asked = [pixels.ask(item, [0], 0) for item in range(3)]
        for number, kind in ((0, "timeout"), (1, "crashed")):
            with pytest.raises(BrokenItemError) as error:
                asked[number]()
            assert error.value.broken.kind == kind
        assert int(asked[2]().mean()) == 7
    with FrameReader(1, 8, workers=1, timeout_seconds=60, backend=fake) as reader:
        pixels = PixelSource(source_of(media, names), known, reader, max_broken_share=0.9)
        asked = [pixels.ask(0, [0], 0) for _ in range(9)]
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    for wait in asked[:2]:
        with pytest.raises(EvlgenError):
            wait()
