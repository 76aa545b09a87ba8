"""Batches from shards: what is drawn, in which order, and what stands in for broken samples."""

import io
import json
import tarfile
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evlgen.data.batches import BatchMaker, CaptionSource
from evlgen.data.caption_sources import CaptionedItem
from evlgen.data.features import FeatureCache
from evlgen.data.shards import ShardSource
from evlgen.data.views import make_views
from evlgen.errors import EvlgenError
from tests.data.shards.tars import (
    SIDE,
    found,
    numbers,
    open_source,
    pattern,
    picture,
    shown,
    with_tarfile,
    write_shard,
    write_shards,
)

SIZES = [3, 5, 2, 4]


def maker(source: ShardSource, seed: int = 1) -> BatchMaker:
    return BatchMaker([source], max_frames=1, seed=seed)


def drawn(source: ShardSource, start: int, count: int, seed: int = 1) -> list[int]:
    """Numbers in the captions; the pictures must say the same."""
    batch = maker(source, seed).batch(start, count, 1)
    said = [captions[0][0] for captions in batch.captions]
    assert [shown(pixels[0].numpy()) for pixels in batch.features] == said, "picture and caption of one sample"
    return said


@pytest.fixture
def shards(tmp_path: Path) -> str:
    write_shards(tmp_path / "laion", SIZES)
    return pattern(tmp_path / "laion", len(SIZES))


