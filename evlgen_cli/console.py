"""What the person at the terminal sees; the only file that knows rich.

Data goes to `out` (standard output), talk goes to `err` (standard error). Neither interprets markup, since paths and
captions may hold square brackets. On a terminal progress is a bar, in a log it is plain lines; rate and time left are
those of pace.py in both.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from evlgen.system.names import escaped, printable
from evlgen_cli.human_numbers import human_bytes
from evlgen_cli.pace import Pace


class _Console(Console):
    """A console that no name can steer: every line of text that is printed goes through `printable`."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print text, line by line as it may be shown, or what rich draws."""
        super().print(
            *("\n".join(map(printable, one.split("\n"))) if isinstance(one, str) else one for one in objects), **options
        )


out = _Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
err = _Console(markup=False, highlight=False, emoji=False, soft_wrap=True, stderr=True)

NAMES_SHOWN = 3
"""How many names a warning has."""

PLAIN_LINE_SECONDS = 10.0
"""How often a bar that is not on a terminal writes a line."""


class Bar(Protocol):
    """How a running command says how far it is."""

    def advance(self, count: int = 1) -> None:
        """Say that `count` more are done."""

    def update(self, done: int, total: int | None = None) -> None:
        """Say that `done` are done in all, and how many there will be if that became known."""

    def detail(self, text: str) -> None:
        """Say what goes on before more are done: frames decoded, tokens written."""

    def note(self, text: str) -> None:
        """Write one line of talk without disturbing the bar."""


def first_names(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    rest = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return printable(", ".join(names[:NAMES_SHOWN]) + rest)


def print_json(value: Any) -> None:
    """Print `value` on standard output as indented JSON, never wrapped or coloured."""
    unicode = "utf" in (getattr(out.file, "encoding", None) or "utf-8").lower()
    text = json.dumps(value, indent=2, ensure_ascii=not unicode)
    out.file.write(escaped(text) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their column names; wrapped to the window on a terminal, never cut elsewhere."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if out.is_terminal:
        from rich.table import Table

        grid = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            grid.add_column(column, overflow="fold")  # a path must stay whole, even over two lines
        for row in rows:
            grid.add_row(*row)
        out.print(grid, soft_wrap=False)
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.file.write(line.rstrip() + "\n")


@contextmanager
def progress(label: str, total: int | None, *, unit: str = "videos", in_bytes: bool = False) -> Iterator[Bar]:
    """Show how far a loop is, on standard error.

    Args:
        label: what is being done, e.g. "captioning".
        total: how many there are; None when that is not known yet.
        unit: what is counted.
        in_bytes: the count is bytes; shown as kB, MB and GB.
    """
    if not err.is_terminal:
        bar = _PlainBar(label, total, unit, in_bytes)
        yield bar
        bar.close()
        return
    from rich import progress as rp

    pace = Pace(time.monotonic())

    class PaceColumn(rp.ProgressColumn):
        def render(self, task: rp.Task) -> Text:
            total = None if task.total is None else int(task.total)
            words = pace.describe(total, time.monotonic(), unit=unit, in_bytes=in_bytes)
            return Text(", ".join(part for part in (words, task.fields["detail"]) if part))

    with rp.Progress(
        rp.TextColumn("{task.description}", markup=False),
        rp.BarColumn(),
        rp.DownloadColumn() if in_bytes else rp.MofNCompleteColumn(),
        PaceColumn(),
        console=err,
    ) as shown:
        yield _RichBar(shown, shown.add_task(label, total=total, detail=""), pace)


class StepBars:
    """Shows the progress of downloads and other steps, one after the other: `steps(name, done, total, unit)`."""

    def __init__(self) -> None:
        self._name = ""
        self._open = ExitStack()

    def __call__(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        """Say that `done` of `total` units of the step `name` are done."""
        if name != self._name:
            self.close()
            self._name = name
            self._bar = self._open.enter_context(progress(name, total, unit=unit, in_bytes=unit == "bytes"))
        self._bar.update(done, total)
        if unit != "bytes" and done == total:
            self.close()  # what is said next is said behind it

    def close(self) -> None:
        """Take the bar away, so that something may be printed; the next step has one of its own."""
        self._open.close()
        self._name = ""


@contextmanager
def download_progress() -> Iterator[StepBars]:
    """Show the progress of steps while the block runs."""
    steps = StepBars()
    try:
        yield steps
    finally:
        steps.close()


class _RichBar:
    """A bar on a terminal."""

    def __init__(self, shown: Any, task: Any, pace: Pace) -> None:
        self._shown, self._task, self._pace = shown, task, pace

    def advance(self, count: int = 1) -> None:
        self.update(self._pace.done + count)

    def update(self, done: int, total: int | None = None) -> None:
        self._pace.record(done, time.monotonic())
        self._shown.update(self._task, completed=done, **({} if total is None else {"total": total}))

    def detail(self, text: str) -> None:
        self._shown.update(self._task, detail=text)

    def note(self, text: str) -> None:
        self._shown.console.print(text)


class _PlainBar:
    """Lines for a log: at most one every PLAIN_LINE_SECONDS, and one at the end."""

    def __init__(self, label: str, total: int | None, unit: str, in_bytes: bool) -> None:
        self._label, self._total, self._unit, self._in_bytes = label, total, unit, in_bytes
        self._detail = ""
        self._written = time.monotonic()
        self._pace = Pace(self._written)

    def advance(self, count: int = 1) -> None:
        self.update(self._pace.done + count)

    def update(self, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        self._pace.record(done, now)
        self._total = self._total if total is None else total
        self._write_when_due(now)

    def detail(self, text: str) -> None:
        self._detail = text
        self._write_when_due(time.monotonic())

    def note(self, text: str) -> None:
        err.print(text)

    def close(self) -> None:
        self._detail = ""
        self.note(self._line(time.monotonic()))

    def _write_when_due(self, now: float) -> None:
        if now - self._written >= PLAIN_LINE_SECONDS:
            self._written = now
            self.note(self._line(now))

    def _line(self, now: float) -> str:
        count = human_bytes if self._in_bytes else str
        text = f"{self._label}: {count(self._pace.done)}"
        text += "" if self._total is None else f" of {count(self._total)}"
        text += "" if self._in_bytes else f" {self._unit}"
        words = self._pace.describe(self._total, now, unit=self._unit, in_bytes=self._in_bytes)
        return ", ".join(part for part in (text, words, self._detail) if part)
