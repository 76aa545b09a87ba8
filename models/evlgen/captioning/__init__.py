"""Captioning a folder: videos are found, decoded, captioned and written down, one line each, and a run can be resumed.

`caption_videos` is the whole of it; `plan_captions` says what it would do; `read_captions` reads what it wrote.
The output file (journal.py) alone decides what is done; pipeline.py is the loop.
"""

from evlgen.captioning.backoff import ModelBrokenError
from evlgen.captioning.captioner import Caption, Captioner, ModelCaptioner
from evlgen.captioning.discover import MEDIA_EXTENSIONS, Video, find_videos
from evlgen.captioning.journal import JournalError
from evlgen.captioning.listener import Listener
from evlgen.captioning.plan import Decision, Plan, PlannedVideo
from evlgen.captioning.request import CaptionRequest
from evlgen.captioning.rows import Row, RowError
from evlgen.captioning.run import caption_videos, plan_captions
from evlgen.captioning.state import read_captions
from evlgen.captioning.summary import Summary

__all__ = [
    "MEDIA_EXTENSIONS",
    "Caption",
    "CaptionRequest",
    "Captioner",
    "Decision",
    "JournalError",
    "Listener",
    "ModelBrokenError",
    "ModelCaptioner",
    "Plan",
    "PlannedVideo",
    "Row",
    "RowError",
    "Summary",
    "Video",
    "caption_videos",
    "find_videos",
    "plan_captions",
    "read_captions",
]