def test_an_epoch_has_every_sample_once(shards: str, tmp_path: Path) -> None:
    source = open_source(shards, tmp_path, {"shard_window": 2})
    assert (source.name, len(source)) == ("laion/{00000..00003}", 14)
    epochs = [drawn(source, 14 * n, 14) for n in range(3)]
    assert all(sorted(epoch) == list(range(14)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert drawn(source, 0, 14, seed=2) != epochs[0]
    source.close()


def test_samples_are_those_that_tarfile_reads(shards: str, tmp_path: Path) -> None:
    source = open_source(shards, tmp_path)
    at = 0
    for n in range(len(SIZES)):
        for key, parts in with_tarfile(tmp_path / "laion" / f"{n:05d}.tar").items():
            assert source.picture(at)[1] == parts["jpg"]
            assert source.captions_of(at) == [numbers(parts["txt"].decode())]
            assert source.called(at) == f"{n:05d}.tar/{key}"
            at += 1
    assert at == len(source)


def test_samples_are_those_that_webdataset_reads(shards: str, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    source = open_source(shards, tmp_path)
    for at, sample in enumerate(webdataset.WebDataset(shards, shardshuffle=False)):
        assert (source.picture(at)[1], source.captions_of(at)) == (sample["jpg"], [numbers(sample["txt"].decode())])


def test_position_alone_decides(shards: str, tmp_path: Path) -> None:
    whole = drawn(open_source(shards, tmp_path), 0, 60)
    resumed = open_source(shards, tmp_path / "another-cache")
    assert drawn(resumed, 37, 23) == whole[37:]
    assert drawn(resumed, 5, 4) == whole[5:9], "also backwards"
    halves = [open_source(shards, tmp_path) for _ in range(2)]  # two processes, six samples a step
    for step in range(8):
        parts = [drawn(half, 6 * step + 3 * rank, 3) for rank, half in enumerate(halves)]
        assert parts[0] + parts[1] == whole[6 * step : 6 * step + 6]
    planned = maker(open_source(shards, tmp_path)).captions_at(0, 60, 1)
    assert [captions[0][0] for captions in planned] == whole


def test_a_damaged_index_is_made_again(shards: str, tmp_path: Path) -> None:
    whole = drawn(open_source(shards, tmp_path), 0, 14)
    kept = sorted(tmp_path.glob("shards/index/*/*.npy"))
    assert len(kept) == len(SIZES)
    for path, content in zip(kept, (b"", b"junk", kept[2].read_bytes()[:-8], b"\0" * 700), strict=True):
        path.write_bytes(content)
    assert drawn(open_source(shards, tmp_path), 0, 14) == whole


def test_counts_do_not_depend_on_scans(shards: str, tmp_path: Path) -> None:
    """With stats beside some shards, sizes.json for others, and none for the rest."""
    laion = tmp_path / "laion"
    whole = drawn(open_source(shards, tmp_path), 0, 30)
    for n in (1, 2, 3):
        (laion / f"{n:05d}_stats.json").unlink()
    (laion / "sizes.json").write_text(json.dumps({"00001.tar": 5, "elsewhere.tar": 9}))
    made = found(shards, tmp_path / "another-cache")
    assert made.counts.samples.tolist() == SIZES
    assert made.counts.sources == {"scan": 2, "sizes or stats": 2}
    assert drawn(open_source(shards, tmp_path / "another-cache"), 0, 30) == whole
    (laion / "sizes.json").write_text('{"00001.tar": "many"}')
    with pytest.raises(EvlgenError, match=r"sizes.json: 00001.tar is 'many', expected a number of samples \(mend or"):
        found(shards, tmp_path)
    (laion / "sizes.json").write_text("[1")
    with pytest.raises(EvlgenError, match=r"sizes.json is not JSON: "):
        found(shards, tmp_path)


def test_limit_takes_the_first_samples(shards: str, tmp_path: Path) -> None:
    for limit in (1, 3, 6, 13, 99):
        source = open_source(shards, tmp_path, {"limit": limit})
        assert sorted(drawn(source, 0, len(source))) == list(range(min(limit, 14)))


def test_views_are_the_crops_of_the_cache(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:30, :40]
    pixels = np.stack([rows * 8, columns * 6, rows + columns], axis=-1).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    write_shard(tmp_path / "0.tar", {"a": {"png": content.getvalue(), "txt": b"picture 0"}})
    source = open_source(str(tmp_path / "0.tar"), tmp_path, {"views": 4})
    views = make_views("0.tar/0", [pixels], 4, SIDE)
    assert len({v.tobytes() for v in views}) == 4
    for view in range(4):
        twice = source.cache.get(0, [0, 0], view)
        assert twice.shape == (2, 3, SIDE, SIDE)
        assert all(np.array_equal(one.transpose(1, 2, 0), views[view]) for one in twice)


def test_json_has_the_caption_where_there_is_no_txt(tmp_path: Path) -> None:
    samples = {
        "a": {"jpg": picture(1), "json": b'{"caption": "picture 1"}'},
        "b": {"jpg": picture(2), "txt": b"  picture\n 2 ", "json": b'{"caption": "picture 9"}'},
    }
    write_shard(tmp_path / "0.tar", samples)
    assert sorted(drawn(open_source(str(tmp_path / "*.tar"), tmp_path), 0, 2)) == [1, 2]


def test_a_caption_of_megabytes_is_none(tmp_path: Path) -> None:
    samples = {"a": {"jpg": picture(1), "txt": b"picture 1"}, "b": {"jpg": picture(2), "txt": b"word " * 400_000}}
    write_shard(tmp_path / "0.tar", samples)
    source = open_source(str(tmp_path / "0.tar"), tmp_path, max_broken_share=0.5)
    assert drawn(source, 0, 2) == [1, 1]
    assert [b.message for b in source.news()] == ["its text has 2,000,000 bytes, no caption"]


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """Four shards: 00001 is cut in its third sample, in 00002 two samples have no caption and one is no picture."""
    write_shards(tmp_path / "laion", [5, 5, 5, 5])
    path = tmp_path / "laion" / "00001.tar"
    with tarfile.open(path) as tar:
        third = next(m for m in tar if m.name == "000010002.jpg").offset_data
    path.write_bytes(path.read_bytes()[: third + 20])
    samples = with_tarfile(tmp_path / "laion" / "00002.tar")
    keys = list(samples)
    del samples[keys[0]]["txt"]
    samples[keys[0]]["json"] = b'{"caption": null}'
    samples[keys[1]]["txt"] = b" \n"
    samples[keys[3]]["jpg"] = samples[keys[3]]["jpg"][:40]
    write_shard(tmp_path / "laion" / "00002.tar", samples)
    return pattern(tmp_path / "laion", 4)


USABLE = [0, 1, 2, 3, 4, 5, 6, 12, 14, 15, 16, 17, 18, 19]


def test_other_samples_of_the_window_stand_in_for_broken_ones(damaged: str, tmp_path: Path) -> None:
    source = open_source(damaged, tmp_path, {"shard_window": 2}, max_broken_share=0.4)
    epochs = [drawn(source, 20 * n, 20) for n in range(4)]
    for number, epoch in enumerate(epochs):
        counts = Counter(epoch)
        assert sorted(counts) == USABLE, "none is lost, none that is broken is seen"
        order = np.random.default_rng([1, 0, 21, number]).permutation(4)
        first = set(order[:2].tolist())  # shards of the first window
        assert {n // 5 for n in epoch[:10]} <= first
    kinds = Counter(b.kind for b in source.cache.news())
    assert kinds == {"missing": 2, "no-picture": 1, "no-captions": 2, "decode-error": 1}
    assert source.cache.news() == [], "each is told once"
    whole = list(chain.from_iterable(epochs))
    again = open_source(damaged, tmp_path, {"shard_window": 2}, max_broken_share=0.4)
    assert [n for start in range(79, -1, -1) for n in drawn(again, start, 1)][::-1] == whole
    planned = maker(again).captions_at(0, 80, 1)
    differ = [n for n, (a, b) in enumerate(zip(planned, whole, strict=True)) if a[0][0] != b]
    assert {planned[n][0][0] for n in differ} == {13}, "only the picture is not known to be broken before it is decoded"


def test_too_many_broken_samples_stop_the_run(damaged: str, tmp_path: Path) -> None:
    source = open_source(damaged, tmp_path, {"shard_window": 4}, max_broken_share=0.2)
    with pytest.raises(EvlgenError) as error:
        drawn(source, 0, 20)
    text = str(error.value)
    assert text.startswith(
        "laion/{00000..00003}: 5 of 20 items (25.0%) cannot be used, data.max_broken_share allows 20.0%"
    )
    assert text.count("\n") == 0
    strict = open_source(damaged, tmp_path)
    with pytest.raises(EvlgenError, match=r": 1 of 20 items \(5.0%\) cannot be used, .* allows 1.0%: 0000[12].tar/"):
        drawn(strict, 0, 20)


def test_shards_that_are_cut_off_are_named_and_held_against_the_share(tmp_path: Path) -> None:
    """Without files that say how many samples there were, nobody knows what is missing: the shards count."""
    write_shards(tmp_path / "laion", [5, 5, 5, 5], stats=False)
    path = tmp_path / "laion" / "00001.tar"
    with tarfile.open(path) as tar:
        third = next(m for m in tar if m.name == "000010002.jpg").offset_data
    path.write_bytes(path.read_bytes()[: third - 512])
    shards = pattern(tmp_path / "laion", 5)
    made = found(shards, tmp_path, max_broken_share=0.3)
    with pytest.raises(EvlgenError) as error:
        made.check_whole(0.3)
    assert str(error.value).startswith(
        f"shards {shards}: 1 of 5 are cut off and 1 are missing (40.0%, data.max_broken_share allows 30.0%): {path} ("
    )
    made.check_whole(0.4)
    source = open_source(shards, tmp_path, max_broken_share=0.4)
    assert [(b.name, b.kind, b.message) for b in source.news()] == [
        ("00001.tar", "cut", "the shard is cut off; 2 samples are left of it")
    ]
    assert len(source) == 17


def test_a_window_without_anything_usable_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"no tar")
    (tmp_path / "0_stats.json").write_text('{"successes": 3}')
    source = open_source(str(tmp_path / "0.tar"), tmp_path, max_broken_share=0.999)
    source._share = 1.0
    with pytest.raises(
        EvlgenError, match=r"100 samples of one window of shards, and none can be used: 0.tar/number"
    ) as e:
        source.order((0,), 0)
    assert "0.tar holds 0 samples: the file is cut off" in str(e.value)


def test_a_shard_that_is_gone_is_one_line(shards: str, tmp_path: Path) -> None:
    source = open_source(shards, tmp_path)
    (tmp_path / "laion" / "00002.tar").unlink()
    with pytest.raises(EvlgenError, match=r"laion/00002.tar cannot be read: No such file or directory \(bring it back"):
        drawn(source, 0, 14)


def memory_source(name: str, count: int, ratio: float | None, weight: float = 1.0) -> CaptionSource:
    pixels = np.zeros((count, 3, SIDE, SIDE), dtype=np.float16)
    items = [CaptionedItem(str(i), ("x",)) for i in range(count)]
    return CaptionSource(
        name, items, FeatureCache(pixels, list(range(count)), [1] * count, 1), [[[i]] for i in range(count)],
        ratio=ratio, weight=weight,
    )  # fmt: skip


def test_mixed_15_to_4_to_1(tmp_path: Path) -> None:
    write_shards(tmp_path / "laion", [30, 30])
    write_shards(tmp_path / "ccs", [9])
    sources = [
        open_source(f"{tmp_path}/laion/*.tar", tmp_path, {"ratio": 15.0}),
        open_source(f"{tmp_path}/ccs/*.tar", tmp_path, {"ratio": 4.0}),
        memory_source("coco", 7, 1.0),
    ]
    mixed = BatchMaker(sources, max_frames=1, seed=3)
    items = mixed.items_at(0, 2 * 1024)
    assert Counter(s for s, _ in items) == {0: 1536, 1: 410, 2: 102}  # 2048 x (0.75, 0.2, 0.05)
    for source, size in ((0, 60), (1, 9), (2, 7)):
        own = [i for s, i in items if s == source]
        whole = len(own) // size * size
        assert all(sorted(own[a:b]) == list(range(size)) for a, b in pairwise(range(0, whole + 1, size)))
    assert BatchMaker(sources, max_frames=1, seed=3).items_at(1500, 40) == items[1500:1540]


def test_weights_with_shards_are_shares(shards: str, tmp_path: Path) -> None:
    """14 samples of weight 1 and 7 items of weight 4 are 14 to 28."""
    mixed = BatchMaker([open_source(shards, tmp_path), memory_source("coco", 7, None, 4.0)], max_frames=1, seed=0)
    counts = Counter(s for s, _ in mixed.items_at(0, 3 * 1024))
    assert counts == {0: 1024, 1: 2048}


def test_items_in_memory_are_drawn_as_before(tmp_path: Path) -> None:
    """Written down before sources had orders of their own."""
    plain = BatchMaker([memory_source("a", 5, None), memory_source("b", 3, None, 2.0)], max_frames=1, seed=4)
    ratio = BatchMaker([memory_source("a", 5, 3.0), memory_source("b", 3, 1.0)], max_frames=1, seed=4)
    assert plain.items_at(8, 10) == PLAIN
    assert ratio.items_at(8, 10) == RATIO
    assert torch.is_tensor(plain.batch(0, 2, 1).features)


PLAIN = [(1, 2), (0, 3), (1, 0), (1, 0), (1, 1), (1, 2), (0, 2), (1, 2), (1, 1), (0, 1)]
RATIO = [(1, 0), (0, 4), (1, 1), (1, 2), (1, 0), (1, 2), (0, 0), (0, 1), (0, 4), (1, 1)]
