"""Pictures and videos by name: files below a folder, or members of a tar or zip that is read in place.

A name may lack its suffix (MSR-VTT names "video7", the file is video7.mp4), and a member of an archive may lie under
folders that the name does not mention; both are found where there is one answer only.
"""

from __future__ import annotations

import lzma
import math
import os
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Self

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import expand_path
from evlgen.system.suffixes import IMAGE_SUFFIXES, MEDIA_SUFFIXES

# what the archives' own readers raise: ValueError and OverflowError for sizes and times that are no numbers
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, ValueError, OverflowError),
)

Stamp = tuple[int, ...]
MISSING: Stamp = ()


class MediaStore:
    """Files by name.

    Args:
        media: a folder, a tar (also compressed) or a zip.

    Raises:
        UsageError: none of these.
    """

    def __init__(self, media: str) -> None:
        self.path = expand_path(media).absolute()
        self._archive: tarfile.TarFile | zipfile.ZipFile | None = None
        self._members: dict[str, tarfile.TarInfo | zipfile.ZipInfo] = {}
        self._short: dict[str, str] = {}
        self._resolved: dict[str, str | None] = {}
        self._lock = threading.Lock()  # an archive has one file position
        if self.path.is_file():
            self._open_archive()
        elif not self.path.is_dir():
            raise UsageError(
                f"media {self.path} is neither a folder nor a tar or zip", "check data.*.media in the recipe"
            )

    def _open_archive(self) -> None:
        try:
            if zipfile.is_zipfile(self.path):
                opened = zipfile.ZipFile(self.path)
                self._archive = opened
                self._members = {m.filename.removeprefix("./"): m for m in opened.infolist() if not m.is_dir()}
            else:
                tar = tarfile.open(self.path)  # noqa: SIM115 - lives as long as the store
                self._archive = tar
                self._members = {m.name.removeprefix("./"): m for m in tar if m.isfile()}
        except _DAMAGED as error:
            several = isinstance(error, tarfile.ReadError) and "- method " in str(error)  # one for each compression
            reason = "its content is neither" if several else str(error)
            raise UsageError(f"{self.path} is not a whole tar file or zip: {reason}") from None
        self._changed = self.path.stat().st_mtime_ns
        tails = [(tail, name) for name in self._members for tail in _tails(name)]
        counts = Counter(tail for tail, _ in tails)
        self._short = {tail: name for tail, name in tails if counts[tail] == 1}

    @property
    def is_folder(self) -> bool:
        """Whether the files lie on the disk as they are."""
        return self._archive is None

    def resolve(self, name: str) -> str | None:
        """The real name of a file; None if there is none.

        Raises:
            UsageError: it leads out of the folder or archive. Links in a folder may lead where they like: who made
                them meant it.
        """
        if name not in self._resolved:
            if not Path(os.path.normpath(self.path / name)).is_relative_to(os.path.normpath(self.path)):
                raise UsageError(
                    f"{name} leads out of {self.path}",
                    "names must lie below the folder or archive of the media; media may be a folder above all of them",
                )
            self._resolved[name] = self._find(name)
        return self._resolved[name]

    def _find(self, name: str) -> str | None:
        name = name.removeprefix("./")
        suffixed = PurePosixPath(name).suffix.lower() in MEDIA_SUFFIXES
        for suffix in ("",) if suffixed else ("", *MEDIA_SUFFIXES):
            whole = name + suffix
            if self._archive is None:
                try:
                    if (self.path / whole).is_file():
                        return whole
                except (OSError, ValueError):  # too long a name, or a null character in it
                    return None
            elif whole in self._members:
                return whole
            elif whole in self._short:
                return self._short[whole]
        return None

    def stamp(self, name: str) -> Stamp:
        """What changes when a file does, at the cost of a look: MISSING if there is none.

        A folder's file: size and time of change. A zip's member: size and CRC-32. A tar keeps no checksum, and its
        members' times are often all the same, so there the time of the tar itself counts as well.
        """
        real = self.resolve(name)
        if real is None:
            return MISSING
        member = self._members.get(real)
        if isinstance(member, zipfile.ZipInfo):
            return (member.file_size, member.CRC)
        if member is not None:
            return (member.size, int(member.mtime) if math.isfinite(member.mtime) else 0, self._changed)
        try:
            status = (self.path / real).stat()
        except OSError:
            return MISSING
        return (status.st_size, status.st_mtime_ns)

    def read(self, name: str) -> bytes:
        """Bytes of a file; may be called from any thread.

        Raises:
            EvlgenError: no such file, or it cannot be read.
        """
        real = self.resolve(name)
        if real is None:
            raise EvlgenError(f"{self.path} holds no {name}")
        try:
            if self._archive is None:
                return (self.path / real).read_bytes()
            with self._lock:
                if isinstance(self._archive, zipfile.ZipFile):
                    return self._archive.read(real)
                member = self._members[real]
                assert isinstance(member, tarfile.TarInfo)
                stream = self._archive.extractfile(member)
                assert stream is not None, "only files are kept"
                content = stream.read()
        except (*_DAMAGED, RuntimeError, NotImplementedError) as error:
            raise EvlgenError(f"{self.path / real} cannot be read: {error}") from None
        if len(content) != member.size:
            raise EvlgenError(f"{self.path / real} cannot be read: the tar ends in the middle of it")
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()


def is_picture(name: str) -> bool:
    """Whether a name is that of a still picture; everything else is taken for a video."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def file_path(store: MediaStore, name: str) -> Path:
    """Where a file of a folder lies."""
    return store.path / (store.resolve(name) or name)


def _tails(name: str) -> list[str]:
    """ "a/b/c.mp4" -> "b/c.mp4", "c.mp4"."""
    parts = name.split("/")
    return ["/".join(parts[n:]) for n in range(1, len(parts))]
