"""What an export is asked for, and what it tells afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.rows import CaptionFile, Clip

POSTERS = ("auto", "inside", "beside", "none")


@dataclass(frozen=True)
class ExportOptions:
    """How to export; the defaults suit every format.

    Attributes:
        template: what stands around captions.
        overwrite: replace what is there already, also where a person may have changed it.
        merge_equal: parts of a video that follow each other and have the same caption become one.
        burn: draw subtitles into the pictures instead of adding a track.
        posters: where the pictures of a gallery go: inside the page, beside it, nowhere; auto: by their number.
        shard_megabytes: about how large a shard of a WebDataset becomes.
    """

    template: CaptionTemplate = CaptionTemplate()  # noqa: RUF009 - frozen
    overwrite: bool = False
    merge_equal: bool = False
    burn: bool = False
    posters: str = "auto"
    shard_megabytes: int = 1000


@dataclass
class Report:
    """The result of an export.

    Attributes:
        to: the format.
        out: what was written: a file, a folder, or an address; None: files beside the videos.
        captions: that are in it now.
        written: files that were made or brought up to date.
        unchanged: files that held the same already.
        kept: files that hold something else, and were left alone.
        lacking: videos, or parts, without a caption, by reason; they are left out of all but the gallery.
        missing: names of captioned videos whose files are not there.
        clashes: names of videos whose captions would go into one and the same file.
        failed: names of videos that could not be written, with the reason.
    """

    to: str
    out: Path | str | None
    captions: int = 0
    written: int = 0
    unchanged: int = 0
    kept: list[Path] = field(default_factory=list)
    lacking: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing that was asked for is left out; files that were left alone are none of it."""
        return not (self.lacking or self.missing or self.clashes or self.failed)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **vars(self),
            "out": None if self.out is None else str(self.out),
            "kept": [str(path) for path in self.kept],
            "lacking": dict(sorted(self.lacking.items())),
        }


def clips_there(file: CaptionFile, report: Report) -> list[Clip]:
    """The captioned videos whose files are there, as trainers need them; the report says which others there are."""
    report.lacking = file.lacking()
    captioned = [clip for clip in file.clips if clip.captioned]
    report.missing = [clip.name for clip in captioned if not clip.path.is_file()]
    return [clip for clip in captioned if clip.path.is_file()]
