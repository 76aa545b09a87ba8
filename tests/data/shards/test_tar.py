"""The scan of a tar's headers against the standard library's tarfile."""

import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest

from evlgen.data.shards.tar_index import META, PICTURE, TEXT, ShardIndex, ends_whole, member_name, scan
from tests.data.shards.tars import add, base_256, member, picture, with_tarfile, write_shard, write_shards


def read(path: Path, index: ShardIndex) -> list[dict[str, bytes]]:
    content = path.read_bytes()
    columns = {"picture": PICTURE, "txt": TEXT, "json": META}
    return [
        {name: content[row[c] : row[c] + row[c + 1]] for name, c in columns.items() if row[c] >= 0}
        for row in index.rows.tolist()
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path: Path, form: int) -> None:
    generator = random.Random(form)
    samples = {}
    for n in range(40):
        folder = "" if n % 3 else "a" * generator.choice([1, 90]) + "/" + "b" * generator.choice([1, 60]) + "/"
        key = f"{folder}{n:05d}"
        parts = {
            "jpg" if n % 2 else "PNG": generator.randbytes(generator.choice([0, 1, 511, 512, 513, 5000])),
            "txt": f"größe {n}".encode(),
            "json": json.dumps({"caption": n}).encode(),
            "cls": b"7",
        }
        if n % 5 == 0:
            del parts["txt"]
        samples[key] = dict(generator.sample(sorted(parts.items()), len(parts)))
    path = tmp_path / "00000.tar"
    write_shard(path, samples, form)
    index = scan(path)
    assert not index.truncated
    assert ends_whole(path)
    expected = [
        {{"jpg": "picture", "PNG": "picture"}.get(k, k): v for k, v in parts.items() if k != "cls"}
        for parts in with_tarfile(path).values()
    ]
    assert read(path, index) == expected
    header = path.read_bytes()[int(index.rows[1, PICTURE]) - 512 : int(index.rows[1, PICTURE])]
    assert member_name(header).partition(".")[0] == "00001"


def test_names_too_long_for_a_header(tmp_path: Path) -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        keys = ["x" * 300, "x" * 299 + "y", "ü" * 120]
        write_shard(path, {key: {"jpg": picture(n), "txt": b"a"} for n, key in enumerate(keys)}, form)
        assert [r["picture"] for r in read(path, scan(path))] == [picture(n) for n in range(3)]


