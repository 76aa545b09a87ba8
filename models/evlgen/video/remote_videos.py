"""Videos elsewhere, fetched by the child that decodes them: one a child at a time, and gone when it is decoded.

A child has a folder of its own in the cache, which its parent makes and removes; those of parents that were killed are
removed by the next. So no more lies on the disk than one file for each child.
"""

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.files import is_running
from evlgen.system.remote_files import (
    RemoteFile,
    TooLargeError,
    any_error,
    behind,
    download,
    fingerprint_of,
    open_file_system,
    said_by,
)
from evlgen.video.clip import DecodeFailure
from evlgen.weights.cache import cache_errors, cache_root


@dataclass(frozen=True)
class Fetched:
    """What became of a file elsewhere.

    Attributes:
        fingerprint: of its version.
        failure: why it is not here; None: it is.
    """

    fingerprint: str | None
    failure: DecodeFailure | None = None


def fetch(source: RemoteFile, path: Path, target: Path, most_bytes: int) -> Fetched:
    """Fetch a file.

    Args:
        source: where it is.
        path: what stands for it in what is answered.
        target: where it is written.
        most_bytes: it may have.
    """
    fingerprint = source.fingerprint
    try:
        files, name = open_file_system(source.name, source.url)
        facts = files.info(name)
        fingerprint = fingerprint or fingerprint_of(facts)
        size = facts.get("size")
        if str(facts.get("mimetype", "")).startswith("text/html"):
            return _not_fetched(path, fingerprint, "it is a web page, not a video; yt-dlp may get the video")
        download(files, name, target, size, most_bytes)
    except TooLargeError:
        said = f"{path}: it has more than {most_bytes / 1e9:g} GB; --fetch-gb allows more"
        return Fetched(fingerprint, DecodeFailure(path, "too-large", said, fingerprint))
    except EvlgenError as error:
        return _not_fetched(path, fingerprint, str(error))
    except Exception as error:  # each file system has its own
        if isinstance(behind(error), FileNotFoundError):
            return Fetched(fingerprint, DecodeFailure(path, "missing", f"{path}: there is no such file", fingerprint))
        return _not_fetched(path, fingerprint, said_by(error, source.url))
    return Fetched(fingerprint)


def current_fingerprint(source: RemoteFile) -> str | None:
    """The fingerprint that a file has at present; None where the file system tells nothing.

    Raises:
        EvlgenError: it does not answer, or the file is not there.
    """
    files, name = open_file_system(source.name, source.url)
    with any_error(source.name, "", source.url):
        return fingerprint_of(files.info(name))


def folder_for_child() -> Path:
    """A folder for what one child fetches.

    Raises:
        EvlgenError: it cannot be made.
    """
    folder = cache_root() / "fetched"
    with cache_errors(folder):
        _sweep(folder)
        own = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        own.mkdir(parents=True)
    return own


@cache  # once is enough
def _sweep(folder: Path) -> None:
    with suppress(OSError):
        for one in folder.iterdir():
            process = one.name.partition("-")[0]
            if process.isdecimal() and not is_running(int(process)):
                shutil.rmtree(one, ignore_errors=True)


def _not_fetched(path: Path, fingerprint: str | None, said: str) -> Fetched:
    return Fetched(fingerprint, DecodeFailure(path, "not-fetched", f"{path}: {said}", fingerprint))
