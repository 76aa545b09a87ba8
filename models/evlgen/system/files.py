"""The one way to write a file: whole or not at all, where the path really leads, readable by whom the umask lets.

The content goes to a temporary file beside the target, is written through to the disk and renamed; what a killed
process left of that kind is taken away by the next that writes in the folder. Symlinks are followed. What is no regular
file (a device, a FIFO, /dev/stdout) is never replaced: the content goes through it.
"""

import errno
import functools
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.names import printable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINTS = {
    **dict.fromkeys(_FULL, "free some space, or choose a place on another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a place that you can write to"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file, not a folder",
}
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers tell a full disk in the text of their own errors
_ASIDE = re.compile(r"\..{1,40}\.(\d{1,10})-[0-9a-f]{6}\.part", re.DOTALL)
_OLD_SECONDS = 3600
_OWN_STREAMS = re.compile(r"/dev/(std\w+|fd/.+)|/proc/.+")  # they may lead to a file that another writes as well


def write_text(path: str | Path, text: str, *, hint: str = "") -> None:
    """Replace the content of `path` by `text` in UTF-8; see `replacing`. Halves of surrogate pairs become U+FFFD."""
    write_bytes(path, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode(), hint=hint)


def write_bytes(path: str | Path, content: bytes, *, hint: str = "") -> None:
    """Replace the content of `path`; see `replacing`."""
    with replacing(path, hint=hint) as aside:
        aside.write_bytes(content)


@contextmanager
def replacing(path: str | Path, *, hint: str = "") -> Iterator[Path]:
    """Yield the path of an empty file to fill, which takes the place of `path` when the block ends without an error.

    Folders that are missing are made. A file that is replaced keeps its permissions.

    Args:
        path: the file to write.
        hint: what to try when it cannot be written; by default what fits the reason.

    Raises:
        EvlgenError: it cannot be written; nothing has changed then. Errors of the block that are not about this file
            pass through.
    """
    with os_errors(path, hint=hint):
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        if target.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if _OWN_STREAMS.fullmatch(os.path.abspath(path)) or (target.exists() and not target.is_file()):  # noqa: PTH100
            yield from _through(Path(path))
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        known = target.name[:40]  # a name may be so long that nothing can be added to it
        aside = target.with_name(f".{known}.{os.getpid()}-{secrets.token_hex(3)}.part")
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            mode = stat.S_IMODE((target if target.exists() else aside).stat().st_mode)
            yield aside
            aside.chmod(mode)  # some libraries write a file of their own that only its owner may read
            sync(aside)
            aside.replace(target)
            sync(target.parent)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


@functools.cache  # once is enough, and folders can be large
def _sweep(folder: Path) -> None:
    """Take away the temporary files that processes which are gone left in a folder.

    They must be old as well: a process of another machine, on a disk of both, is not known here.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _ASIDE.fullmatch(entry.name)
            if match and not is_running(int(match[1])) and time.time() - entry.stat().st_mtime > _OLD_SECONDS:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108


def is_running(process: int) -> bool:
    """Whether a process with this id runs on this machine; True where nobody can tell."""
    try:
        os.kill(process, 0) if sys.platform != "win32" else None  # on Windows that would end it
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _through(path: Path) -> Iterator[Path]:
    """Have the content made in a temporary file, then pour it into what stands at `path`, at its end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="evlgen-") as folder:
        aside = Path(folder) / f"content{path.suffix}"
        aside.touch()
        yield aside
        with aside.open("rb") as content, path.open("ab") as target:
            shutil.copyfileobj(content, target)


def sync(path: Path) -> None:
    """Make what is written to a file, or renamed in a folder, survive a power cut; of folders where it can be done."""
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:  # Windows opens no folders, and some may be written to but not read
        if not folder:
            raise


@contextmanager
def os_errors(path: str | Path, doing: str = "cannot be written", *, hint: str = "") -> Iterator[None]:
    """Turn what the system refuses in the block into one line about `path`.

    Raises:
        EvlgenError: an OSError, of whatever library, that names `path`, a file beside or below it, or none; others pass
            through.
    """
    try:
        os.fsencode(path)
        if "\0" in str(path):
            raise OSError(errno.EINVAL, "a name cannot hold a zero byte")
        yield
    except EvlgenError:
        raise
    except UnicodeEncodeError:
        raise EvlgenError(f"{printable(path)} {doing}: its name is no text", hint) from None
    except Exception as error:
        refused = refusal(error)
        if refused is None or not _about(refused, Path(path)):
            raise
        reason = refused.strerror or str(refused) or type(refused).__name__
        raise EvlgenError(
            f"{printable(path)} {doing}: {printable(reason)}", hint or _HINTS.get(refused.errno or 0, "")
        ) from error


def is_full(error: OSError) -> bool:
    """Whether a disk is full, or somebody's share of it: trying again is of no use."""
    return error.errno in _FULL


def refusal(error: Exception) -> OSError | None:
    """The system's refusal behind an error, also one of a library's own: torch's, or the text of one in Rust."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
        return error.__context__
    match = _RUST.search(str(error))
    return OSError(int(match[1]), os.strerror(int(match[1]))) if match else None


def _about(error: OSError, path: Path) -> bool:
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if not named or str(path) in named:
        return True
    folder = Path(os.path.realpath(path)).parent
    return any(
        Path(name).parent == folder or folder.is_relative_to(name) or Path(name).is_relative_to(path) for name in named
    )
