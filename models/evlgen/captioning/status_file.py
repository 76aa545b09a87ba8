"""How far a long run is, in a file that is replaced every few seconds: JSON, or Prometheus' text format for .prom.

It is for those who look from elsewhere (a dashboard, node_exporter's textfile collector); the journal alone says what
is done. A run that is killed leaves the file as it was: `updated` tells.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from evlgen.captioning.run_report import Forwarding, Listener, Summary
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.files import os_errors, write_text
from evlgen.system.memory import family_resident_bytes

EVERY_SECONDS = 5.0
_BEGINNINGS = {".json": '{"evlgen_state": ', ".prom": "# HELP evlgen_"}
_OUTCOMES = ("ok", "partial", "empty")


class StatusFile(Forwarding):
    """A context manager that writes the file, by the clock and at its end, and passes on all that it hears.

    Args:
        path: the file, .json or .prom.
        listener: who is told besides.
        every_seconds: from one writing to the next.

    Raises:
        UsageError: the suffix is another, or the file is there and is none of this kind.
        EvlgenError: it cannot be written.
    """

    def __init__(self, path: Path, listener: Listener, every_seconds: float = EVERY_SECONDS) -> None:
        super().__init__(listener)
        suffix = path.suffix.lower()
        if suffix not in _BEGINNINGS:
            raise UsageError(f"--status-file {path}: expected .json, or .prom for Prometheus")
        if path.is_file():
            with os_errors(path, "cannot be read"), path.open("rb") as file:
                beginning = file.read(len(_BEGINNINGS[suffix]))
            if beginning not in (b"", _BEGINNINGS[suffix].encode()):
                raise UsageError(f"--status-file {path} exists and is no status file; nothing was changed")
        self._path, self._every_seconds = path, every_seconds
        self._render = _as_prometheus if suffix == ".prom" else _as_json
        self._state, self._error = "starting", ""
        self._summary: Summary | None = None
        self._started: float | None = None
        self._ended = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)

    def on_summary(self, summary: Summary) -> None:
        self._summary, self._state = summary, "loading"
        super().on_summary(summary)

    def on_start(self, videos: int) -> None:
        self._started, self._state = time.monotonic(), "captioning"
        super().on_start(videos)

    def __enter__(self) -> StatusFile:
        write_text(self._path, self._render(self.as_dict()))  # what cannot be written is told before work is done
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        stopped = isinstance(error, KeyboardInterrupt) or (self._summary is not None and self._summary.interrupted)
        self._state = "interrupted" if stopped else "done" if error is None else "failed"
        self._error = str(error) if self._state == "failed" else ""
        self._write()

    def as_dict(self) -> dict[str, Any]:
        """What stands in the file: the summary as far as it is, with the rate and the time left by now."""
        values: dict[str, Any] = {"evlgen_state": self._state, "updated": round(time.time(), 3)}
        if self._error:
            values["error"] = self._error
        if self._summary is not None:
            summary = self._summary
            values |= {"planned": summary.planned, "done": summary.finished, **summary.as_dict()}
            if summary.seconds == 0 and self._started is not None:
                seconds = max(time.monotonic() - self._started, 1e-9)
                values |= {"seconds": round(seconds, 3), "videos_per_second": round(summary.finished / seconds, 3)}
            rate, left = values["videos_per_second"], summary.planned - summary.finished
            values["left_seconds"] = 0.0 if not left else round(left / rate, 1) if rate else None
            values |= {"frames": summary.clock.frames, "tokens": summary.clock.tokens}
        return {**values, "resident_bytes": family_resident_bytes()}

    def _keep_writing(self) -> None:
        while not self._ended.wait(self._every_seconds):
            self._write()

    def _write(self) -> None:
        try:
            write_text(self._path, self._render(self.as_dict()))
        except EvlgenError as error:  # no reason to stop captioning
            if not self._told:
                self._told = True
                self.on_note(f"warning: the status file is not up to date: {error}")


def _as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _as_prometheus(values: Mapping[str, Any]) -> str:
    """Text of version 0.0.4 of the format; what is not known is left out."""
    run = {"output": values["output"]} if values.get("output") else {}
    lines: list[str] = []
    for name, kind, text, samples in _metrics(values):
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += [f"# HELP evlgen_{name} {text}", f"# TYPE evlgen_{name} {kind}"]
        for labels, value in known:
            said = ",".join(f'{key}="{_escaped(label)}"' for key, label in {**run, **labels}.items())
            lines.append(f"evlgen_{name}{{{said}}} {value}" if said else f"evlgen_{name} {value}")
    return "\n".join(lines) + "\n"


_Samples = list[tuple[dict[str, str], float | None]]


def _metrics(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str, _Samples]]:
    """Name, kind, help and samples of each metric."""

    def one(name: str) -> _Samples:
        return [({}, values.get(name))]

    yield "state", "gauge", "1 for what the run does now.", [({"state": values["evlgen_state"]}, 1)]
    yield "updated_timestamp_seconds", "gauge", "When this was written.", one("updated")
    yield "resident_bytes", "gauge", "Memory of the run and its decoding processes.", one("resident_bytes")
    yield "videos_planned", "gauge", "Videos that this run set out to caption.", one("planned")
    done: _Samples = [({"status": name}, values.get(name)) for name in _OUTCOMES]
    yield "videos_captioned", "gauge", "Videos that this run wrote a caption for.", done
    failed: _Samples = [({"kind": kind}, count) for kind, count in values.get("failed", {}).items()]
    yield "videos_failed", "gauge", "Videos that this run has no caption for, by reason.", failed
    yield "videos_done_before", "gauge", "Videos that were done before this run.", one("done_before")
    yield "videos_left", "gauge", "Videos that are still to be captioned.", one("not_reached")
    yield "videos_per_second", "gauge", "Rate of the whole run.", one("videos_per_second")
    yield "left_seconds", "gauge", "Time that the rest will take at this rate.", one("left_seconds")
    yield "model_seconds", "gauge", "Time in the model.", one("model_seconds")
    yield "decode_wait_seconds", "gauge", "Time that the model waited for decoding.", one("decode_wait_seconds")
    slow: _Samples = [({"of": values["bottleneck"]}, 1)] if "bottleneck" in values else []
    yield "bottleneck", "gauge", "1 for what the run waits for: decoding, model or none.", slow


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
