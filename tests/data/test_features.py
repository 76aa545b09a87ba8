"""The feature store: right, reused, resumed after kill -9, never stale, and clear about what stops it."""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evlgen.data import features
from evlgen.data.caption_sources import CaptionedItem, ReadSource
from evlgen.data.encoder import FrozenTower, encode_rows
from evlgen.data.features import FeatureCache, PreparedSource, feature_store, prepare_source
from evlgen.data.media import MediaStore
from evlgen.data.views import make_views
from evlgen.errors import EvlgenError, UsageError
from tests.data.media_files import clip, data_of, decode_frames, lay_out, png, source_of
from tests.modeling.conftest import TINY_CNN, tiny_config, tiny_model

FILES = {"p.png": png(200), "v.mp4": clip([20, 120, 220]), "q.png": png(90)}
ITEMS = [CaptionedItem(name, ("a", "b")) for name in FILES]


@pytest.fixture(scope="module")
def model() -> object:
    return tiny_model(tiny_config(TINY_CNN))


@pytest.fixture(scope="module")
def stored(model: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Media, and a folder of their features, which is copied before it is spoiled."""
    media = lay_out(tmp_path_factory.mktemp("stored"), FILES, "folder")
    build(model, media, place=media.parent / "f")
    return media, media.parent / "f"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows that were encoded, one entry a batch."""
    counts: list[int] = []

    def counting(encoder: object, views: list[np.ndarray]) -> np.ndarray:
        counts.append(len(views))
        return encode_rows(encoder, views)

    monkeypatch.setattr(features, "encode_rows", counting)
    return counts


def build(model: object, media: Path, **options: object) -> FeatureCache:
    prepared = prepare(model, media, **options)
    assert prepared is not None
    return prepared.cache


def read(media: Path, *, items: list[CaptionedItem] = ITEMS, views: int = 3, place: Path | None = None) -> ReadSource:
    return source_of(MediaStore(str(media)), items, views=views, features=None if place is None else str(place))


def prepare(
    model: object,
    media: Path,
    *,
    max_frames: int = 2,
    max_broken_share: float = 0.0,
    stop: object = lambda: False,
    **source: object,
) -> PreparedSource | None:
    data = data_of(max_frames=max_frames, max_broken_share=max_broken_share)
    return prepare_source(model, read(media, **source), data, stop=stop, folder=media.parent / "cache")


def expected(model: object, name: str, views: int = 3, max_frames: int = 2) -> np.ndarray:
    """The slow way: one row at a time."""
    frames = decode_frames(name, FILES[name], max_frames)
    pictures = make_views(name, frames, views, 96)
    with torch.no_grad():
        rows = [model.encode(model.processor([picture[None]]))[0, 0].half().numpy() for picture in pictures]
    return np.stack(rows)


def check(cache: FeatureCache, model: object, names: list[str]) -> None:
    for number, name in enumerate(names):
        want = expected(model, name)
        got = np.stack([cache.get(number, [f], v)[0] for f in range(cache.frames[number]) for v in range(3)])
        np.testing.assert_allclose(got.astype(np.float32), want.astype(np.float32), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_rows_are_those_of_the_tower(tmp_path: Path, model: object, kind: str) -> None:
    cache = build(model, lay_out(tmp_path, FILES, kind))
    assert cache.frames == [1, 2, 1]
    assert cache.rows.shape == (12, 9, 64)  # channels in front of the head
    check(cache, model, list(FILES))


def test_the_plain_view_is_what_the_processor_makes_of_a_frame(tmp_path: Path, model: object) -> None:
    """With one view, videos are resized where they are decoded; training and captioning must still see the same."""
    cache = build(model, lay_out(tmp_path, FILES, "tar"), views=1)
    frames = np.stack(decode_frames("v.mp4", FILES["v.mp4"], 2))
    want = model.encode(model.processor([frames]))[0]
    got = torch.from_numpy(np.array(cache.get(1, [0, 1], 0))).float()
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)


def test_views_are_crops_the_same_for_all_frames_and_in_every_run() -> None:
    ramp = np.linspace(0, 255, 60).astype(np.uint8).repeat(40).reshape(60, 40).T  # brighter to the right
    frame = np.stack([ramp] * 3, axis=-1)
    made = make_views("a", [frame, frame], 3, 16)
    assert all(np.array_equal(a, b) for a, b in zip(made, make_views("a", [frame, frame], 3, 16), strict=True))
    plain, mirrored, cropped = made[:3]
    assert all(np.array_equal(a, b) for a, b in zip(made[:3], made[3:], strict=True))
    assert np.array_equal(plain, np.asarray(Image.fromarray(frame).resize((16, 16), Image.Resampling.BICUBIC)))
    assert mirrored[0, 0, 0] > mirrored[0, -1, 0]
    assert int(cropped[0, -1, 0]) - int(cropped[0, 0, 0]) < int(plain[0, -1, 0]) - int(plain[0, 0, 0])


def test_only_what_is_new_or_changed_is_encoded(tmp_path: Path, model: object, encoded: list[int]) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    build(model, media, items=ITEMS[:2])
    assert sum(encoded) == 9
    encoded.clear()
    check(build(model, media), model, list(FILES))
    assert sum(encoded) == 3, "one new picture in three views"
    encoded.clear()
    build(model, media)
    (media / "p.png").touch()  # another time, the same content
    build(model, media)
    assert encoded == []
    changed = png(201)
    (media / "p.png").write_bytes(changed)
    try:
        FILES["p.png"], kept = changed, FILES["p.png"]
        check(build(model, media), model, list(FILES))
    finally:
        FILES["p.png"] = kept
    assert sum(encoded) == 3


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_changed_member_of_an_archive_is_never_stale(
    tmp_path: Path, model: object, encoded: list[int], kind: str
) -> None:
    """Members of a tar often all have the same time, and pictures of one make the same size."""
    media = lay_out(tmp_path, {"p.png": png(1), "q.png": png(2)}, kind)
    items = [CaptionedItem("p.png", ("a",)), CaptionedItem("q.png", ("a",))]
    build(model, media, items=items)
    lay_out(tmp_path, {"p.png": png(3), "q.png": png(2)}, kind)
    assert len(png(1)) == len(png(3))
    encoded.clear()
    cache = build(model, media, items=items)
    assert sum(encoded) == 3, "q.png is as it was"
    want = encode_rows(model, make_views("p.png", [np.full((10, 20, 3), 3, np.uint8)], 1, 96))
    np.testing.assert_allclose(cache.get(0, [0], 0).astype(np.float32), want.astype(np.float32), atol=2e-2)


def test_another_tower_or_transform_has_another_store(tmp_path: Path, model: object) -> None:
    media, data = lay_out(tmp_path, FILES, "folder"), data_of(max_frames=2)
    half = tiny_model(tiny_config(TINY_CNN))
    half.vision.freeze(torch.bfloat16)
    one_weight = tiny_model(tiny_config(TINY_CNN))
    next(one_weight.vision.trunk.parameters()).data[0, 0, 0, 0] += 1e-6
    others = [
        model,
        one_weight,
        half,
        tiny_model(tiny_config(TINY_CNN.model_copy(update={"mean": (0.0, 0.0, 0.0)}))),
        tiny_model(tiny_config(TINY_CNN.model_copy(update={"std": (0.4, 0.5, 0.5)}))),
    ]
    places = {feature_store(m, read(media), data, folder=tmp_path).place for m in others}
    places.add(feature_store(model, read(media, views=2), data, folder=tmp_path).place)
    places.add(feature_store(model, read(media), data_of(max_frames=4), folder=tmp_path).place)
    assert len(places) == 7
    same = tiny_model(tiny_config(TINY_CNN.model_copy(update={"layout": "ordered"})))
    assert feature_store(same, read(media), data, folder=tmp_path).place in places, "where weights come from"


def test_features_with_more_views_serve_where_fewer_are_wanted(
    tmp_path: Path, model: object, encoded: list[int]
) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    alone = build(model, media, views=2, place=tmp_path / "alone")
    build(model, media, views=4, items=ITEMS[1:])
    build(model, media, views=3)
    encoded.clear()
    shared = build(model, media, views=2)
    assert not encoded, "nothing is encoded again"
    assert (shared.views, shared.kept_views, shared.frames) == (2, 3, alone.frames)
    for item, frames in enumerate(alone.frames):
        for view in range(2):
            which = list(range(frames))
            np.testing.assert_allclose(shared.get(item, which, view), alone.get(item, which, view), atol=2e-2)


def test_a_named_folder_of_another_tower_is_refused_and_left_alone(tmp_path: Path, model: object) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    build(model, media, place=tmp_path / "mine")
    before = {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()}
    other = tiny_model(tiny_config(TINY_CNN), seed=1)
    with pytest.raises(UsageError, match=r"features in .*mine are of another make: weights is \w+ there and \w+ here"):
        build(other, media, place=tmp_path / "mine")
    grey = tiny_model(tiny_config(TINY_CNN.model_copy(update={"mean": (0.0, 0.0, 0.0)})))
    says = r"vision.mean is \[0.5, 0.5, 0.5\] there and \[0.0, 0.0, 0.0\] here, views is 3 there and 1 here"
    with pytest.raises(UsageError, match=says):
        build(grey, media, place=tmp_path / "mine", views=1)
    assert {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()} == before
    with pytest.raises(UsageError, match=r"media is not a folder of features"):
        build(model, media, place=media)


def test_a_tower_whose_code_changed_is_noticed(tmp_path: Path, model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    build(model, media)
    encode = type(model).encode
    monkeypatch.setattr(type(model), "encode", lambda self, pixels: encode(self, pixels * 0.5))
    with pytest.raises(UsageError, match=r"made by other code: the same tower .* differ by \d+%.*timm"):
        build(model, media)


def test_the_tower_alone_makes_the_same_store(tmp_path: Path, model: object) -> None:
    tower = FrozenTower.from_config(model.config)
    tower.vision.load_state_dict(model.vision.state_dict())
    media = lay_out(tmp_path, FILES, "folder")
    first = build(model, media)
    again = build(tower, media)
    assert np.array_equal(first.rows, again.rows)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from evlgen.data import store
from tests.data.test_features import *
store.COMMIT_SECONDS = 0.0
features.BATCH_ROWS = 4
tower = FrozenTower.from_config(tiny_config(TINY_CNN))
tower.vision.load_state_dict(torch.load(sys.argv[1], weights_only=True))
build(tower, Path(sys.argv[2]), stop=lambda: os.kill(os.getpid(), signal.SIGKILL) if seen() else False)
"""
_calls = iter(range(100))


def seen() -> bool:
    return next(_calls) == 1


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, model: object, encoded: list[int]) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    torch.save(model.vision.state_dict(), tmp_path / "tower.pt")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tower.pt"), str(media)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (place,) = (tmp_path / "cache" / "features").iterdir()
    lines = (place / "journal.jsonl").read_text().splitlines()
    (kept,) = [json.loads(line)["name"] for line in lines]
    assert kept in ("p.png", "q.png"), "two pictures are decoded, one batch is out"
    shutil.copytree(place, tmp_path / "torn")  # as a power cut may leave it: rows that no line names, and half a line
    with (tmp_path / "torn" / "rows.f16").open("ab") as rows, (tmp_path / "torn" / "journal.jsonl").open("ab") as file:
        rows.write(b"x" * 5000)
        file.write(lines[0][:40].encode())
    for one in (place, tmp_path / "torn"):
        encoded.clear()
        cache = build(model, media, place=one)
        assert sum(encoded) == 9, "what was kept is not encoded again"
        check(cache, model, list(FILES))


def test_a_stop_keeps_what_is_computed(tmp_path: Path, model: object, encoded: list[int]) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    options = {"views": 16, "max_frames": 1}
    assert prepare(model, media, stop=lambda: True, **options) is None
    assert encoded == [16]
    assert prepare(model, media, **options) is not None
    assert sum(encoded) == 48


def test_a_full_disk_keeps_what_is_computed(
    tmp_path: Path, model: object, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real failure of the real writer: the process may write 50 KiB a file, the rows take 108 KiB."""
    media = lay_out(tmp_path, FILES, "folder")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr("evlgen.data.store.COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(features, "BATCH_ROWS", 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50 << 10, limits[1]))
    try:
        with pytest.raises(EvlgenError, match=r"features cannot be written to .*; those of 1 items are kept"):
            build(model, media, views=24)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    encoded.clear()
    cache = build(model, media, views=24)
    assert sum(encoded) == 3 * 24, "the first of four frames was kept"
    assert cache.frames == [1, 2, 1]


def test_what_does_not_fit_is_refused_before_anything_is_encoded(
    tmp_path: Path, model: object, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    row = 9 * 64 * 2
    monkeypatch.setattr("evlgen.data.planning.free_bytes", lambda _: 12 * row - 1)
    with pytest.raises(EvlgenError, match=r"the features of 3 items take up to 0.0 GB, 0.0 GB are free on the disk of"):
        build(model, media)
    assert encoded == []
    monkeypatch.setattr("evlgen.data.planning.free_bytes", lambda _: 12 * row)
    assert build(model, media).rows.nbytes == 12 * row


def spoil(path: Path, at: int, count: int = 1) -> None:
    """Turn over the bits of some bytes of a file, its size kept."""
    with path.open("r+b") as file:
        file.seek(at)
        content = bytes(byte ^ 255 for byte in file.read(count))
        file.seek(at)
        file.write(content)


ROW = 9 * 64 * 2  # bytes


def first_row(folder: Path, item: str) -> int:
    """The first row of an item with three views a frame; which comes first depends on which is decoded first."""
    lines = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return next(line["row"] for line in lines if line["name"] == item)


@pytest.mark.parametrize("spoilt", ["everything", "a byte of the video", "a checksum of p.png", "the line of p.png"])
def test_what_a_disk_has_spoiled_is_encoded_again(
    tmp_path: Path, model: object, stored: tuple[Path, Path], encoded: list[int], spoilt: str
) -> None:
    media, folder = stored[0], shutil.copytree(stored[1], tmp_path / "f")
    again = {"everything": 12, "a byte of the video": 6}.get(spoilt, 3)
    if spoilt == "everything":
        (folder / "rows.f16").write_bytes(b"\0" * 12 * ROW)
    elif spoilt == "a byte of the video":
        spoil(folder / "rows.f16", (first_row(folder, "v.mp4") + 5) * ROW + 99)
    elif spoilt == "a checksum of p.png":
        spoil(folder / "rows.crc32", (first_row(folder, "p.png") + 2) * 4)
    else:
        journal = folder / "journal.jsonl"
        spoil(journal, journal.read_bytes().index(b"p.png"))
    encoded.clear()
    check(build(model, media, place=folder), model, list(FILES))
    assert sum(encoded) == again, "the items that are spoiled, and no others"
    encoded.clear()
    build(model, media, place=folder)
    assert encoded == []


def test_rows_are_looked_at_when_they_are_used(
    tmp_path: Path, model: object, stored: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of stores that are too large to be read when they are opened."""
    monkeypatch.setattr(features, "CHECKED_BYTES", 0)
    media, folder = stored[0], shutil.copytree(stored[1], tmp_path / "f")
    for item, row in (("v.mp4", 4), ("q.png", 2)):  # the second view of its second frame, and the third of the picture
        spoil(folder / "rows.f16", (first_row(folder, item) + row) * ROW + 7)
    cache = build(model, media, place=folder)
    np.testing.assert_allclose(cache.get(0, [0], 2)[0], expected(model, "p.png")[2], rtol=2e-2, atol=2e-2)
    assert cache.get(1, [0], 1).shape == (1, 9, 64), "another row of the video is as it was"
    with pytest.raises(EvlgenError) as error:
        cache.get(1, [0, 1], 1)
    assert str(error.value) == (
        f"the features of 2 of 3 items in {folder} are damaged on the disk (run the same command again, with "
        "--resume if it trains: they are encoded again; and look at the disk)"
    )
    check(build(model, media, place=folder), model, list(FILES))


def test_a_spoiled_line_never_gives_an_item_the_rows_of_another(
    tmp_path: Path, model: object, stored: tuple[Path, Path]
) -> None:
    media, folder = stored[0], shutil.copytree(stored[1], tmp_path / "f")
    journal = folder / "journal.jsonl"
    journal.write_text(re.sub(r'("p.png".*"row": )\d+', rf"\g<1>{first_row(folder, 'q.png')}", journal.read_text()))
    check(build(model, media, place=folder), model, list(FILES))


def test_broken_items_are_borne_up_to_the_share(tmp_path: Path, model: object, encoded: list[int]) -> None:
    files = {**FILES, "bad.png": b"no picture"}
    media = lay_out(tmp_path, files, "folder")
    items = [CaptionedItem("gone.png", ("x",)), ITEMS[0], CaptionedItem("bad.png", ("x",)), *ITEMS[1:]]
    options = {"items": items, "place": tmp_path / "f"}
    with pytest.raises(EvlgenError) as error:
        build(model, media, max_broken_share=0.3, **options)
    assert error.value.what.startswith(
        f"set/train: 2 of 5 items (40.0%) cannot be used, data.max_broken_share allows 30.0%: gone.png: {media} holds "
        "no such file; bad.png: it cannot be decoded: UnidentifiedImageError: cannot identify image file"
    )
    assert "all are listed in" in error.value.hint
    prepared = prepare(model, media, max_broken_share=0.4, **options)
    assert prepared is not None
    assert prepared.items == ITEMS
    assert [(b.name, b.kind) for b in prepared.broken] == [("gone.png", "missing"), ("bad.png", "decode-error")]
    check(prepared.cache, model, list(FILES))
    listed = [json.loads(line) for line in (tmp_path / "f" / "broken-set-train.jsonl").read_text().splitlines()]
    assert [row["name"] for row in listed] == ["gone.png", "bad.png"]
    encoded.clear()
    again = prepare(model, media, max_broken_share=0.4, **options)
    assert again is not None
    assert again.items == ITEMS
    assert encoded == []
    (media / "bad.png").write_bytes(png(7))  # mended: it costs itself only
    (media / "gone.png").write_bytes(png(8))
    mended = prepare(model, media, **options)
    assert mended is not None
    assert mended.items == items
    assert sum(encoded) == 6
    assert not (tmp_path / "f" / "broken-set-train.jsonl").exists()


def test_too_many_missing_files_are_said_before_hours_are_spent(
    tmp_path: Path, model: object, encoded: list[int]
) -> None:
    media = lay_out(tmp_path, FILES, "folder")
    items = [*ITEMS, *(CaptionedItem(f"{n}.png", ("x",)) for n in range(5))]
    with pytest.raises(EvlgenError, match=r"5 of 8 items \(62.5%\).*0.png: .*; 1.png: .*; 2.png: .*; and 2 more"):
        build(model, media, items=items, max_broken_share=0.5)
    assert encoded == []