def test_folders_links_and_notes_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("x.y")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        add(tar, "__meta__.json", b"{}")
        add(tar, "no-suffix", b"?")
        add(tar, "./x.y/1.jpg", picture(1))
        add(tar, "./x.y/1.txt", b"one")
        link = tarfile.TarInfo("2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "1.jpg"
        tar.addfile(link)
    assert read(tmp_path / "a.tar", scan(tmp_path / "a.tar")) == [{"picture": picture(1), "txt": b"one"}]


def test_a_tar_that_is_cut_anywhere(tmp_path: Path) -> None:
    write_shards(tmp_path, [3])
    whole = (tmp_path / "00000.tar").read_bytes()
    complete = read(tmp_path / "00000.tar", scan(tmp_path / "00000.tar"))
    end = len(whole.rstrip(b"\0"))
    for cut in range(0, end, 97):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        index = scan(tmp_path / "cut.tar")
        assert index.truncated, cut
        assert not ends_whole(tmp_path / "cut.tar")
        have = read(tmp_path / "cut.tar", index)
        assert have[:-1] == complete[: len(have) - 1] if have else True
        assert all(part in complete[len(have) - 1].items() for part in have[-1].items()) if have else True
    (tmp_path / "other.tar").write_bytes(b"this is no tar at all" * 100)
    assert scan(tmp_path / "other.tar").truncated
    assert len(scan(tmp_path / "other.tar").rows) == 0
    (tmp_path / "middle.tar").write_bytes(whole[:2048] + b"?" * 512 + whole[2560:])
    assert scan(tmp_path / "middle.tar").truncated


def test_only_samples_of_a_split(tmp_path: Path) -> None:
    samples = {
        str(n): {"jpg": picture(n), "txt": b"x", **({"json": json.dumps({"split": split}).encode()} if split else {})}
        for n, split in enumerate(["train", "val", None, "train"])
    }
    write_shard(tmp_path / "a.tar", samples)
    assert [r["picture"] for r in read(tmp_path / "a.tar", scan(tmp_path / "a.tar", "train"))] == [
        picture(0),
        picture(3),
    ]
    assert len(scan(tmp_path / "a.tar", "test").rows) == 0


def test_an_index_is_a_memory_map(tmp_path: Path) -> None:
    write_shards(tmp_path, [4])
    index = scan(tmp_path / "00000.tar")
    np.save(tmp_path / "i.npy", index.to_array())
    again = ShardIndex.from_array(np.load(tmp_path / "i.npy", mmap_mode="r"))
    assert isinstance(again.rows, np.memmap)
    assert np.array_equal(again.rows, index.rows)
    assert not again.truncated
    assert ShardIndex.from_array(ShardIndex(index.rows, True).to_array()).truncated
    array = index.to_array()
    for at in ((2, 0), (0, 1), (4, 5)):
        damaged = array.copy()
        damaged[at] ^= 4
        with pytest.raises(ValueError, match="damaged"):
            ShardIndex.from_array(damaged)
    for other in (array[:-1], array[:0], array.astype(np.int32), array[:, 0]):
        with pytest.raises(ValueError, match="damaged"):
            ShardIndex.from_array(other)


END = b"\0" * 1024


@pytest.mark.parametrize(
    "records",
    [b"0 path=a.jpg\n", b"00 size=5\n", b"3 \n", b"9999 path=a\n", b"7" * 5000, b"8 size=x", b"12 size=-12\n",
     b"12 size=1_2\n", "10 size=\u0665\n".encode(), b"29 size=" + b"9" * 20 + b"\n"],
    ids=repr,
)  # fmt: skip
def test_records_that_are_none_end_a_shard(tmp_path: Path, records: bytes) -> None:
    first = member(b"1.jpg", b"one") + member(b"1.txt", b"a")
    (tmp_path / "a.tar").write_bytes(first + member(b"x", records, kind=b"x") + member(b"2.jpg", b"two") + END)
    index = scan(tmp_path / "a.tar")
    assert index.truncated
    assert read(tmp_path / "a.tar", index) == [{"picture": b"one", "txt": b"a"}]


def test_many_records_take_no_time(tmp_path: Path) -> None:
    """A megabyte of records is read once, not copied once a record."""
    records = b"6 a=b\n" * 160_000
    (tmp_path / "a.tar").write_bytes(member(b"x", records, kind=b"x") + member(b"1.jpg", b"one") + END)
    assert read(tmp_path / "a.tar", scan(tmp_path / "a.tar")) == [{"picture": b"one"}]


def test_binary_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(member(b"1.jpg", b"one", size=base_256(3)) + member(b"1.txt", b"a") + END)
    assert read(path, scan(path)) == [{"picture": b"one", "txt": b"a"}]
    assert list(with_tarfile(path).values()) == [{"jpg": b"one", "txt": b"a"}]
    for size in (base_256(1 << 62), base_256((1 << 88) - 1), b"\xff" * 12, b"\x80\xff" + b"\xff" * 10):
        for name in (b"1.jpg", b"1.cls"):  # one that is kept, and one that is passed over
            path.write_bytes(member(b"0.jpg", b"zero") + member(name, b"one", size=size) + END)
            index = scan(path)
            assert index.truncated
            assert read(path, index)[0] == {"picture": b"zero"}


@pytest.mark.parametrize("size", [b"0000000008\0\0", b"-0000000001\0", b"0x00000000a\0", b"0_000000_01\0", b"7" * 12])
def test_sizes_that_are_no_numbers_or_beyond_the_file(tmp_path: Path, size: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(member(b"0.jpg", b"zero") + member(b"1.cls", b"one", size=size) + END)
    index = scan(path)
    assert index.truncated
    assert read(path, index)[0] == {"picture": b"zero"}
    path.write_bytes(member(b"0.jpg", b"zero") + member(b"x", b"", size=b"7" * 12, kind=b"x") + END)
    assert scan(path).truncated
