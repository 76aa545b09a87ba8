"""Which videos and pictures a command line names: files, folders, globs, and lists of paths.

A video's name is its path relative to one root, so that rows stay valid when the folder moves. Folders, globs and files
on the command line share one root: the folder they all lie in. Entries of a list are named relative to the working
directory, so that a list may grow, shrink or be split without any name changing. What is elsewhere (remote.py) is named
by its address. Names are unique, whatever the basenames are.
"""

# Paths stay the text that the user typed: pathlib has no way to drop ".." without following symbolic links.
# ruff: noqa: PTH100, PTH112, PTH116, PTH118, PTH119, PTH120, PTH122, PTH123, PTH207

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evlgen.captioning.items import Video
from evlgen.captioning.remote import RemotePlaces, refuse_equal_names
from evlgen.errors import UsageError
from evlgen.system.names import printable
from evlgen.system.remote_files import RemoteFile, is_address, public_name
from evlgen.system.suffixes import MEDIA_SUFFIXES
from evlgen.weights.cache import cache_root

MEDIA_EXTENSIONS = frozenset(MEDIA_SUFFIXES)
"""What counts in a folder. A file named by itself or in a list is taken whatever it is called."""


@dataclass(frozen=True)
class _Found:
    path: str  # absolute, normalised, symbolic links kept
    root: str | None  # the folder it was found under; None for an entry of a list
    source: RemoteFile | None = None


