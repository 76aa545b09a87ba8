"""What a run tells: its listener while it goes on, a summary at its end. The library itself prints nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.captioners.protocol import ModelFacts
from evlgen.captioning.caption_plan import Decision, Plan
from evlgen.captioning.caption_rows import Row
from evlgen.captioning.clip_pipeline import Clock
from evlgen.captioning.confidence import BLACK, STILL, UNSURE


class Listener:
    """Hears of everything in the order in which it happens; override what is of interest."""

    def on_plan(self, plan: Plan) -> None:
        """Videos were found and compared with the output."""

    def on_summary(self, summary: "Summary") -> None:
        """What is counted while the run goes on: it is filled in from now on."""

    def on_download(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        """A weight file is being downloaded, or another step goes on; arguments as of `ProgressCallback`."""

    def on_start(self, videos: int) -> None:
        """The model is loaded; `videos` videos are about to be captioned."""

    def on_progress(self, frames: int, tokens: int) -> None:
        """So many frames were read and tokens written by now; told often, while a batch is being made."""

    def on_row(self, row: Row) -> None:
        """A line was written (or, without an output file, is ready)."""

    def on_note(self, text: str) -> None:
        """Something that people should know, in one line."""


class Forwarding(Listener):
    """Passes on all that it hears; made to be extended.

    Args:
        listener: who is told.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_plan(self, plan: Plan) -> None:
        self._listener.on_plan(plan)

    def on_summary(self, summary: "Summary") -> None:
        self._listener.on_summary(summary)

    def on_download(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        self._listener.on_download(name, done, total, unit)

    def on_start(self, videos: int) -> None:
        self._listener.on_start(videos)

    def on_progress(self, frames: int, tokens: int) -> None:
        self._listener.on_progress(frames, tokens)

    def on_row(self, row: Row) -> None:
        self._listener.on_row(row)

    def on_note(self, text: str) -> None:
        self._listener.on_note(text)


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        output: the output file, if any.
        done_before: videos skipped because the output already had their caption.
        edited: videos skipped because a person wrote their caption.
        empty_before: videos skipped because the same settings gave an empty caption before.
        failed_before: videos skipped because they failed before, by kind.
        beyond_limit: videos left for another run by the limit.
        unreadable_folders: folders that were left out because they could not be read.
        planned: videos that this run set out to caption.
        ok: captioned.
        partial: captioned from what could be decoded.
        empty: captioned with nothing.
        failed: without a caption, by kind.
        marked: captioned, but black, still or unsure: by that word.
        interrupted: the run was stopped before all was done.
        batch_size: videos in a batch at the end; smaller than asked for after out-of-memory failures, 0 where there was
            nothing to do and no number was asked for.
        seconds: length of the captioning itself, without finding videos and loading the model.
        load_seconds: time to load the model.
        clock: where the time of the loop went.
        facts: of the model, at the end; None where none was loaded.
    """

    output: Path | None
    done_before: int = 0
    edited: int = 0
    empty_before: int = 0
    failed_before: Mapping[str, int] = field(default_factory=dict)
    beyond_limit: int = 0
    unreadable_folders: int = 0
    planned: int = 0
    ok: int = 0
    partial: int = 0
    empty: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    batch_size: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    clock: Clock = field(default_factory=Clock)
    facts: ModelFacts | None = None

    @classmethod
    def of_plan(cls, plan: Plan, output: Path | None, batch_size: int) -> "Summary":
        """The summary of a run that has not begun."""
        return cls(
            output=output,
            done_before=plan.count(Decision.DONE),
            edited=plan.count(Decision.EDITED),
            empty_before=plan.count(Decision.EMPTY),
            failed_before=plan.failed_before,
            beyond_limit=plan.count(Decision.BEYOND_LIMIT),
            unreadable_folders=len(plan.unreadable),
            planned=len(plan.work),
            batch_size=batch_size,
        )

    def add(self, row: Row) -> None:
        """Count one finished video."""
        if row.error is not None:
            self.failed[row.error.kind] += 1
        elif row.status == "empty":
            self.empty += 1
        elif row.status == "partial":
            self.partial += 1
        else:
            self.ok += 1
        words = (warning.partition(":")[0] for warning in row.warnings)
        self.marked.update(word for word in words if word in (BLACK, STILL, UNSURE))

    def include(self, part: "Summary") -> None:
        """Take in the times of a part that ran beside others; its rows are counted as they come (`add`)."""
        self.batch_size = max(self.batch_size, part.batch_size)
        self.seconds = max(self.seconds, part.seconds)
        self.load_seconds = max(self.load_seconds, part.load_seconds)
        self.clock.model_seconds += part.clock.model_seconds
        self.clock.decode_wait_seconds += part.clock.decode_wait_seconds

    @property
    def finished(self) -> int:
        """Videos that this run wrote a line for."""
        return self.ok + self.partial + self.empty + self.failed.total()

    @property
    def videos_per_second(self) -> float:
        """Speed of this run."""
        return self.finished / self.seconds if self.seconds > 0 else 0.0

    @property
    def without_caption(self) -> int:
        """Videos that were asked for and failed or gave an empty caption, now or before."""
        return self.empty + self.failed.total() + self.empty_before + sum(self.failed_before.values())

    @property
    def complete(self) -> bool:
        """Whether all that was asked for has a caption, as far as anybody knows."""
        return not self.without_caption and not self.unreadable_folders

    @property
    def bottleneck(self) -> str:
        """ "decoding" when the model waited for clips longer than it worked, "model" otherwise; "none" without work.

        "none" too where nobody told the times, as of workers on Ray that were stopped.
        """
        waited, worked = self.clock.decode_wait_seconds, self.clock.model_seconds
        if self.finished == 0 or waited == worked:
            return "none"
        return "decoding" if waited > worked else "model"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "output": None if self.output is None else str(self.output),
            "ok": self.ok,
            "partial": self.partial,
            "empty": self.empty,
            "failed": dict(sorted(self.failed.items())),
            "marked": dict(sorted(self.marked.items())),
            "done_before": self.done_before,
            "edited": self.edited,
            "empty_before": self.empty_before,
            "failed_before": dict(sorted(self.failed_before.items())),
            "beyond_limit": self.beyond_limit,
            "unreadable_folders": self.unreadable_folders,
            "not_reached": self.planned - self.finished,
            "interrupted": self.interrupted,
            "batch_size": self.batch_size,
            "seconds": round(self.seconds, 3),
            "load_seconds": round(self.load_seconds, 3),
            "videos_per_second": round(self.videos_per_second, 3),
            "decode_wait_seconds": round(self.clock.decode_wait_seconds, 3),
            "model_seconds": round(self.clock.model_seconds, 3),
            "bottleneck": self.bottleneck,
        }
