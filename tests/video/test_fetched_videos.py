"""Videos elsewhere, fetched and decoded by children: the same frames, and nothing stays on the disk."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evlgen.system.remote_files import RemoteFile, public_name, without_secrets
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Parts, Sampler
from evlgen.video.remote_videos import folder_for_child

from .video_clips import write_clip
from .web_server import WebServer, serving

pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http:// (pip install 'evlgen[remote]')")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fetched"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "web").mkdir()
    write_clip(tmp_path / "web" / "a.mp4", count=12)
    with serving(tmp_path / "web") as server:
        yield server


def elsewhere(url: str, *spans: tuple[Fraction, Fraction]) -> Parts:
    return Parts(Path("/elsewhere") / url.rpartition("/")[2], spans, RemoteFile(url, public_name(url), ""))


def test_frames_are_those_of_the_file(web: WebServer, tmp_path: Path, cache: Path) -> None:
    span = (Fraction(1, 10), Fraction(3, 10))
    with DecodePool(1, sampler=Sampler(frames=4)) as pool:
        here = pool.map([Parts(tmp_path / "web" / "a.mp4"), Parts(tmp_path / "web" / "a.mp4", (span,))])
        there = pool.map([elsewhere(f"{web.address}/a.mp4"), elsewhere(f"{web.address}/a.mp4", span)])
        for local, remote in zip(list(here), list(there), strict=True):
            assert isinstance(local, ClipFrames)
            assert isinstance(remote, ClipFrames)
            assert np.array_equal(local.frames, remote.frames)
            assert (local.timestamps, local.spans) == (remote.timestamps, remote.spans)
            assert remote.path == Path("/elsewhere/a.mp4")
            assert remote.fingerprint is not None
        assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert list(cache.iterdir()) == []


def failure(pool: DecodePool, url: str) -> tuple[str, str]:
    (result,) = pool.map([elsewhere(url)])
    assert isinstance(result, DecodeFailure)
    return result.kind, result.message.removeprefix(f"{result.path}: ")


@pytest.mark.slow
def test_what_does_not_come_says_why(web: WebServer, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "web" / "page").mkdir()
    (tmp_path / "web" / "text.mp4").write_text("no video")
    web.answers = {"/denied.mp4": [403] * 9, "/a.mp4": [500]}
    (tmp_path / "web" / "denied.mp4").write_bytes(b"x")
    with DecodePool(1) as pool:
        assert failure(pool, f"{web.address}/none.mp4") == ("missing", "there is no such file")
        kind, said = failure(pool, f"{web.address}/denied.mp4?X-Amz-Signature=s3cr3t")
        assert (kind, "403" in said, "s3cr3t" in said) == ("not-fetched", True, False)
        assert web.asked["GET /denied.mp4?X-Amz-Signature=s3cr3t"] == 1, "what is refused is not asked for again"
        assert failure(pool, f"{web.address}/page/")[1].startswith("it is a web page, not a video")
        kind, said = failure(pool, f"{web.address}/text.mp4")
        assert (kind, str(cache) in said) == ("decode-error", False)
        assert isinstance(next(pool.map([elsewhere(f"{web.address}/a.mp4")])), ClipFrames), "a fault that passes"
        assert web.asked["GET /a.mp4"] == 2
    with DecodePool(1, most_fetched_bytes=100) as pool:
        assert failure(pool, f"{web.address}/a.mp4") == (
            "too-large",
            "it has more than 1e-07 GB; --fetch-gb allows more",
        )


@pytest.mark.slow  # the deadline has to hold a start of Python on a machine that is busy
def test_what_stalls_is_given_up_and_the_next_goes_on(web: WebServer, tmp_path: Path, cache: Path) -> None:
    web.stalls = {"/stalled.mp4"}
    (tmp_path / "web" / "stalled.mp4").write_bytes(b"x" * 1000)
    with DecodePool(1, fetch_seconds=20) as pool:
        first, second = pool.map([elsewhere(f"{web.address}/{name}.mp4") for name in ("stalled", "a")])
        assert isinstance(first, DecodeFailure)
        assert (first.kind, first.message) == ("timeout", f"{first.path}: not fetched within 20 seconds")
        assert isinstance(second, ClipFrames)


def test_one_file_a_child_is_on_the_disk(web: WebServer, tmp_path: Path, cache: Path) -> None:
    for number in range(8):
        (tmp_path / "web" / f"{number}.mp4").symlink_to("a.mp4")
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            with suppress(FileNotFoundError):
                most = max(most, sum(path.suffix == ".mp4" for path in cache.rglob("*")))
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    with DecodePool(2, look_ahead=8) as pool:
        results = list(pool.map([elsewhere(f"{web.address}/{number}.mp4") for number in range(8)]))
    done.set()
    thread.join()
    assert all(isinstance(one, ClipFrames) for one in results)
    assert 1 <= most <= 2


def test_what_a_killed_run_left_is_taken_away(cache: Path) -> None:
    gone, own = cache / "999999999-00", cache / f"{os.getpid()}-00"
    for folder in (gone, own):
        folder.mkdir(parents=True)
        (folder / "video.mp4").touch()
    made = folder_for_child()
    assert sorted(cache.iterdir()) == sorted([own, made])


SECRETS: list[tuple[str, str]] = [
    ("https://u:pw@h.org/a.mp4?sig=abc#x", "https://h.org/a.mp4"),
    ("https://token@h.org/a.mp4", "https://h.org/a.mp4"),
    ("HTTPS://h.org?token=abc", "https://h.org"),
    ("s3://key:secret@bucket/a.mp4?X-Amz-Signature=abc", "s3://bucket/a.mp4"),
    ("s3://bucket/is it a dog?.mp4", "s3://bucket/is it a dog?.mp4"),
    ("ftp://anna:pw@h.org/a.mp4", "ftp://h.org/a.mp4"),
    ("abfs://videos@account.dfs.core.windows.net/a.mp4", "abfs://videos@account.dfs.core.windows.net/a.mp4"),
    ("/a/file.mp4", "/a/file.mp4"),
]


@pytest.mark.parametrize(("url", "name"), SECRETS)
def test_names_hold_no_secrets(url: str, name: str) -> None:
    assert public_name(url) == name


def test_errors_hold_no_secrets() -> None:
    url = "https://u:p%2Fw@h.org/a.mp4?sig=ab%2Bc"
    said: Any = f"404 {url!r}, redirected to https://cdn.org/x?token=zzz and sig=ab+c with p/w"
    assert without_secrets(said, url) == ("404 'https://h.org/a.mp4', redirected to https://cdn.org/x and ... with ...")
