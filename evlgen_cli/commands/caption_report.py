"""What `evlgen caption` shows of a run: its plan, rows as they come, and what it came to."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import typer

from evlgen.captioning import Listener, Plan, Row, Summary
from evlgen.system.names import printable
from evlgen_cli.console import Bar, download_progress, err, out, print_json, progress, table
from evlgen_cli.exits import Exit
from evlgen_cli.human_numbers import human_seconds
from evlgen_cli.signals import stop_on_signals

if TYPE_CHECKING:
    from evlgen.exports import Report

STOPPING = "stopping after the batch in the model; once more to stop at once"
STOP_SECONDS = 7.0
"""How long the batch in the model may take after SIGTERM: who sends it (Slurm, a container) kills after ten."""


@dataclass(frozen=True)
class Wording:
    """What a run is about, as the command says it."""

    items: str = "videos"
    made: str = "captions"
    doing: str = "captioning"
    done: str = "captioned"


class CaptionView(Listener):
    """Shows a run on standard error while it goes on.

    Args:
        stack: ends the bars.
        stop: set on signals; None: they are another's business.
        quiet: shows nothing.
        rows_to_stdout: writes rows to standard output.
    """

    wording = Wording()

    def __init__(self, stack: ExitStack, stop: Event | None, *, quiet: bool, rows_to_stdout: bool) -> None:
        self._stack, self._stop = stack, stop
        self._quiet, self._rows_to_stdout = quiet, rows_to_stdout
        self._downloads = ExitStack()
        self._report = self._downloads.enter_context(download_progress()) if not quiet else None
        stack.push(self._downloads)
        self._bar: Bar | None = None

    def on_plan(self, plan: Plan) -> None:
        text = _describe_plan(plan, self.wording)
        if text and not self._quiet:
            err.print(text)

    def on_download(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        if self._report is not None:
            self._report(name, done, total, unit)

    def on_start(self, videos: int) -> None:
        self._downloads.close()
        if not self._quiet:
            self._bar = self._stack.enter_context(progress(self.wording.doing, videos, unit=self.wording.items))
        if self._stop is not None:
            self._stack.enter_context(stop_on_signals(self._stop, STOPPING, STOP_SECONDS))

    def on_progress(self, frames: int, tokens: int) -> None:
        if self._bar is not None:
            self._bar.detail(f"{frames} frames read, {tokens} tokens written")

    def on_row(self, row: Row) -> None:
        if self._rows_to_stdout:
            sys.stdout.buffer.write(row.as_line())
            sys.stdout.buffer.flush()
        if self._bar is None:
            return
        if row.error is not None:
            self._bar.note(_one_line(f"{row.label}: {row.error.kind}: {row.error.message}"))
        elif err.is_terminal:
            self._bar.note(_one_line(f"{row.label}: {row.text}"))
        self._bar.advance()

    def on_note(self, text: str) -> None:
        if self._bar is not None:
            self._bar.note(text)
        else:
            err.print(text)


def _describe_plan(plan: Plan, wording: Wording = CaptionView.wording) -> str:
    from evlgen.captioning import Decision

    lines = []
    if again := plan.count(Decision.OTHER_SETTINGS):
        lines.append(
            f"{again} {wording.items} have {wording.made} made with other settings ({plan.difference}); "
            f"they are {wording.done} again, and the new lines count"
        )
    if changed := plan.count(Decision.CHANGED):
        done = wording.done
        lines.append(f"{changed} {wording.items} have changed since they were {done}; they are {done} again")
    if failed := plan.count(Decision.FAILED_BEFORE):
        lines.append(f"{failed} {wording.items} failed before and are left alone; --retry-failed tries them again")
    lines += [f"warning: {one}" for one in plan.unreadable]
    return "\n".join(lines)


def show_plan(plan: Plan, as_json: bool) -> None:
    """Show what would be done with each video, or each part of one."""
    if as_json:
        for one in plan.unreadable:
            err.print(f"warning: {one}")
        print_json(
            [
                {"video": planned.item.key, "caption": planned.decision.is_work, "why": planned.decision.value}
                for planned in plan.items
            ]
        )
        return
    for planned in plan.items:
        action = "caption" if planned.decision.is_work else "skip   "
        out.print(f"{action}  {printable(planned.item.key)}  ({planned.decision.value})")
    if text := _describe_plan(plan):
        err.print(text)
    err.print(f"would caption {len(plan.work)} of {len(plan.items)} videos")


def show_summary(summary: Summary, as_json: bool, quiet: bool, reports: Sequence["Report"]) -> None:
    """Show what a run came to, and what was made of it."""
    if as_json and summary.output is not None:
        print_json(summary.as_dict() | {f"to_{report.to}": report.as_dict() for report in reports})
    elif summary.output is not None and not quiet:
        table(["captions", ""], _summary_rows(summary) + [_made(report) for report in reports])
    elif not quiet:
        err.print("; ".join(f"{name} {value}" for name, value in _summary_rows(summary)))
    if summary.interrupted:
        hint = "run the same command again to go on" if summary.output else "give --out to be able to go on"
        err.print(f"interrupted after {summary.finished} of {summary.planned} videos; {hint}")


def _summary_rows(summary: Summary) -> list[tuple[str, str]]:
    rows = [("ok", str(summary.ok))]
    if summary.partial:
        rows.append(("partial", f"{summary.partial} (a part of the file could not be read)"))
    if summary.empty:
        rows.append(("empty", f"{summary.empty} (the model said nothing; --min-new-tokens 1 makes it)"))
    rows += [
        (f"marked {word}", f"{count} (see the warnings in their lines)")
        for word, count in sorted(summary.marked.items())
    ]
    rows += [(f"failed: {kind}", str(count)) for kind, count in sorted(summary.failed.items())]
    rows += [(f"failed before: {kind}", str(count)) for kind, count in sorted(summary.failed_before.items())]
    if summary.empty_before:
        rows.append(("empty before", str(summary.empty_before)))
    if summary.done_before:
        rows.append(("skipped, done", str(summary.done_before)))
    if summary.edited:
        rows.append(("edited by hand", f"{summary.edited} (left alone)"))
    if summary.unreadable_folders:
        rows.append(("folders not read", str(summary.unreadable_folders)))
    if summary.beyond_limit:
        rows.append(("left by --limit", str(summary.beyond_limit)))
    if summary.finished:
        clock = summary.clock
        rows.append(("speed", f"{summary.videos_per_second:.2f} videos/s, {human_seconds(summary.seconds)}"))
        rows.append(
            (
                "time",
                f"model {human_seconds(clock.model_seconds)}, "
                f"waiting for decoding {human_seconds(clock.decode_wait_seconds)}; bottleneck: {summary.bottleneck}",
            )
        )
    if summary.output is not None:
        rows.append(("output", str(summary.output)))
    return rows


def _made(report: "Report") -> tuple[str, str]:
    if report.out is not None:
        return report.to, f"{report.out}, {report.captions} captions"
    kept = f", {len(report.kept)} left alone (a person's)" if report.kept else ""
    return f".{report.to} files", f"{report.written} written{kept}"


def _one_line(text: str) -> str:
    text = printable(text)
    return text if len(text) <= err.width else text[: err.width - 1] + "…"


def show_status(plan: Plan, as_json: bool) -> None:
    """Show what is done and what is left; ends with exit code 3 if any is."""
    from evlgen.captioning import Decision

    counts = {decision.value: count for decision in Decision if (count := plan.count(decision))}
    if as_json:
        print_json({"videos": len(plan.items), "left": len(plan.work), "counts": counts})
    else:
        table(["videos", ""], [("all", str(len(plan.items))), *((name, str(count)) for name, count in counts.items())])
    if plan.count(Decision.DONE) + plan.count(Decision.EDITED) < len(plan.items):
        raise typer.Exit(Exit.SOME_FAILED)
