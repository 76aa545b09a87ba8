"""The checksum against CRC-32 of the blocks worked out by themselves, and damage that it must find."""

import hashlib
import zlib
from pathlib import Path

from evlgen.system.hashes import checksum, sha256_of


def test_hashes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 12_000  # three blocks, the last one not full
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
    blocks = [content[at : at + 2**20] for at in range(0, len(content), 2**20)]
    expected = hashlib.sha256(b"".join(zlib.crc32(block).to_bytes(4, "big") for block in blocks)).hexdigest()
    assert checksum(path) == f"crc32-{expected[:32]}"
    damaged = {checksum(path)}
    for at in (0, 2**20, len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        damaged.add(checksum(path))
    path.write_bytes(b"")
    damaged.add(checksum(path))
    assert len(damaged) == 5
