"""Captions for everything that is no journal: tables, subtitles, sidecars, lists for trainers, shards; edits by hand.

`export_captions` (formats.py) is the most of it: rows.py reads the caption file, the other files write one kind of
thing each. edits.py takes in what people change.

    >>> from evlgen.exports import FORMATS
    >>> FORMATS["srt"].what
    'subtitles beside each video'
"""

from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.edits import EditReport, edit_caption, edit_from
from evlgen.exports.elsewhere import export_elsewhere
from evlgen.exports.formats import FORMATS, Format, export_captions
from evlgen.exports.report import ExportOptions, Report
from evlgen.exports.rows import CaptionFile, Clip, ExportRow, read_caption_file
from evlgen.exports.while_captioning import Outputs, caption_and_export

__all__ = [
    "FORMATS",
    "CaptionFile",
    "CaptionTemplate",
    "Clip",
    "EditReport",
    "ExportOptions",
    "ExportRow",
    "Format",
    "Outputs",
    "Report",
    "caption_and_export",
    "edit_caption",
    "edit_from",
    "export_captions",
    "export_elsewhere",
    "read_caption_file",
]
