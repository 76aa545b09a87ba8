"""The fingerprint sees what replaces a file: another size, or other bytes at the start, in the middle, at the end."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evlgen.errors import EvlgenError
from evlgen.video import content_fingerprint as by_itself
from evlgen.video import content_fingerprints, many_fingerprints
from evlgen.video.content_fingerprint import CHUNK_BYTES, content_fingerprint

SIZE = 5 * CHUNK_BYTES


@pytest.mark.parametrize("offset", [0, CHUNK_BYTES - 1, SIZE // 2, SIZE - CHUNK_BYTES, SIZE - 1])
def test_a_changed_byte_in_a_chunk_changes_it(tmp_path: Path, offset: int) -> None:
    content = bytearray(SIZE)
    path = tmp_path / "video"
    path.write_bytes(content)
    before = content_fingerprint(path)
    content[offset] = 1
    path.write_bytes(content)
    assert content_fingerprint(path) != before


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, SIZE])
def test_it_starts_with_the_size_and_survives_a_copy(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes(size))
    other.write_bytes(bytes(size))
    assert content_fingerprint(one) == content_fingerprint(other)
    assert content_fingerprint(one).startswith(f"{size:x}-")
    other.write_bytes(bytes(size + 1))
    assert content_fingerprint(one) != content_fingerprint(other)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(FileNotFoundError):
        content_fingerprint(tmp_path / "pipe.mp4")


def test_children_read_what_this_process_reads(tmp_path: Path) -> None:
    names = [os.fsencode(f"{number}.mp4") for number in range(150)]
    if sys.platform == "linux":
        names += [b"no\xffutf8.mp4", b"two\nlines.mp4"]
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * number)
    missing = tmp_path / "missing.mp4"
    found = content_fingerprints([*paths, missing, tmp_path], 60)
    assert found == {**{path: content_fingerprint(path) for path in paths}, missing: None, tmp_path: None}
    assert content_fingerprints([], 60) == {}


def test_a_child_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    answer = many_fingerprints._Reader._answer

    def kill_at_the_fourth(self: Any, child: Any, seconds: float) -> bytes | None:
        if len(self.found) == 3 and len(started) < 3:
            child.kill()
            child.wait()
            child.stdout.read()
        return answer(self, child, seconds)

    monkeypatch.setattr(many_fingerprints._Reader, "_answer", kill_at_the_fourth)
    assert content_fingerprints(paths, 60) == {path: content_fingerprint(path) for path in paths}
    assert len(started) == 3

    monkeypatch.setattr(by_itself, "__file__", str(tmp_path / "no_such.py"))
    with pytest.raises(EvlgenError, match="a process that reads files did not start in 3 attempts"):
        content_fingerprints(paths, 60)
