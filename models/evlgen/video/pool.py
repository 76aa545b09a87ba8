"""Decode many files at once, in child processes that can be killed, with a deadline for each file.

Decoders can hang for hours inside C code or take the process down with them; here that costs one file. One thread of
the parent looks after each child. At most `workers` + `look_ahead` files are under way or waiting to be collected, so
memory stays bounded however slow the consumer is, and the input is read only as far.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import overload

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.cpus import usable_cpus
from evlgen.video import backends
from evlgen.video.clip import ClipFrames, DecodeFailure
from evlgen.video.process import Child, StartError
from evlgen.video.sampler import Sampler
from evlgen.video.wire import Parts, Reply, Settings

MOST_WORKERS = 512
MOST_SECONDS = 7 * 24 * 3600
"""The longest deadline: what waits for a lock, or a child, cannot wait for ever."""
FETCH_SECONDS = 600.0
"""For a file that is elsewhere to come."""
MOST_FETCHED_BYTES = 20_000_000_000

START_ATTEMPTS = 3
"""A child that dies before it is ready is started again so often, for each file."""

_PAUSE_SECONDS = 0.2  # before the next attempt: what the system lacked may be there again

Results = queue.SimpleQueue[Reply | BaseException]


@dataclass
class _Job:
    file: Parts
    results: Results
    cancelled: threading.Event = field(default_factory=threading.Event)


class DecodePool:
    """A context manager that decodes files in child processes.

    Args:
        workers: number of child processes.
        timeout_seconds: a file that takes longer is given up and its process killed.
        backend: "pyav", "decord" or "ffmpeg" (or "module:function", see backends.py).
        sampler: which frames; the default is `Sampler()`.
        size: (width, height) in pixels to resize to, aspect not kept; a number is the longest side that frames may
            have; None keeps each video's own size.
        recycle_after: replace a child after this many files, against leaks in decoders.
        look_ahead: how many finished clips may wait for the consumer; the default is `workers`.
        strict: a damaged file is a "decode-error" instead of partial frames with a warning.
        most_pixels: a picture or video with more in a frame is "too-large"; None: none is.
        most_memory_bytes: most address space of a child, where the system can limit it; None: no limit.
        fetch_seconds: for a file that is elsewhere (`Parts.source`), before its deadline begins.
        most_fetched_bytes: of such a file.

    Raises:
        UsageError: for wrong settings, all at once.
    """

    def __init__(
        self,
        workers: int = 2,
        timeout_seconds: float = 60.0,
        backend: str = "pyav",
        sampler: Sampler | None = None,
        size: tuple[int, int] | int | None = None,
        recycle_after: int = 200,
        look_ahead: int | None = None,
        strict: bool = False,
        most_pixels: int | None = None,
        most_memory_bytes: int | None = None,
        fetch_seconds: float = FETCH_SECONDS,
        most_fetched_bytes: int = MOST_FETCHED_BYTES,
    ) -> None:
        problems = [
            f"{name} must be {least}, not {value}"
            for name, value, least, fits in (
                ("workers", workers, f"1 to {MOST_WORKERS}", 1 <= workers <= MOST_WORKERS),
                (
                    "timeout_seconds",
                    timeout_seconds,
                    f"more than 0 and at most {MOST_SECONDS}",
                    0 < timeout_seconds <= MOST_SECONDS,
                ),
                ("size", size, "numbers of 1 or more", _fits(size)),
                ("recycle_after", recycle_after, "1 or more", recycle_after >= 1),
                ("look_ahead", look_ahead, "0 or more", look_ahead is None or look_ahead >= 0),
            )
            if not fits
        ]
        try:
            spec = backends.resolve(backend)
        except UsageError as error:
            problems.append(str(error))
        if problems:
            raise UsageError("; ".join(problems))
        # Measured on 2 cores: one thread for each of two children is faster than letting both use all cores.
        threads = max(1, usable_cpus() // workers)
        self._settings = Settings(
            spec,
            sampler or Sampler(),
            size,
            strict,
            threads,
            most_pixels,
            most_memory_bytes,
            most_fetched_bytes,
        )
        self._timeout_seconds, self._fetch_seconds = timeout_seconds, fetch_seconds
        self._recycle_after = recycle_after
        self._limit = workers + (workers if look_ahead is None else look_ahead)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._children: dict[int, Child] = {}
        self._closing = False
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(workers)]

    def __enter__(self) -> "DecodePool":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for _ in self._threads:
            self._jobs.put(None)
        for child in list(self._children.values()):
            child.kill()
        for thread in self._threads:
            thread.join(timeout=10)
        with suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    job.results.put(_closed())

    @overload
    def map(self, files: Iterable[str | PathLike[str] | Parts]) -> Iterator[ClipFrames | DecodeFailure]: ...

    @overload
    def map(
        self, files: Iterable[str | PathLike[str] | Parts], idle_seconds: float
    ) -> Iterator[ClipFrames | DecodeFailure | None]: ...

    def map(
        self, files: Iterable[str | PathLike[str] | Parts], idle_seconds: float | None = None
    ) -> Iterator[ClipFrames | DecodeFailure | None]:
        """Decode files, in the order in which they get done; the results carry their path and spans.

        The first files are given to the children at once, before anybody looks at a result.

        Args:
            files: paths, or parts; read only as far as there is room for results.
            idle_seconds: gives None whenever no result came for so long; None: waits.

        Raises:
            EvlgenError: the decoding processes cannot be started.
        """
        assert self._threads[0].is_alive(), "use the pool in a with statement"
        results: Results = queue.SimpleQueue()
        cancelled = threading.Event()
        remaining = iter(files)

        def submit(pending: int) -> int:
            while pending < self._limit and (file := next(remaining, None)) is not None:
                self._jobs.put(_Job(_parts(file), results, cancelled))
                pending += 1
            return pending

        begun = submit(0)

        def collect() -> Iterator[ClipFrames | DecodeFailure | None]:
            pending = begun
            try:
                while pending := submit(pending):
                    try:
                        result = results.get(timeout=idle_seconds)
                    except queue.Empty:
                        yield None
                        continue
                    pending -= 1
                    if isinstance(result, BaseException):
                        raise result
                    yield result
            finally:
                cancelled.set()  # a consumer that stops early leaves no work behind

        return collect()

    def decode(self, path: str | PathLike[str]) -> ClipFrames | DecodeFailure:
        """Decode one file; may be called from several threads at once, each waits for its own.

        Raises:
            EvlgenError: the decoding processes cannot be started, or the pool has been closed.
        """
        results: Results = queue.SimpleQueue()
        self._jobs.put(_Job(_parts(path), results))
        if self._closing:  # perhaps nobody takes the job any more
            raise _closed()
        result = results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def _work(self, number: int) -> None:
        """Look after one child until the pool closes. The child dies with this thread (see child.py)."""
        try:
            while (job := self._jobs.get()) is not None:
                if self._closing:
                    job.results.put(_closed())
                    return
                if job.cancelled.is_set():
                    continue
                try:
                    job.results.put(self._decode(number, job.file))
                except Exception as error:
                    job.results.put(error if isinstance(error, EvlgenError) else _start_failed(error))
        finally:
            if child := self._children.pop(number, None):
                child.close()

    def _decode(self, number: int, file: Parts) -> ClipFrames | DecodeFailure:
        reason = ""
        for attempt in range(START_ATTEMPTS):
            if self._closing:
                raise _closed()
            time.sleep(attempt * _PAUSE_SECONDS)
            try:
                return self._ready_child(number).decode(file, self._timeout_seconds, self._fetch_seconds)
            except StartError as error:
                reason = error.what
        message = f"{file.path}: no decoding process could be started in {START_ATTEMPTS} attempts: {reason}"
        return DecodeFailure(file.path, "crashed", message, spans=file.spans)

    def _ready_child(self, number: int) -> Child:
        child = self._children.get(number)
        if child is not None and (child.served >= self._recycle_after or not child.is_alive()):
            del self._children[number]
            child.close()
            child = None
        if child is None:
            child = self._children[number] = Child(self._settings)
            if self._closing:  # __exit__ may have looked for children before this one was there
                child.kill()
        return child


def _parts(file: str | PathLike[str] | Parts) -> Parts:
    return file if isinstance(file, Parts) else Parts(Path(file), ())


def _fits(size: tuple[int, int] | int | None) -> bool:
    return size is None or min(size if isinstance(size, tuple) else (size,)) >= 1


def _closed() -> EvlgenError:
    return EvlgenError("the decoding processes have been ended")


def _start_failed(error: Exception) -> EvlgenError:
    return EvlgenError(f"a decoding process could not be used: {type(error).__name__}: {error}")
