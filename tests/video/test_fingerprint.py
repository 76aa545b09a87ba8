"""The fingerprint sees what replaces a file: another size, or other bytes at the start, in the middle, at the end."""

import os
from pathlib import Path

import pytest

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
