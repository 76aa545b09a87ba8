"""Files elsewhere, behind fsspec: s3://, gs://, https://, hf:// and what else it knows.

Addresses may hold what nobody else must see: a password, a signature behind "?". `public_name` is the address without
it, which is all that is ever written or printed. File systems have errors and facts of their own; here each becomes
one line, or one fingerprint.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.files import is_full

PROTOCOLS = "fsspec knows s3://, gs://, https://, hf:// and more"
RIGHTS = "check the address, the network and your rights"

WEB = ("http", "https")
"""There are no folders, only pages that list files; and "?" begins a query, not a wildcard."""

ATTEMPTS = 4
PAUSE_SECONDS = 2.0
"""Before the second attempt; doubled before each further one."""

STAMPS = ("ETag", "etag", "blob_id", "mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")
"""How file systems say which version of a file they hold, the surest first."""

_FINAL = (FileNotFoundError, PermissionError, ImportError)
_AGAIN = (408, 429)  # of what web servers answer below 500, this passes
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_CONTAINERS = ("abfs", "abfss", "az", "adl")  # container@account is where the file is, and no secret


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere.

    Attributes:
        url: where it is fetched from; it may hold secrets, and is never shown.
        name: the same without them.
        folder: public address of the folder that it was found in.
        fingerprint: of its version, as a listing tells it; None: it has not been asked for.
    """

    url: str = field(repr=False)
    name: str
    folder: str
    fingerprint: str | None = None


class TooLargeError(Exception):
    """A file has more bytes than it may have."""


def is_address(text: str) -> bool:
    """Whether a text begins like an address of a file elsewhere."""
    return _ADDRESS.match(text) is not None


def protocol_of(url: str) -> str:
    """What stands before "://", in lower case."""
    return url.partition("://")[0].lower()


def public_name(url: str) -> str:
    """An address without user, password, query and fragment: it names the file and opens nothing.

    >>> public_name("https://me:secret@example.org/a.mp4?X-Amz-Signature=0f")
    'https://example.org/a.mp4'
    >>> public_name("s3://bucket/what is this?.mp4")
    's3://bucket/what is this?.mp4'
    """
    match = _PARTS.fullmatch(url)
    if match is None:
        return url
    protocol, host, path = match.groups()
    if protocol.lower() not in _CONTAINERS:
        host = host.rpartition("@")[2]
    host = host.partition("?")[0]
    if protocol.lower() in WEB:
        path = path.partition("#")[0].partition("?")[0]
    elif "=" in path.partition("?")[2]:
        path = path.partition("?")[0]
    return f"{protocol.lower()}://{host}{path}"


def without_secrets(text: str, url: str = "") -> str:
    """A line with every address in it made public, and without what is secret in `url`, however it is spelled."""
    text = _ADDRESS.sub(lambda match: public_name(match[0]), " ".join(text.split()))
    match = _PARTS.fullmatch(url)
    if match is not None:
        user, query = match[2].rpartition("@")[0], match[3].partition("?")[2]
        for secret in (query, user, user.partition(":")[2]):
            for spelled in {secret, unquote(secret)}:
                if len(spelled) > 2:
                    text = text.replace(spelled, "...")
    return text


def fingerprint_of(facts: Mapping[str, Any]) -> str | None:
    """`SIZE-HASH` of what a file system says of a version, both hexadecimal; None where it says nothing."""
    size, stamp = facts.get("size"), stamp_of(facts)
    if size is None and not stamp:
        return None
    return f"{int(size or 0):x}-{hashlib.blake2b(stamp.encode(), digest_size=16).hexdigest()}"


def stamp_of(facts: Mapping[str, Any]) -> str:
    """What tells one version of a file from another, besides its size; "" where nothing does."""
    stamp = next((facts[key] for key in STAMPS if facts.get(key)), "")
    return str(stamp.timestamp() if isinstance(stamp, datetime) else stamp)  # listings may have it as a number


@contextmanager
def any_error(what: str, hint: str, url: str = "") -> Iterator[None]:
    """Say in one line what a file system raises: each has errors of its own.

    Raises:
        EvlgenError: `what`, and the error's own words, without what is secret in `url`.
    """
    try:
        yield
    except EvlgenError:
        raise
    except Exception as error:
        raise EvlgenError(f"{what}: {said_by(error, url)}", hint) from None


def behind(error: Exception) -> Exception:
    """What has really happened: fsspec says of web servers that a file is missing, whatever went wrong."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and getattr(cause, "status", 0) != 404:
        return cause
    return error


def said_by(error: Exception, url: str = "") -> str:
    """An error in one line, without secrets."""
    error = behind(error)
    return f"{type(error).__name__}: {without_secrets(str(error), url)}".removesuffix(": ")


def open_file_system(what: str, url: str) -> tuple[Any, str]:
    """The file system of an address, and the path of the address on it.

    Args:
        what: who asks, for errors: "shards s3://...".
        url: the address.

    Raises:
        UsageError: there is no such file system, or its package is not installed.
        EvlgenError: it does not answer (ftp:// and sftp:// connect at once).
    """
    import fsspec

    with any_error(f"{what} cannot be opened", PROTOCOLS, url):
        try:
            files, path = fsspec.core.url_to_fs(url, **_options(protocol_of(url)))
            return files, str(path)
        except ImportError as error:
            raise UsageError(
                f"{what}: this file system needs a package that is not installed: {without_secrets(str(error), url)}",
                "pip install 'evlgen[remote]' has those of s3://, gs:// and https://",
            ) from None
        except ValueError as error:
            raise UsageError(f"{what}: {without_secrets(str(error), url)}", PROTOCOLS) from None


def _options(protocol: str) -> dict[str, Any]:
    """A large file may take long, as long as something comes; a host that says nothing is given up."""
    if protocol not in WEB:
        return {}
    try:
        import aiohttp
    except ImportError:
        return {}
    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}}


def download(
    files: Any,
    path: str,
    target: Path,
    size: int | None = None,
    most_bytes: int | None = None,
    is_ours: Callable[[OSError], bool] = is_full,
) -> None:
    """Fetch a file, trying again where the network fails.

    Args:
        files: the file system.
        path: on it.
        target: is written, and may be left half-written by an error.
        size: in bytes, if it is known.
        most_bytes: it may have.
        is_ours: whether the local disk refused it, so that trying again is of no use.

    Raises:
        TooLargeError: it has more than `most_bytes`.
        Exception: whatever the file system raises, the last time.
    """
    from fsspec.callbacks import Callback

    class Counter(Callback):  # type: ignore[misc]  # fsspec has no types
        def call(self, *_: Any, **__: Any) -> None:
            if most_bytes is not None and self.value > most_bytes:
                raise TooLargeError

    if most_bytes is not None and size is not None and size > most_bytes:
        raise TooLargeError
    for attempt in range(1, ATTEMPTS + 1):
        try:
            files.get_file(path, str(target), callback=Counter())
            have = target.stat().st_size
            if most_bytes is not None and have > most_bytes:
                raise TooLargeError
            if size not in (None, have):
                raise ConnectionError(f"{have} of {size} bytes came")
            return
        except Exception as error:
            if attempt == ATTEMPTS or _is_final(error) or (isinstance(error, OSError) and is_ours(error)):
                raise
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))


def _is_final(error: Exception) -> bool:
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _AGAIN
    return refused or isinstance(error, (*_FINAL, TooLargeError))
