"""Ctrl-C while an address does not answer: exit code 130, nothing half-done on the disk, and the next run goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.docs.collecting import ROOT
from tests.video.video_clips import write_clip
from tests.video.web_server import serving

from . import fakes

pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http:// (pip install 'evlgen[remote]')")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def start(*arguments: str) -> subprocess.Popen[str]:
    """The real command line and decoder, with a model that costs nothing."""
    program = [sys.executable, str(Path(ROOT) / "benchmarks" / "stand_in.py"), "caption", *arguments]
    return subprocess.Popen([*program, "--out", "out.jsonl"], stderr=subprocess.PIPE, text=True)


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_file_that_is_being_fetched_is_fetched_again(tmp_path: Path, number: int) -> None:
    (tmp_path / "web").mkdir()
    for name in ("a.mp4", "stalled.mp4"):
        write_clip(tmp_path / "web" / name, count=12)
    out = tmp_path / "out.jsonl"
    with serving(tmp_path / "web") as server:
        server.stalls = {"/stalled.mp4"}
        addresses = [f"{server.address}/{name}.mp4" for name in ("a", "stalled")]
        process = start(*addresses, "--batch-size", "1")
        wait_until(lambda: out.exists() and out.read_bytes().endswith(b"\n"), process)
        wait_until(lambda: server.asked["GET /stalled.mp4"] > 0, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, talk = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "interrupted after 1 of 2 videos; run the same command again to go on\n" in talk
        before = out.read_bytes()
        assert [row["video"] for row in fakes.rows_of(out)] == addresses[:1]
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [], "nothing half-fetched stays"
        assert psutil.wait_procs(children, timeout=30)[1] == []

        server.stalls = set()
        server.go_on.set()
        process = start(*addresses, "--batch-size", "1")
        process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.read_bytes().startswith(before)
        assert [(row["video"], row["status"]) for row in fakes.rows_of(out)] == [(one, "ok") for one in addresses]


def test_a_host_that_is_silent_from_the_beginning(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        process = start(f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4")
        with server.accept()[0] as connection:
            assert connection.recv(4).strip(), "it has been asked"
            process.send_signal(signal.SIGINT)
            _, talk = process.communicate(timeout=60)
    assert (process.returncode, talk.endswith("interrupted\n")) == (130, True)
    assert "Traceback" not in talk
    assert not (tmp_path / "out.jsonl").exists() or (tmp_path / "out.jsonl").read_bytes() == b""
