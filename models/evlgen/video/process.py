"""The parent's handle on one decoding child: start it, ask it, kill it at the deadline, read its last words.

A child is a fresh Python with the parent's import path; unlike multiprocessing's spawn it does not import the user's
main script again, so a script that imports torch does not cost every child a torch.
"""

import errno
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError
from evlgen.system.child_processes import kill_group
from evlgen.video import wire
from evlgen.video.clip import ClipFrames, DecodeFailure
from evlgen.video.remote_videos import Fetched, folder_for_child

START_TIMEOUT_SECONDS = 120.0
_BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from evlgen.video.child import main; main()"


class StartError(EvlgenError):
    """A child died before it was ready; the next one may do better."""


class Child:
    """One decoding process.

    Raises:
        StartError: the child died before it was ready, or the system has no room for a process just now; says why.
        EvlgenError: the child cannot load its decoder, or does not get ready in two minutes; says why.
    """

    def __init__(self, settings: wire.Settings) -> None:
        self._log = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115  (closed by close(); lives as long as the child)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=True,  # a Ctrl-C in the terminal reaches the parent only
            )
        except OSError as error:
            self._log.close()
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise StartError(f"no process could be started: {error.strerror}") from error
            raise
        self.served = 0
        self._folder: Path | None = None
        try:
            replies, timed_out = self._exchange(settings, START_TIMEOUT_SECONDS)
            if replies == [None]:
                return
            if replies:
                raise replies[0]
            if timed_out:
                raise EvlgenError(
                    f"a decoding process was not ready within {START_TIMEOUT_SECONDS:g} seconds{self._last_words()}"
                )
            raise StartError(f"before it was ready, the {self._how_it_ended()}{self._last_words()}")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """False once the process has ended, for whatever reason."""
        return self._process.poll() is None

    def decode(
        self, file: wire.Parts, timeout_seconds: float, fetch_seconds: float = 0.0
    ) -> ClipFrames | DecodeFailure:
        """The frames of one file, or why there are none. After "timeout" and "crashed" this child is dead.

        A file that is elsewhere is fetched before, within `fetch_seconds`.

        Raises:
            EvlgenError: there is no room for what is fetched.
        """
        self._log.truncate(0)
        self.served += 1
        if file.source is None:
            return self._decode(file, file, timeout_seconds)
        if self._folder is None:
            self._folder = folder_for_child()
        local = self._folder / f"video{file.path.suffix}"
        try:
            replies, timed_out = self._exchange(replace(file, local=local), fetch_seconds)
            if not replies:
                return self._ended(file, "fetched", fetch_seconds if timed_out else None, file.source.fingerprint)
            fetched: Fetched = replies[0]
            if fetched.failure is not None:
                return replace(fetched.failure, spans=file.spans)
            result = self._decode(file, None, timeout_seconds)
            return replace(result, fingerprint=fetched.fingerprint)
        finally:
            local.unlink(missing_ok=True)

    def _decode(
        self, file: wire.Parts, message: wire.Parts | None, timeout_seconds: float
    ) -> ClipFrames | DecodeFailure:
        replies, timed_out = self._exchange(message, timeout_seconds, count=2)
        fingerprint = replies[0] if replies else None
        if len(replies) == 2:
            result: ClipFrames | DecodeFailure = replies[1]
            return replace(result, fingerprint=fingerprint, spans=file.spans)
        return self._ended(file, "decoded" if replies else "read", timeout_seconds if timed_out else None, fingerprint)

    def _ended(
        self, file: wire.Parts, doing: str, after_seconds: float | None, fingerprint: str | None
    ) -> DecodeFailure:
        """What is to be said of a file at which the child has ended, at its deadline or by itself."""
        path = file.path
        if after_seconds is not None:
            message = f"{path}: not {doing} within {after_seconds:g} seconds{self._last_words()}"
            return DecodeFailure(path, "timeout", message, fingerprint, file.spans)
        message = f"{path}: the decoder {self._how_it_ended()}{self._last_words()}"
        return DecodeFailure(path, "crashed", message, fingerprint, file.spans)

    def kill(self) -> None:
        """End the process at once, with the programs that it has started; may be called from any thread."""
        if self.is_alive():
            kill_group(self._process)

    def close(self) -> None:
        """End the process and release its pipes."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()
        self._wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _exchange(self, message: Any, timeout_seconds: float, count: int = 1) -> tuple[list[Any], bool]:
        """Send a message, if there is one, and wait for replies.

        Returns:
            The `count` replies, fewer of a child that died meanwhile, and whether the deadline struck.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        struck = threading.Event()

        def strike() -> None:
            struck.set()
            self.kill()

        timer = threading.Timer(timeout_seconds, strike)
        timer.daemon = True
        timer.start()
        replies: list[Any] = []
        try:
            if message is not None:
                wire.send(self._process.stdin, message)
            while len(replies) < count:
                replies.append(wire.receive(self._process.stdout))
        except (EOFError, OSError):
            self._wait()
        finally:
            timer.cancel()
        return replies, struck.is_set()

    def _wait(self) -> int | None:
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it hangs in the kernel, on a dead disk for instance; init will reap it
            return None

    def _how_it_ended(self) -> str:
        code = self._wait()
        if code is None:
            return "process stopped answering"
        if code >= 0:
            return f"process ended by itself with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"process was ended by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")

    def _last_words(self) -> str:
        """The last line that the child's libraries printed about this file, as a suffix for a message."""
        try:
            end = self._log.seek(0, 2)
            self._log.seek(max(end - 2000, 0))
            lines = self._log.read().decode(errors="replace").split("\n")
        except (OSError, ValueError):
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[:300]}" if last else ""
