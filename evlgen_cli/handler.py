"""The one error handler: every failure becomes one clear line on standard error and an exit code.

EVLGEN_DEBUG=1 shows the traceback as well. Typer's own usage errors pass through; it prints them and exits with 2.
"""

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from evlgen.errors import EvlgenError, RenamedWarning, UsageError
from evlgen.system.files import refusal
from evlgen.system.names import printable
from evlgen_cli.console import err
from evlgen_cli.exits import Exit

_REFUSALS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space; TMPDIR names another place for temporary files"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a place that you may use"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open: raise ulimit -n, or use fewer workers"),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "free some memory, or use fewer workers"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "look at the disk",
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what escapes from a command into one line and `typer.Exit`."""
    try:
        with _one_line_warnings():
            yield
    except EvlgenError as error:
        _say(f"error: {error}")
        raise typer.Exit(Exit.USAGE if isinstance(error, UsageError) else Exit.FAILED) from error
    except KeyboardInterrupt as error:
        _say("interrupted")
        raise typer.Exit(Exit.INTERRUPTED) from error
    except BrokenPipeError as error:
        raise typer.Exit(Exit.FAILED) from error
    except typer.Abort:
        raise
    except Exception as error:
        if hasattr(error, "exit_code"):  # typer's own: a usage error, or an exit that was asked for
            raise
        if line := _machine_says(error):
            _say(f"error: {line}")
            raise typer.Exit(Exit.FAILED) from error
        hint = "" if _debugging() else "; run again with EVLGEN_DEBUG=1 for the traceback, and please report it"
        _say(f"bug: {type(error).__name__}: {error}{hint}")
        raise typer.Exit(Exit.FAILED) from error


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Say once in a line that a name is another one by now; other warnings are Python's business."""
    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", RenamedWarning)
        python_shows = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, RenamedWarning):
                python_shows(message, category, *where, **more)
            elif (text := str(message)) not in said:
                said.add(text)
                err.print(f"note: {text}")

        warnings.showwarning = show
        yield


@contextmanager
def whole_output() -> Iterator[None]:
    """See at the end of a program, however it ends, that all its output is written; say in one line if it is not.

    --help and --version print before there is a command whose errors are handled.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except EvlgenError as error:
        _say(f"error: {error}")
        raise SystemExit(Exit.FAILED) from error
    except BrokenPipeError as error:
        raise SystemExit(Exit.FAILED) from error


def _machine_says(error: Exception) -> str:
    """What the machine refuses wherever it is asked, and so is no bug: room, rights, files; empty for all else."""
    refused = refusal(error)
    if isinstance(refused, FileNotFoundError):
        try:
            Path.cwd()
        except FileNotFoundError:
            return "the working directory is gone (cd to a folder that exists)"
    if refused is None or refused.errno not in _REFUSALS:
        return ""
    what = f"{refused.filename}: " if refused.filename else ""
    return f"{what}{refused.strerror} ({_REFUSALS[refused.errno]})"


def _debugging() -> bool:
    return os.environ.get("EVLGEN_DEBUG", "") not in ("", "0")


def _say(line: str) -> None:
    if _debugging():
        err.print(traceback.format_exc(), end="")
    err.print(printable(" ".join(line.split())))