@dataclass(frozen=True)
class Unreadable:
    """A folder that could not be read, so that nobody knows what is in it.

    Attributes:
        path: the folder.
        reason: what the system says.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"the folder {printable(self.path)} cannot be read, and what is in it is left out: {self.reason}"


def find_videos(
    sources: Sequence[str],
    stdin: Iterable[str] | None = None,
    root: Path | None = None,
    unreadable: list[Unreadable] | None = None,
    may_be_empty: bool = False,
) -> list[Video]:
    """The videos that `sources` name, in the order given; inside a folder or glob in natural order.

    Args:
        sources: each a file, a folder (recursive; hidden files and folders are skipped), a glob, an address of any of
            these (`evlgen.captioning.remote`), `@list.txt` or `-` (a list on standard input); lists hold one path or
            address a line.
        stdin: lines for `-`; standard input by default.
        root: folder that names are relative to, instead of the one that all sources lie in.
        unreadable: gets the folders that could not be read; the rest goes on.
        may_be_empty: finding nothing is no error.

    Raises:
        UsageError: a source does not exist (all such are named), or nothing was found.
        EvlgenError: a place elsewhere does not answer.
    """
    found: dict[str, _Found] = {}
    missing: list[str] = []
    closed: list[Unreadable] = [] if unreadable is None else unreadable
    places = RemotePlaces(_looks_like_media, natural_key)
    far: list[RemoteFile] = []
    for source in sources:
        hits = list(_expand(source, sys.stdin if stdin is None else stdin, closed, places))
        if not hits and not _is_list(source) and not os.path.isdir(source):
            missing.append(public_name(source))
        for hit in hits:
            far += [hit.source] if hit.source else []
            found.setdefault(hit.path, hit)
    refuse_equal_names(far)
    if missing:
        raise UsageError(
            f"no such file, folder or match: {', '.join(map(printable, missing))}",
            "quote a glob so that it arrives whole; ** matches any number of folders",
        )
    if not found and may_be_empty:
        return []
    if not found and closed:
        raise UsageError(
            f"no video or picture could be read: {'; '.join(f'{one.path}: {one.reason}' for one in closed)}",
            "see to the permissions of these folders",
        )
    if not found:
        raise UsageError(
            f"no video or picture in {', '.join(sources) or 'the empty list of paths'}",
            f"looked, in sub-folders too, for {' '.join(sorted(MEDIA_EXTENSIONS))}; "
            "a file with another extension can be named by itself",
        )
    return _name(list(found.values()), root)


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that compares runs of digits as numbers (clip2 before clip10); the plain text decides between equals."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), "") if index % 2 else (1, 0, part.casefold()) for index, part in enumerate(parts)], text


def _is_list(source: str) -> bool:
    return source == "-" or (source.startswith("@") and not os.path.lexists(source))


def _expand(source: str, stdin: Iterable[str], closed: list[Unreadable], places: RemotePlaces) -> Iterator[_Found]:
    if _is_list(source):
        yield from _read_list(source, stdin, places)
    elif is_address(source) and not os.path.lexists(source):
        yield from map(_elsewhere, places.find(source))
    elif os.path.isdir(source):
        root = os.path.abspath(source)
        for path in _walk(root, closed):
            yield _Found(path, root)
    elif os.path.lexists(source):
        path = os.path.abspath(source)
        yield _Found(path, os.path.dirname(path))
    elif glob.has_magic(source):
        yield from _expand_glob(source, closed)


def _walk(root: str, closed: list[Unreadable]) -> list[str]:
    """Videos below `root`; folders that cannot be read are added to `closed`.

    Links to folders are followed, each real folder once, so a loop ends.
    """
    seen: set[tuple[int, int]] = set()
    paths: list[str] = []

    def note(error: OSError) -> None:
        closed.append(Unreadable(os.fsdecode(error.filename), error.strerror or "cannot be read"))

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=note):
        try:
            stat = os.stat(folder)
        except OSError as error:  # gone, or closed, since it was listed
            note(error)
            subfolders.clear()
            continue
        if (stat.st_dev, stat.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        paths += [os.path.join(folder, name) for name in files if _looks_like_media(name)]
    return sorted(paths, key=natural_key)


def _looks_like_media(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in MEDIA_EXTENSIONS


def _expand_glob(pattern: str, closed: list[Unreadable]) -> Iterator[_Found]:
    start = pattern
    while glob.has_magic(start):
        start = os.path.dirname(start)
    root = os.path.abspath(start)
    if "**" in pattern or not os.access(root, os.R_OK | os.X_OK):  # glob says nothing of what it cannot read
        _walk(root, closed)
    names_extension = not glob.has_magic(os.path.splitext(pattern)[1] or "*")
    for path in map(os.path.abspath, sorted(glob.glob(pattern, recursive=True), key=natural_key)):
        if os.path.isdir(path):
            for inner in _walk(path, [] if "**" in pattern else closed):
                yield _Found(inner, root)
        elif names_extension or _looks_like_media(os.path.basename(path)):
            yield _Found(path, root)


def _elsewhere(file: RemoteFile) -> _Found:
    """A file elsewhere, under a path that stands for it and never is one."""
    protocol, _, rest = file.name.partition("://")
    return _Found(os.path.normpath(os.path.join(cache_root(), "elsewhere", protocol, rest)), None, file)


def _read_list(source: str, stdin: Iterable[str], places: RemotePlaces) -> Iterator[_Found]:
    if source == "-":
        lines: Iterable[str] = stdin
    else:
        try:
            with open(source[1:], encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
                lines = file.readlines()
        except OSError as error:
            raise UsageError(f"cannot read the list {source[1:]}: {error.strerror}", "one path a line") from error
    entries = [entry for line in lines if (entry := line.rstrip("\r\n"))]
    for entry in entries:
        if is_address(entry) and not os.path.lexists(entry):
            yield _elsewhere(places.named(entry))
        else:
            yield _Found(os.path.abspath(entry), None)


def _name(found: list[_Found], root: Path | None) -> list[Video]:
    roots = [hit.root for hit in found if hit.root is not None]
    shared = os.path.abspath(root) if root is not None else _shared_root(roots) if roots else ""
    working = os.path.abspath(".")
    videos: list[Video] = []
    names: set[str] = set()
    for hit in found:
        if hit.source is not None:
            videos.append(Video(hit.source.name, Path(hit.path), source=hit.source))
            continue
        name = _relative(hit.path, working if hit.root is None else shared)
        if name in names:  # a list and a folder can meet on one relative name
            name = Path(hit.path).as_posix()
        names.add(name)
        videos.append(Video(name, Path(hit.path)))
    return videos


def _shared_root(roots: list[str]) -> str:
    try:
        return os.path.commonpath(roots)
    except ValueError:  # Windows: two drives
        return ""


def _relative(path: str, root: str) -> str:
    """`path` below `root`, or the absolute path when it lies elsewhere."""
    start = os.path.join(root, "")
    if root and os.path.normcase(path).startswith(os.path.normcase(start)):
        path = path[len(start) :]
    return Path(path).as_posix()
