"""Shards behind fsspec: the same batches, within a bounded folder of fetched shards; and names of shards."""

import errno
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from evlgen.data.batches import BatchMaker
from evlgen.data.shards import count_shards, open_reader
from evlgen.data.shards.listing import ShardFiles
from evlgen.data.shards.shard_names import expand_braces, name_spans, numbering_gaps
from evlgen.errors import EvlgenError, UsageError
from evlgen.system import remote_files
from tests.data.shards.tars import data_config, found, open_source, pattern, write_shards

SIZES = [3, 5, 2, 4, 3, 3]
SHARD_BYTES = 20_480


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    write_shards(tmp_path / "laion", SIZES)
    return tmp_path / "laion"


@pytest.fixture
def remote(memory: Any, local: Path) -> str:
    for path in local.iterdir():
        memory.pipe(f"/bucket/laion/{path.name}", path.read_bytes())
    return "memory://bucket/laion/{00000..00005}.tar"


def captions(maker: BatchMaker, start: int, count: int) -> list[int]:
    return [c[0][0] for c in maker.batch(start, count, 1).captions]


def in_folder(folder: Path) -> int:
    """Bytes of shards that are there or being fetched."""
    total = 0
    for path in (folder / "shards" / "fetched").glob("*.[tp]ar*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_remote_batches_are_the_local_ones(remote: str, local: Path, tmp_path: Path) -> None:
    size = max(p.stat().st_size for p in local.glob("*.tar"))
    assert size <= SHARD_BYTES
    here = open_source(pattern(local, 6), tmp_path, {"shard_window": 2})
    whole = captions(BatchMaker([here], max_frames=1, seed=0), 0, 100)
    for url in (remote, f"file://{local}/{{00000..00005}}.tar", f"file://{local}/*.tar"):
        folder = tmp_path / url[:6] / str(len(url))
        far = open_source(url, folder, {"shard_window": 2}, shard_cache_gb=3 * SHARD_BYTES / 1e9)
        maker, most = BatchMaker([far], max_frames=1, seed=0), 0
        drawn = []
        for start in range(0, 100, 4):
            drawn += captions(maker, start, 4)
            most = max(most, in_folder(folder))
        assert drawn == whole
        assert 0 < most <= 3 * SHARD_BYTES, "three of six shards fit"
        far.close()


def test_each_shard_is_fetched_once_a_window_and_ahead(
    remote: str, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches: Counter[str] = Counter()
    get_file = type(memory).get_file

    def counted(self: Any, path: str, to: str, **options: Any) -> None:
        fetches[path] += 1
        get_file(self, path, to, **options)

    monkeypatch.setattr(type(memory), "get_file", counted)
    source = open_source(remote, tmp_path, {"shard_window": 2})
    assert not fetches, "nothing is fetched to be counted"
    maker = BatchMaker([source], max_frames=1, seed=0)
    maker.batch(0, 1, 1)
    until = time.monotonic() + 10
    while len(fetches) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(fetches) == 4, "those of the window, and those of the next one"
    for start in range(0, 60, 4):
        maker.batch(start, 4, 1)
    assert fetches == {f"/bucket/laion/{n:05d}.tar": 1 for n in range(6)}
    source.close()
    again = open_source(remote, tmp_path, {"shard_window": 2})
    captions(BatchMaker([again], max_frames=1, seed=0), 0, 20)
    again.close()
    assert sum(fetches.values()) == 6, "what fits stays for the next run"


def test_a_shard_that_another_process_removes_is_fetched_again(remote: str, tmp_path: Path) -> None:
    source = open_source(remote, tmp_path, {"shard_window": 1})
    maker = BatchMaker([source], max_frames=1, seed=0)
    whole = captions(maker, 0, 60)
    stop, removed = threading.Event(), Counter[str]()

    def remove() -> None:
        while not stop.is_set():
            for path in (tmp_path / "shards" / "fetched").glob("*.tar"):
                if removed[path.name] < 2:  # it is told from damage by being there again
                    removed[path.name] += 1
                    path.unlink(missing_ok=True)
            time.sleep(0.001)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        assert captions(maker, 0, 60) == whole
    finally:
        stop.set()
        thread.join()
        source.close()


def test_a_network_that_fails_is_tried_again(
    remote: str, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_files, "PAUSE_SECONDS", 0.0)
    source = open_source(remote, tmp_path)
    get_file, failures = type(memory).get_file, Counter[str]()

    def fails_twice(self: Any, path: str, to: str, **options: Any) -> None:
        failures[path] += 1
        if failures[path] == 1:
            raise ConnectionResetError("reset by peer")
        get_file(self, path, to, **options)
        if failures[path] == 2:
            Path(to).write_bytes(b"half")

    monkeypatch.setattr(type(memory), "get_file", fails_twice)
    assert len(captions(BatchMaker([source], max_frames=1, seed=0), 0, 20)) == 20
    assert set(failures.values()) == {3}

    def fails(self: Any, path: str, to: str, **options: Any) -> None:
        raise ConnectionResetError("reset by\npeer")

    monkeypatch.setattr(type(memory), "get_file", fails)
    with pytest.raises(EvlgenError) as error:
        captions(BatchMaker([open_source(remote, tmp_path / "other")], max_frames=1, seed=0), 0, 1)
    assert str(error.value).startswith("memory:///bucket/laion/0000")
    assert str(error.value).endswith(
        ".tar cannot be fetched: ConnectionResetError: reset by peer (check the network and your rights, then go on "
        "with --resume)"
    )


def test_a_full_disk_is_said_at_once(remote: str, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is our own disk, not the network: nothing is tried again, and no weights are spoken of."""

    def fails(self: Any, path: str, to: str, **options: Any) -> None:
        Path(to).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(memory), "get_file", fails)
    with pytest.raises(EvlgenError) as error:
        captions(BatchMaker([open_source(remote, tmp_path)], max_frames=1, seed=0), 0, 1)
    assert type(error.value) is EvlgenError
    assert str(error.value) == (
        f"{tmp_path}/shards/fetched cannot be written: No space left on device (free some space there, or set "
        "EVLGEN_CACHE to a directory elsewhere that you can write)"
    )
    for _ in range(100):  # shards that are fetched ahead fail in threads of their own
        if not (left := [path for path in (tmp_path / "shards" / "fetched").iterdir() if path.is_file()]):
            break
        time.sleep(0.05)
    assert left == []


def test_numbers_of_remote_shards_are_kept_until_one_changes(remote: str, memory: Any, tmp_path: Path) -> None:
    assert found(remote, tmp_path).counts.samples.tolist() == SIZES
    memory.rm("/bucket/laion/00001_stats.json")
    kept = found(remote, tmp_path)
    assert (kept.counts.samples.tolist(), kept.counts.sources) == (SIZES, {"sizes or stats": 6})
    time.sleep(0.01)
    memory.pipe("/bucket/laion/00001.tar", memory.cat("/bucket/laion/00002.tar"))
    assert found(remote, tmp_path).counts.samples.tolist() == [3, 2, 2, 4, 3, 3], "scanned: nothing says its number"


def test_counting_stops_and_goes_on(local: Path, tmp_path: Path) -> None:
    for path in local.glob("*_stats.json"):
        path.unlink()
    config = data_config(f"{local}/*.tar")
    told: list[tuple[Any, ...]] = []
    reader = open_reader(config.train[0], config, tmp_path)
    source = config.train[0]
    stopped = count_shards(source, reader, report=lambda *told_now: told.append(told_now), stop=lambda: len(told) == 2)
    assert (stopped, told[-1]) == (None, ("samples of laion/*", 2, 6, "shards"))
    assert len(list((tmp_path / "shards" / "index").glob("*/*.npy"))) == 2
    reader = open_reader(config.train[0], config, tmp_path)
    assert [reader.known_index(n) is not None for n in range(6)] == [True, True, False, False, False, False]
    counted = count_shards(source, reader)
    assert counted is not None
    assert (counted.samples.tolist(), counted.counts.sources) == (SIZES, {"scan": 6})


def test_braces_ranges_lists() -> None:
    assert expand_braces("a/{08..11}.tar") == ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]
    assert expand_braces("{x,yy}/{0..1}.tar") == ["x/0.tar", "x/1.tar", "yy/0.tar", "yy/1.tar"]
    assert expand_braces("plain.tar") == ["plain.tar"]
    assert len(expand_braces("{00000..11499}.tar")) == 11_500
    assert expand_braces("{a..c}/{4..0..2}.tar")[:4] == ["a/4.tar", "a/2.tar", "a/0.tar", "b/4.tar"]
    assert expand_braces("{a,{1..2}}.tar") == ["a.tar", "1.tar", "2.tar"]
    assert len(expand_braces("{1..9}{a,b{x,y{0..4..3}}}{k}{a..c},d")) == 9 * 4 * 3
    for wrong, text in (
        ("{0..9999999}.tar", r"stands for more than 1000000 shards"),
        ("{0..999999999}.tar", r"stands for more than 1000000 shards"),
        ("{0..99999}/{0..99999}.tar", r"stands for more than 1000000 shards"),
        ("{a,b}" * 64, r"stands for more than 1000000 shards"),
        ("{0..%s}.tar" % ("9" * 5000), r"a brace that is not closed, or a range that is none"),
        ("{a,{0..999999999}}.tar", r"stands for more than 1000000 shards"),
        ("{" * 100_000, r"a brace that is not closed, or a range that is none"),
        ("a}.tar", r"a brace that is not closed, or a range that is none"),
    ):
        with pytest.raises(UsageError, match=text.replace("{", r"\{").replace("}", r"\}")) as error:
            expand_braces(wrong)
        assert len(str(error.value)) < 600


def test_gaps_in_the_numbering() -> None:
    have = [f"d/{n:05d}.tar" for n in (3, 4, 7, 11)] + ["e/0.tar", "e/2.tar", "odd.tar"]
    assert numbering_gaps(have) == [
        "d/00005.tar", "d/00006.tar", "d/00008.tar", "d/00009.tar", "d/00010.tar", "e/1.tar"
    ]  # fmt: skip
    assert name_spans(numbering_gaps(have)) == "d/00005.tar to d/00006.tar, d/00008.tar to d/00010.tar, e/1.tar"


def test_what_is_wrong_with_a_pattern_is_one_line(
    remote: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(shards: str, source: dict[str, Any] | None = None, **data: Any) -> str:
        with pytest.raises(UsageError) as error:
            found(shards, tmp_path, source, **data)
        return str(error.value)

    assert refused(f"{tmp_path}/none/*.tar") == (
        f"shards {tmp_path}/none/*.tar: there is no such file (check data.train[].shards in the recipe)"
    )
    assert refused(pattern(local, 9)).startswith(
        f"shards {pattern(local, 9)}: 3 of 9 are missing (33.3%, data.max_broken_share allows 1.0%): "
        f"{local}/00006.tar to {local}/00008.tar (fetch them, "
    )
    assert found(pattern(local, 9), tmp_path, max_broken_share=0.4).reader.files.missing == [
        f"{local}/{n:05d}.tar" for n in (6, 7, 8)
    ]
    assert refused(remote, {"shard_window": 2}, shard_cache_gb=1e-6) == (
        f"data.shard_cache_gb 1e-06 is below a window of 2 shards of {remote}, which takes 4.1e-05 GB "
        "(raise it, best to twice the window, or lower shard_window)"
    )
    assert refused("nothing://bucket/{0..3}.tar") == (
        "shards nothing://bucket/{0..3}.tar: Protocol not known: nothing (fsspec knows s3://, gs://, https://, hf:// "
        "and more)"
    )
    assert refused(pattern(local, 6), {"split": "train"}) == (
        f"shards {pattern(local, 6)}: none of 6 shards has a sample of split 'train' (a sample is KEY.jpg with "
        "KEY.txt, or with KEY.json that has a caption)"
    )
    fsspec.register_implementation("far", "no_such.Package", errtxt="Install far", clobber=True)
    assert refused("far://bucket/{0..3}.tar") == (
        "shards far://bucket/{0..3}.tar: this file system needs a package that is not installed: Install far "
        "(pip install 'evlgen[remote]' has those of s3://, gs:// and https://)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:  # a port at which nobody listens once it is closed
        address = f"ftp://127.0.0.1:{server.getsockname()[1]}/{{0..3}}.tar"
    with pytest.raises(EvlgenError, match=r"ftp://.* cannot be opened: ConnectionRefusedError: .* \(fsspec knows"):
        found(address, tmp_path)
    monkeypatch.delenv("NOT_SET", raising=False)
    assert "the environment variable NOT_SET is not set" in refused("${NOT_SET}/{0..3}.tar")


def test_places_without_listings_are_taken_at_their_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on web servers: what the recipe names is there, sizes.json says how much is in it."""

    class Web:
        @staticmethod
        def _strip_protocol(path: str) -> str:
            return path

        def cat(self, paths: list[str], on_error: str) -> dict[str, Any]:
            content = json.dumps({"00000.tar": 7, "00001.tar": 2}).encode()
            return {p: content if p == "https://h/d/sizes.json" else FileNotFoundError(p) for p in paths}

    monkeypatch.setattr("evlgen.data.shards.listing.open_file_system", lambda *_: (Web(), ""))
    made = found("https://h/d/{00000..00001}.tar", tmp_path)
    assert made.counts.samples.tolist() == [7, 2]
    assert made.reader.files.address(0) == "https://h/d/00000.tar"
    with pytest.raises(UsageError, match=r"https has no folders to look into \(write a range"):
        ShardFiles("https://h/d/*.tar")
