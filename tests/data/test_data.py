"""Captions, media, cached features and batches, on pictures and clips that the tests make."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from evlgen.data.batches import BatchMaker, CaptionSource
from evlgen.data.captions import CaptionedItem, MediaStore, clean_caption, decode_frames, read_items
from evlgen.data.features import FeatureCache, _variants, build_features, cache_key
from evlgen.errors import EvlgenError, UsageError, WeightsError
from evlgen.recipes import DataSource
from tests.modeling.conftest import TINY_CNN, tiny_config, tiny_model


def write(folder: Path, rows: list[object]) -> DataSource:
    (folder / "c.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return DataSource(captions=str(folder / "c.jsonl"), media=str(folder))


def test_items_in_every_spelling(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        [
            {"video": "a", "captions": ["X  y ."]},
            {"file": "b", "caption": "Z"},
            "",
            '{"image": "c", "caption": "q\u2028r"}',
        ],
    )
    assert read_items(source, lower_case=True) == [
        CaptionedItem("a", ("x y",)), CaptionedItem("b", ("z",)), CaptionedItem("c", ("q r",)),
    ]  # fmt: skip
    assert clean_caption(" A  dog . ", lower_case=False) == "A dog ."


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"video": "a"}',
        '{"captions": ["x"]}',
        "[1]",
        '{"file": "a", "captions": "word"}',
        '{"file": "a", "captions": []}',
        '{"file": "a", "captions": [null]}',
        '{"file": 1, "caption": "x"}',
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"c\.jsonl line 2: expected a video, image or file"):
        read_items(write(tmp_path, [{"file": "b", "caption": "z"}, line]), lower_case=False)


def test_an_empty_split_and_missing_files_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, [{"file": "b", "caption": "z", "split": "train"}])
    with pytest.raises(UsageError, match="no rows of split 'test'"):
        read_items(source.model_copy(update={"split": "test"}), lower_case=False)
    with pytest.raises(UsageError, match="does not exist"):
        read_items(source.model_copy(update={"captions": str(tmp_path / "none")}), lower_case=False)
    with pytest.raises(UsageError, match=r"neither a folder nor a tar"):
        MediaStore(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="not a whole tar"):
        MediaStore(str(tmp_path / "c.jsonl"))


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (colour, colour, colour)).save(buffer, "png")
    return buffer.getvalue()


def test_a_tar_and_a_folder_give_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.png").write_bytes(png(9))
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(folder / "x.png", "./x.png")
    stores = [MediaStore(str(folder)), MediaStore(str(tmp_path / "t.tar"))]
    assert stores[0].read("x.png") == stores[1].read("x.png") == png(9)
    for store in stores:
        with pytest.raises(EvlgenError, match=r"y.png"):
            store.read("y.png")


def clip(levels: list[int]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_frames_of_a_clip_are_evenly_spread() -> None:
    levels = [20, 60, 100, 140, 180, 220]
    frames = decode_frames("a.mp4", clip(levels), 3)
    assert [levels[int(np.argmin([abs(f.mean() - v) for v in levels]))] for f in frames] == [60, 140, 220]
    assert len(decode_frames("a.mp4", clip(levels[:2]), 3)) == 2
    with pytest.raises(EvlgenError, match=r"b.mp4 cannot be decoded"):
        decode_frames("b.mp4", b"nothing", 3)


@pytest.fixture
def built(tmp_path: Path) -> tuple[FeatureCache, Path, list[CaptionedItem], object]:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "p.png").write_bytes(png(200))
    (tmp_path / "media" / "v.mp4").write_bytes(clip([20, 120, 220]))
    items = [CaptionedItem("p.png", ("a",)), CaptionedItem("v.mp4", ("b", "c"))]
    model = tiny_model(tiny_config(TINY_CNN))
    store = MediaStore(str(tmp_path / "media"))
    cache = build_features(model, items, store, views=3, max_frames=2, folder=tmp_path / "cache")
    return cache, tmp_path, items, model


def test_cached_features_are_the_towers(built: tuple[FeatureCache, Path, list[CaptionedItem], object]) -> None:
    cache, folder, _, model = built
    assert cache.frames == [1, 2]
    assert cache.rows.shape == (9, 9, 256)
    content = (folder / "media" / "v.mp4").read_bytes()
    frames = np.stack(
        [
            np.asarray(Image.fromarray(f).resize((96, 96), Image.Resampling.BICUBIC))
            for f in decode_frames("v.mp4", content, 2)
        ]
    )
    want = model.encode(model.processor([frames]))[0]
    got = torch.from_numpy(np.array(cache.get(1, [0, 1], 0))).float()
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)


def test_views_are_crops_the_same_for_all_frames_and_in_every_run() -> None:
    ramp = np.linspace(0, 255, 60).astype(np.uint8).repeat(40).reshape(60, 40).T  # brighter to the right
    frame = np.stack([ramp] * 3, axis=-1)
    made = list(_variants("a", [frame, frame], 3, 16))
    assert all(np.array_equal(a, b) for a, b in zip(made, _variants("a", [frame, frame], 3, 16), strict=True))
    plain, mirrored, cropped = made[:3]
    assert all(np.array_equal(a, b) for a, b in zip(made[:3], made[3:], strict=True))
    assert plain[0, 0, 0] < plain[0, -1, 0]
    assert mirrored[0, 0, 0] > mirrored[0, -1, 0]
    assert int(cropped[0, -1, 0]) - int(cropped[0, 0, 0]) < int(plain[0, -1, 0]) - int(plain[0, 0, 0])


def test_a_cache_is_reused(
    built: tuple[FeatureCache, Path, list[CaptionedItem], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, folder, items, model = built
    store = MediaStore(str(folder / "media"))
    monkeypatch.setattr(type(model), "encode", lambda *_: pytest.fail("computed again"))
    again = build_features(model, items, store, views=3, max_frames=2, folder=folder / "cache")
    assert again is not None
    assert np.array_equal(again.rows, cache.rows)


def test_a_cache_is_never_mistaken(built: tuple[FeatureCache, Path, list[CaptionedItem], object]) -> None:
    _, folder, items, model = built
    store = MediaStore(str(folder / "media"))
    half = tiny_model(tiny_config(TINY_CNN))
    half.vision.freeze(torch.bfloat16)
    keys = {
        cache_key(model, items, store, 3, 2),
        cache_key(tiny_model(tiny_config(TINY_CNN), seed=1), items, store, 3, 2),  # other weights
        cache_key(half, items, store, 3, 2),  # other precision
        cache_key(tiny_model(tiny_config(TINY_CNN.model_copy(update={"mean": (0.0, 0.0, 0.0)}))), items, store, 3, 2),
        cache_key(model, items[:1], store, 3, 2),
        cache_key(model, items, store, 2, 2),
        cache_key(model, items, store, 3, 4),
    }
    (folder / "media" / "p.png").write_bytes(png(201))  # another picture under the same name
    keys.add(cache_key(model, items, MediaStore(str(folder / "media")), 3, 2))
    assert len(keys) == 8


def test_a_full_disk_or_a_stop_leaves_no_half_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.png").write_bytes(png(1))
    model, items, store = tiny_model(tiny_config(TINY_CNN)), [CaptionedItem("p.png", ("a",))], MediaStore(str(tmp_path))
    options = {"views": 1, "max_frames": 1, "folder": tmp_path / "cache"}
    assert build_features(model, items, store, stop=lambda: True, **options) is None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evlgen.data.features._flush", full)
    with pytest.raises(WeightsError, match="full"):
        build_features(model, items, store, **options)
    monkeypatch.undo()
    assert not list((tmp_path / "cache").glob("derived/*"))
    assert build_features(model, items, store, **options) is not None


def sources(count: int, weight: float = 1.0) -> list[CaptionSource]:
    items = [CaptionedItem(str(i), ("x",)) for i in range(count)]
    rows = np.arange(count * 2, dtype=np.float16).reshape(count * 2, 1, 1)
    cache = FeatureCache(rows, list(range(0, count * 2, 2)), [2] * count, 1)
    return [CaptionSource("s", items, cache, [[[i]] for i in range(count)], weight)]


def test_an_epoch_holds_every_item_once_and_batches_repeat() -> None:
    maker = BatchMaker(sources(10), max_frames=2, seed=1)
    for epoch in range(3):
        assert sorted(i for _, i in maker.items_at(epoch * 10, 10)) == list(range(10))
    assert maker.items_at(0, 10) != maker.items_at(10, 10)
    again = BatchMaker(sources(10), max_frames=2, seed=1)
    first, second = maker.batch(7, 6, 1), again.batch(7, 6, 1)
    assert torch.equal(first.features, second.features)
    assert first.captions == second.captions
    for row, (_, item) in zip(first.features, first.items, strict=True):
        assert {int(v) // 2 for v in row.flatten()} == {item}, "features of another item"


def test_weights_hold_on_average() -> None:
    maker = BatchMaker([*sources(10, 1.0), *sources(10, 0.5), *sources(10, 2.0)], max_frames=1, seed=0)
    counts = Counter(s for s, _ in maker.items_at(0, 70))  # two epochs: 30 items, then 40
    assert counts == {0: 20, 1: 10, 2: 40}
