"""Videos elsewhere that a command line names: s3://, gs://, https://, hf:// and what else fsspec knows.

A folder is listed at once and whole, a file that is named is looked at when it is its turn. Names in the output are
addresses without anything secret (`public_name`); what tells that a file has changed is what its file system says of
its version, so that nothing is fetched to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from evlgen.captioning.items import Item, Video
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.names import printable
from evlgen.system.remote_files import (
    RIGHTS,
    WEB,
    RemoteFile,
    any_error,
    behind,
    fingerprint_of,
    open_file_system,
    protocol_of,
    public_name,
    said_by,
)
from evlgen.video.remote_videos import current_fingerprint

_AT_ONCE = 16  # questions to a file system at a time
_MAGIC = frozenset("*?[")


@dataclass
class RemotePlaces:
    """Finds files elsewhere.

    Args:
        looks_like_media: by its name, whether a file in a folder is meant.
        natural_key: by which files of a folder are sorted.
    """

    looks_like_media: Callable[[str], bool]
    natural_key: Callable[[str], Any]
    _answering: set[str] = field(default_factory=set)

    def find(self, url: str) -> Iterator[RemoteFile]:
        """The files that an address on the command line names: a file, a folder, or a glob.

        Raises:
            UsageError: there is nothing, or no such file system, or its package is not installed.
            EvlgenError: it does not answer.
        """
        name = public_name(url)
        if "::" in url:
            raise UsageError(f"{name}: chained addresses are not read", "name the file, the folder or a glob itself")
        files, path = open_file_system(printable(name), url)
        if protocol_of(url) in WEB:
            yield from self._on_the_web(files, url, name)
            return
        with any_error(f"{printable(name)} cannot be listed", RIGHTS, url):
            files.invalidate_cache()
            if _MAGIC & set(path) and not files.exists(path):
                found = files.glob(path, detail=True)
                base = url[: min(url.index(one) for one in _MAGIC if one in url)].rpartition("/")[0]
                named_suffix = not _MAGIC & set(path.rpartition(".")[2])
            elif files.isdir(path):
                found, base, named_suffix = files.find(path, detail=True), url.rstrip("/"), False
            elif files.exists(path):
                yield RemoteFile(url, name, name.rpartition("/")[0], fingerprint_of(files.info(path)))
                return
            else:
                return
        base_path = str(files._strip_protocol(base)).rstrip("/")
        for one in sorted(found, key=self.natural_key):
            facts = found[one]
            inside = one.removeprefix(base_path)
            if facts.get("type") == "directory" or not (named_suffix or self._is_meant(inside)):
                continue
            address = base + inside
            yield RemoteFile(address, public_name(address), public_name(base), fingerprint_of(facts))

    def named(self, url: str) -> RemoteFile:
        """The file that a line of a list names; it is not looked at.

        Raises:
            UsageError: there is no such file system, or its package is not installed.
            EvlgenError: there is no network. One file of each host is asked for.
        """
        name = public_name(url)
        host = "/".join(name.split("/")[:3])
        if host not in self._answering:
            files, path = open_file_system(printable(name), url)
            try:
                files.info(path)
            except Exception as error:  # each file system has its own
                if not _answered(error):
                    raise EvlgenError(f"{host} does not answer: {said_by(error, url)}", RIGHTS) from None
            self._answering.add(host)
        return RemoteFile(url, name, name.rpartition("/")[0])

    def _is_meant(self, inside: str) -> bool:
        *folders, name = inside.split("/")
        return self.looks_like_media(name) and not any(folder.startswith(".") for folder in folders)

    def _on_the_web(self, files: Any, url: str, name: str) -> Iterator[RemoteFile]:
        if "*" in name:
            raise UsageError(
                f"{printable(name)}: {protocol_of(url)} has no folders to look into",
                "name files, @list.txt, or a page that lists them, with / at its end",
            )
        if not name.endswith("/"):
            yield self.named(url)
            return
        with any_error(f"{printable(name)} cannot be listed", RIGHTS, url):
            links = sorted({str(one) for one in files.ls(url, detail=False)}, key=self.natural_key)
        for link in links:
            if self.looks_like_media(public_name(link).rpartition("/")[2]):
                yield RemoteFile(link, public_name(link), name.rstrip("/"))


def _answered(error: Exception) -> bool:
    """Whether an error is an answer: about the file, not about the network."""
    error = behind(error)
    return isinstance(error, FileNotFoundError | PermissionError) or isinstance(getattr(error, "status", None), int)


def remote_fingerprints(items: Iterable[Item]) -> dict[Item, str]:
    """The present fingerprints of items that are elsewhere; without those whose file systems do not tell."""
    far = [item for item in items if isinstance(item, Video) and item.source is not None]
    known: dict[Item, str] = {item: item.source.fingerprint for item in far if item.source and item.source.fingerprint}
    asked = [item for item in far if item not in known]
    if asked:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = zip(asked, pool.map(_fingerprint, asked), strict=True)
            known |= {item: answer for item, answer in answers if answer is not None}
    return known


def _fingerprint(item: Video) -> str | None:
    assert item.source is not None
    try:
        return current_fingerprint(item.source)
    except EvlgenError:
        return None


def refuse_equal_names(files: Sequence[RemoteFile]) -> None:
    """See that what is left out of addresses is not what tells files apart.

    Raises:
        UsageError: two addresses are the same without what stands behind "?".
    """
    urls: dict[str, str] = {}
    for file in files:
        if urls.setdefault(file.name, file.url) != file.url:
            raise UsageError(
                f"two addresses have the name {printable(file.name)} without what stands behind ? or before @, which "
                "is never written down",
                "caption them in two runs with an --out each, or download them",
            )
