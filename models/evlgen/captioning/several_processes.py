"""One run by several processes on one machine: one for each GPU, or for some CPU cores each.

Every process captions its part (shards.py) into a file of its own; at the end, and before the next run after a kill,
the files of the parts become one with the output (joining.py) and are removed.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from evlgen.captioning.caption_request import CaptionRequest
from evlgen.captioning.caption_run import caption_videos, plan_captions
from evlgen.captioning.joining import join_journals
from evlgen.captioning.journal import Journal
from evlgen.captioning.run_report import Listener, Summary
from evlgen.captioning.shards import Shard
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.child_processes import die_with_parent
from evlgen.system.cpus import usable_cpus

STOP_SECONDS = 5.0
"""How long the batches in the models may take after a stop."""

_THREADS = "OMP_NUM_THREADS"


def caption_in_parts(
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    *,
    processes: int,
) -> Summary:
    """Caption with several processes.

    Args:
        request: what to caption, and where to.
        listener: told of rows and notes of all, and of downloads of the first.
        stop: as of `caption_videos`.
        processes: how many; with CUDA the first takes the first GPU, and so on, in turn.

    Raises:
        UsageError: there is no output, or as of `caption_videos`.
        EvlgenError: a process failed or was killed; what the others wrote is in the output.
    """
    if request.out is None or request.shard is not None:
        raise UsageError("--processes needs --out, and no --shard", "each process has a part of the videos")
    if "-" in request.sources:
        raise UsageError(
            "--processes cannot read standard input in each process", "write the list to a file: @list.txt"
        )
    listener = listener or Listener()
    stop = stop or threading.Event()
    with Journal(request.out):  # refuses what is no caption file, and is there for those who read it
        pass
    collect_parts(request.out)
    plan = plan_captions(request)
    listener.on_plan(plan)
    summary = Summary.of_plan(plan, request.out, request.batch_size or 0)
    listener.on_summary(summary)
    if not plan.work:
        return summary
    context = get_context("spawn")
    parts: dict[Connection, _Part] = {}
    devices = _devices(request.device, processes)
    with _threads_each(max(1, usable_cpus() // processes)):
        for index in range(processes):
            ours, theirs = context.Pipe()
            part = replace(
                request,
                shard=Shard(index, processes),
                device=devices[index],
                workers=request.workers or max(1, usable_cpus() // processes),
            )
            process = context.Process(target=_work, args=(part, theirs), daemon=False)
            process.start()
            theirs.close()
            parts[ours] = _Part(index, process)
    listener.on_start(len(plan.work))
    try:
        _listen(parts, listener, summary, stop)
    finally:
        for one in parts.values():
            one.process.kill()  # does nothing to one that has ended
            one.process.join()
    collect_parts(request.out)
    for one in parts.values():
        if one.summary is None and stop.is_set():  # it was in the middle of a batch, or still loading
            continue
        summary.include(one.result(processes))
    summary.interrupted = stop.is_set() and summary.finished < summary.planned
    return summary


def _listen(parts: Mapping[Connection, _Part], listener: Listener, summary: Summary, stop: threading.Event) -> None:
    """Hand on what the processes say, until all have ended; after a stop they have a few seconds for that."""
    talking, told_at = set(parts), None
    while talking and (told_at is None or time.monotonic() < told_at + STOP_SECONDS):
        for one in wait(list(talking), timeout=0.2):
            assert isinstance(one, Connection)
            try:
                kind, value = one.recv()
            except (EOFError, OSError):
                talking.discard(one)
                parts[one].process.join()
                continue
            if kind == "row":
                summary.add(value)
            parts[one].take(kind, value, listener)
        if stop.is_set() and told_at is None:
            told_at = time.monotonic()
            for one in talking:
                with suppress(OSError):  # it has just ended
                    one.send("stop")


@dataclass
class _Part:
    """A process and what it said."""

    index: int
    process: Any
    summary: Summary | None = None
    error: tuple[bool, str, str] | None = None

    def take(self, kind: str, value: Any, listener: Listener) -> None:
        if kind == "row":
            listener.on_row(value)
        elif kind == "note":
            listener.on_note(value)
        elif kind == "download" and self.index == 0:
            listener.on_download(*value)
        elif kind == "summary":
            self.summary = value
        elif kind == "error":
            self.error = value

    def result(self, processes: int) -> Summary:
        """The summary, or what went wrong as an exception."""
        if self.error is not None:
            usage, what, hint = self.error
            raise (UsageError if usage else EvlgenError)(what, hint)
        if self.summary is None:
            raise EvlgenError(
                f"process {self.index} of {processes} ended with exit code {self.process.exitcode}",
                "what it wrote is kept; run the same command again to go on",
            )
        return self.summary


class _Sender(Listener):
    """Tells the process that started this one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, kind: str, value: object) -> None:
        with self._lock:
            self._connection.send((kind, value))

    def on_download(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        self.send("download", (name, done, total, unit))

    def on_row(self, row: Any) -> None:
        self.send("row", row)

    def on_note(self, text: str) -> None:
        self.send("note", text)


def _work(request: CaptionRequest, connection: Connection) -> None:
    """What each process does."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process says what to do
    stop = threading.Event()

    def pass_on() -> None:
        with suppress(EOFError, OSError):
            connection.recv()
        stop.set()

    threading.Thread(target=pass_on, daemon=True).start()
    sender = _Sender(connection)
    try:
        summary = caption_videos(request, sender, stop)
        summary.clock.on_count = _nothing  # what was there cannot go from process to process
        sender.send("summary", summary)
    except EvlgenError as error:
        sender.send("error", (isinstance(error, UsageError), error.what, error.hint))


def _nothing() -> None:
    """Count nothing."""


def collect_parts(out: Path) -> None:
    """Put what stands in files of parts into the output, and remove them.

    Raises:
        EvlgenError: see `join_journals`.
    """
    name = re.compile(re.escape(out.stem) + r"\.shard-\d+-of-\d+" + re.escape(out.suffix))
    if not out.parent.is_dir():
        return
    parts = [one for one in out.parent.iterdir() if name.fullmatch(one.name)]
    if parts:
        join_journals(sorted(parts), out)
        for one in parts:
            one.unlink()


def _devices(device: str, processes: int) -> list[str]:
    """Where each process runs: in turn on all GPUs there are, unless one device is named."""
    if device in ("auto", "cuda"):
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count:
            return [f"cuda:{index % count}" for index in range(processes)]
    return [device] * processes


@contextmanager
def _threads_each(threads: int) -> Iterator[None]:
    """While this is open, processes that start take so many threads for arithmetic."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
