"""Captions for everything that is no journal: tables, subtitles, sidecars, lists for trainers, shards; edits by hand.

`export_captions` (formats.py) is the whole of it: rows.py reads the caption file, the other files write one kind of
thing each.

    >>> from evlgen.exports import FORMATS
    >>> FORMATS["srt"].what
    'subtitles beside each video'
"""

from evlgen.exports.formats import FORMATS, Format, export_captions
from evlgen.exports.report import ExportOptions, Report
from evlgen.exports.rows import CaptionFile, Clip, ExportRow, read_caption_file
from evlgen.exports.words import Words

__all__ = [
    "FORMATS",
    "CaptionFile",
    "Clip",
    "ExportOptions",
    "ExportRow",
    "Format",
    "Report",
    "Words",
    "export_captions",
    "read_caption_file",
]
