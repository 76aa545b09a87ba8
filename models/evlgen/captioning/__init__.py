"""Captioning a folder: videos are found, decoded, captioned and written down, one line each, and a run can be resumed.

`caption_videos` is the whole of it (caption_run.py); `plan_captions` says what it would do; `read_captions` reads what
it wrote. The output file (journal.py) alone decides what is done; clip_pipeline.py is the loop; captioners
have a room of their own, `evlgen.captioners`, and so have data sets that are captioned to be scored,
`evlgen.evaluating`.

    >>> from evlgen.captioning import CaptionRequest, plan_captions
    >>> plan = plan_captions(CaptionRequest(sources=["clips"]))
    >>> [(one.item.name, one.decision.value) for one in plan.items]
    [('a.mp4', 'new')]
"""

import warnings

from evlgen.captioners.evlgen_captioner import EVLGenCaptioner
from evlgen.captioners.protocol import Caption, Captioner, PromptedClip
from evlgen.captioning.backoff import ModelBrokenError
from evlgen.captioning.caption_plan import Decision, Plan, PlannedItem
from evlgen.captioning.caption_request import CaptionRequest
from evlgen.captioning.caption_rows import AnswerRow, CaptionRow, Row
from evlgen.captioning.caption_run import caption_videos, plan_captions
from evlgen.captioning.discover import MEDIA_EXTENSIONS, find_videos
from evlgen.captioning.items import Item, PictureQuestion, Video
from evlgen.captioning.journal import JournalError, read_captions, read_rows
from evlgen.captioning.run_report import Listener, Summary
from evlgen.errors import Failure, RenamedWarning

__all__ = [
    "MEDIA_EXTENSIONS",
    "AnswerRow",
    "Caption",
    "CaptionRequest",
    "CaptionRow",
    "Captioner",
    "Decision",
    "EVLGenCaptioner",
    "Failure",
    "Item",
    "JournalError",
    "Listener",
    "ModelBrokenError",
    "PictureQuestion",
    "Plan",
    "PlannedItem",
    "PromptedClip",
    "Row",
    "Summary",
    "Video",
    "caption_videos",
    "find_videos",
    "plan_captions",
    "read_captions",
    "read_rows",
]


def __getattr__(name: str) -> type[Failure]:
    if name != "RowError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("evlgen.captioning.RowError is called Failure now", RenamedWarning, stacklevel=2)
    return Failure
