"""Captioning that also writes what others read: sidecars as it goes, a table or subtitles at its end.

The journal stays the truth: what a killed run has not written is written by the next, and nothing else is done again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from evlgen.captioning import CaptionRequest, Listener, Plan, Row, Summary, caption_videos, find_videos
from evlgen.captioning.caption_run import Captioning
from evlgen.captioning.items import source_of
from evlgen.captioning.run_report import Forwarding
from evlgen.errors import EvlgenError, UsageError
from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.formats import check_options, export_captions
from evlgen.exports.report import ExportOptions, Report
from evlgen.exports.rows import CaptionFile, ExportRow, clip_of, is_caption_file, lines_by_video, read_caption_file
from evlgen.exports.sidecars import SIDECARS, clashing, put_sidecar, sidecar_path, write_sidecars
from evlgen.exports.tables import refuse_changed_table
from evlgen.system.names import printable

BY_SUFFIX = {".csv": "csv", ".srt": "srt", ".vtt": "vtt", ".parquet": "parquet", ".html": "html"}
"""What an output is written as, by its suffix; all others are journals."""


@dataclass(frozen=True)
class Outputs:
    """Where the captions of a run go.

    Attributes:
        journal: the output itself; None: nothing is remembered.
        export: a file that is made of the journal at the end.
        sidecar: the kind of file that is written beside each video, if any.
        options: template around captions.
    """

    journal: Path | None
    export: Path | None = None
    sidecar: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)

    @classmethod
    def of(
        cls,
        out: Path | None,
        sidecar: str | None = None,
        template: CaptionTemplate | None = None,
        merge_equal: bool = False,
    ) -> Outputs:
        """What `--out`, `--sidecar` and what goes with them mean.

        Args:
            out: the journal itself, or a file to export to, by its suffix.
            sidecar: suffix of the files beside videos.
            template: what stands around captions in both.
            merge_equal: parts that follow each other and say the same become one there.

        Raises:
            UsageError: they contradict each other, or mean nothing.
        """
        options = ExportOptions(template or CaptionTemplate(), merge_equal=merge_equal)
        if sidecar is not None and sidecar not in SIDECARS:
            raise UsageError(f"--sidecar {sidecar} is unknown: there is {', '.join(SIDECARS)}")
        if sidecar is not None and out is None:
            raise UsageError("--sidecar needs --out: the file that says what is done", "--out captions.jsonl")
        to = BY_SUFFIX.get(out.suffix.lower()) if out is not None and not is_caption_file(out) else None
        if not options.template.plain and sidecar is None and to is None:
            raise UsageError("--prefix, --suffix and --template are for --sidecar", "evlgen export has them too")
        if merge_equal and sidecar is None and to is None:
            raise UsageError(
                "--merge-equal is for --sidecar and for --out x.srt and its kin: lines stay one a part",
                "evlgen export has it too",
            )
        if to is None or out is None:
            return cls(out, None, sidecar, options)
        if sidecar is None:
            check_options(to, options)
        return cls(out.with_suffix(".jsonl"), out, sidecar, options)

    def refuse_several(self, videos: int) -> None:
        """See that one file of subtitles is for one video.

        Raises:
            UsageError: it is not.
        """
        if self.export is not None and self.export.suffix.lower()[1:] in SIDECARS and videos > 1:
            raise UsageError(
                f"--out {self.export} holds the captions of one video, and these are {videos}",
                f"--out captions.jsonl --sidecar {self.export.suffix.lower()[1:]} writes a file beside each",
            )


def caption_and_export(
    request: CaptionRequest,
    outputs: Outputs,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    captioning: Captioning = caption_videos,
) -> tuple[Summary, list[Report]]:
    """Caption videos into the journal, and write what is made of it.

    Args:
        request: as of `caption_videos`; its `out` is the journal.
        outputs: what else is written.
        listener: told what happens.
        stop: see `caption_videos`.
        captioning: what captions; it is called like `caption_videos`.

    Returns:
        The summary of the run, and the reports of sidecars and of the export, where there are any.

    Raises:
        UsageError: one file of subtitles for several videos, or a table in which a person has changed captions.
        EvlgenError: see `caption_videos`.
    """
    listener = listener or Listener()
    request = replace(request, out=outputs.journal)
    journal = request.journal
    if request.shard is not None and outputs.export is not None:
        raise UsageError(
            f"--out {outputs.export} is made of all videos, and --shard {request.shard} captions a part of them",
            f"--out {outputs.journal}; then evlgen merge, and evlgen export",
        )
    if journal is None or (outputs.export is None and outputs.sidecar is None):
        return captioning(request, listener, stop), []
    if outputs.export is not None:
        if outputs.export.suffix.lower()[1:] in SIDECARS and "-" not in request.sources:  # which is read once only
            outputs.refuse_several(len(find_videos(request.sources, root=request.root, unreadable=[])))
        if outputs.export.suffix.lower() == ".csv" and is_caption_file(journal):
            refuse_changed_table(read_caption_file(journal), outputs.export)
        listener.on_note(f"captions are kept in {journal}; {outputs.export} is made of it at the end")
    watcher = _Watcher(listener, outputs, journal)
    summary = captioning(request, watcher, stop)
    if not is_caption_file(journal):
        return summary, []
    reports = []
    if outputs.sidecar is not None:
        reports.append(watcher.make_up())
    if summary.interrupted and outputs.export is not None and outputs.export.suffix.lower() == ".html":
        listener.on_note(f"{outputs.export} is made when the run has come to its end")
    elif outputs.export is not None:
        reports.append(_export(outputs, journal, outputs.export, watcher.names))
    return summary, reports


def _export(outputs: Outputs, journal: Path, export: Path, names: list[str]) -> Report:
    to = BY_SUFFIX[export.suffix.lower()]
    plain = ExportOptions(merge_equal=outputs.options.merge_equal)
    options, only = (outputs.options, names) if to in SIDECARS else (plain, None)
    try:
        return export_captions(journal, to, export, names=only, options=options)
    except EvlgenError as error:  # the captions are safe, and so is the summary
        return Report(to, export, failed={str(export): str(error)})


class _Watcher(Forwarding):
    """Passes on what it hears, and writes the sidecar of each video as soon as its line is written.

    Attributes:
        names: of the videos of the run.
    """

    def __init__(self, listener: Listener, outputs: Outputs, journal: Path) -> None:
        super().__init__(listener)
        self._outputs, self._journal = outputs, journal
        self.names: list[str] = []
        self._written = 0

    def make_up(self) -> Report:
        """Write what is still to be written, also of videos that were captioned before."""
        assert self._outputs.sidecar is not None
        report = Report(self._outputs.sidecar, None)
        lines = lines_by_video(self._journal, self.names)
        clips = (clip_of(name, self._paths[name], of) for name, of in lines.items())
        if self._outputs.options.merge_equal:
            clips = (clip.with_equal_merged() for clip in clips)
        file = CaptionFile(self._journal, tuple(clips))
        write_sidecars(file, self._outputs.sidecar, None, self._outputs.options, report)
        report.written, report.unchanged = report.written + self._written, report.unchanged - self._written
        return report

    def on_plan(self, plan: Plan) -> None:
        self.names = [one.item.name for one in plan.items]
        self._outputs.refuse_several(len(self.names))
        if self._outputs.sidecar is not None:
            if far := next((one.item.name for one in plan.items if source_of(one.item)), None):
                raise UsageError(
                    f"--sidecar writes files beside videos, and {printable(far)} is elsewhere",
                    f"evlgen export {self._journal} --to {self._outputs.sidecar} --out FOLDER, when it is captioned",
                )
            self._paths = {one.item.name: one.item.path for one in plan.items}
            self._lines = lines_by_video(self._journal, {item.name for item in plan.work})
            self._shared = clashing(
                sidecar_path(clip_of(name, path, []), self._outputs.sidecar, None) for name, path in self._paths.items()
            )
        super().on_plan(plan)

    def on_row(self, row: Row) -> None:
        super().on_row(row)
        if self._outputs.sidecar is None or not row.text:
            return
        name = row.label
        lines = self._lines.setdefault(name, [])
        lines.append(ExportRow.of(row.as_dict()))
        clip = clip_of(name, self._paths[name], lines)
        if self._outputs.options.merge_equal:
            clip = clip.with_equal_merged()
        place = sidecar_path(clip, self._outputs.sidecar, None)
        if place in self._shared or place == clip.path:
            return
        report = Report(self._outputs.sidecar, None)
        with suppress(EvlgenError):  # tried again, and told, at the end of the run
            put_sidecar(clip, place, SIDECARS[self._outputs.sidecar], self._outputs.options, report)
        self._written += report.written
