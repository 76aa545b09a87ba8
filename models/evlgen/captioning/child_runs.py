"""Runs in processes of their own, which tell the process that started them what happens.

They end with it, however it ends; Ctrl-C is its business, and a stop reaches them through it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from evlgen.captioning.caption_plan import Plan
from evlgen.captioning.run_report import Listener, Summary
from evlgen.errors import EvlgenError
from evlgen.system.child_processes import die_with_parent

STOP_SECONDS = 5.0
"""How long the batches in the models may take after a stop."""

Work = Callable[[Listener, threading.Event], Summary]


@dataclass
class ChildRun:
    """A process and what it said of its end.

    Attributes:
        process: it.
        connection: our end of the pipe.
        summary: of its run, once that is over.
        error: what it raised.
    """

    process: Any
    connection: Connection
    summary: Summary | None = None
    error: EvlgenError | None = None

    def result(self, name: str) -> Summary:
        """The summary.

        Args:
            name: of the process, for errors.

        Raises:
            EvlgenError: what the process raised, or that it ended without a word.
        """
        if self.error is not None:
            raise self.error
        if self.summary is None:
            raise EvlgenError(
                f"{name} ended with exit code {self.process.exitcode}",
                "what it wrote is kept; run the same command again to go on",
            )
        return self.summary


def start(target: Callable[..., None], *arguments: Any) -> ChildRun:
    """Start `target(*arguments, connection)` in a process of its own."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=False)
    process.start()
    theirs.close()
    return ChildRun(process, ours)


def receive(runs: Sequence[ChildRun], on_message: Callable[[ChildRun, str, Any], None], stop: threading.Event) -> None:
    """Hand on what processes say until all have ended; after a stop they have a few seconds for that, then are killed.

    Args:
        runs: that were started.
        on_message: gets the run, what kind of thing it says, and that: the methods of `Listener` without "on_".
        stop: ends them.
    """
    talking, told_at = {one.connection: one for one in runs}, None
    try:
        while talking and (told_at is None or time.monotonic() < told_at + STOP_SECONDS):
            for connection in wait(list(talking), timeout=0.2):
                assert isinstance(connection, Connection)
                run = talking[connection]
                try:
                    kind, value = connection.recv()
                except (EOFError, OSError):
                    run.process.join()
                    del talking[connection]
                    continue
                if kind == "summary":
                    run.summary = value
                elif kind == "error":
                    run.error = value
                else:
                    on_message(run, kind, value)
            if stop.is_set() and told_at is None:
                told_at = time.monotonic()
                for connection in talking:
                    with suppress(OSError):  # it has just ended
                        connection.send("stop")
    finally:
        for run in runs:
            run.process.kill()  # does nothing to one that has ended
            run.process.join()


def forward(listener: Listener, kind: str, value: Any) -> None:
    """Tell a listener what a process said."""
    getattr(listener, f"on_{kind}")(*value)


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
        self.send("row", (row,))

    def on_note(self, text: str) -> None:
        self.send("note", (text,))


class _WholeSender(_Sender):
    """Tells of the run itself, too."""

    def on_plan(self, plan: Plan) -> None:
        self.send("plan", (plan,))

    def on_start(self, videos: int) -> None:
        self.send("start", (videos,))

    def on_progress(self, frames: int, tokens: int) -> None:
        self.send("progress", (frames, tokens))


def report_to_parent(work: Work, connection: Connection, *, whole: bool = False) -> None:
    """What a process does: the work, telling of it.

    Args:
        work: gets who is told, and what stops it.
        connection: to the process that started this one.
        whole: tell of the plan, the start and the progress, too.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process says what to do
    stop = threading.Event()

    def pass_on() -> None:
        with suppress(EOFError, OSError):
            connection.recv()
        stop.set()

    threading.Thread(target=pass_on, daemon=True).start()
    sender = (_WholeSender if whole else _Sender)(connection)
    try:
        sender.send("summary", work(sender, stop))
    except EvlgenError as error:
        sender.send("error", error.plain())
