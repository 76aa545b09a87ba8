"""Caption what is there, and then what comes: `evlgen caption --watch`.

Folders are listed again and again; only where a file came or changed is the output looked at. A file that was written
to since the round before is left for the next one: it may not be whole. The model stays loaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from evlgen.captioners.protocol import Captioner
from evlgen.captioning.caption_request import CaptionRequest
from evlgen.captioning.caption_run import Captioning, run_items
from evlgen.captioning.discover import Unreadable, find_videos
from evlgen.captioning.items import Video
from evlgen.captioning.journal import CAPTIONS
from evlgen.captioning.remote import remote_fingerprints
from evlgen.captioning.run_report import Listener, Summary
from evlgen.errors import UsageError

_State = tuple[int, int] | str


def watch(request: CaptionRequest, stop: threading.Event, every_seconds: float) -> Iterator[Captioning]:
    """Give, until `stop` is set, what captions the files that came or changed: to be called like `caption_videos`.

    Args:
        request: what to caption, and where to; a list on standard input cannot be read twice.
        stop: ends a run as of `caption_videos`, and the watching.
        every_seconds: from the end of one round to the next; a file that changed later than so long ago waits for it.

    Raises:
        UsageError: there is no output, or a source does not exist.
    """
    if request.out is None:
        raise UsageError("--watch needs --out", "it tells what is done")
    if "-" in request.sources:
        raise UsageError("--watch cannot read standard input again", "name a folder, or a list as @list.txt")
    return _rounds(request, stop, every_seconds)


def _rounds(request: CaptionRequest, stop: threading.Event, every_seconds: float) -> Iterator[Captioning]:
    models: dict[str, Captioner] = {}
    seen: dict[str, _State] = {}
    first = True
    while not stop.is_set():
        unreadable: list[Unreadable] = []
        videos = find_videos(request.sources, root=request.root, unreadable=unreadable, may_be_empty=True)
        now = {one.name: state for one in videos if (state := _state_of(one, every_seconds)) is not None}
        came = [one for one in videos if one.name in now and now[one.name] != seen.get(one.name)]
        if request.shard is not None:
            came = [one for one in came if request.shard.holds(one.name)]
        if came and request.segments is not None:
            came = request.segments.of(came, request.timeout_seconds)
        if came:
            yield partial(_caption, came, unreadable, models, again=first)
            first = False
        seen = now
        stop.wait(every_seconds)


def _caption(
    videos: Sequence[Video],
    unreadable: Sequence[Unreadable],
    models: dict[str, Captioner],
    request: CaptionRequest,
    listener: Listener | None,
    stop: threading.Event | None,
    *,
    again: bool,
) -> Summary:
    """Caption what came; what failed before is tried `again` once, if that was asked for."""
    request = replace(request, retry_failed=request.retry_failed and again)
    return run_items(CAPTIONS, videos, request, listener, stop, unreadable, models)


def _state_of(video: Video, settled_seconds: float) -> _State | None:
    """Size and time of a file, or its version where it is elsewhere; None if it is being written, or gone."""
    if video.source is not None:
        return remote_fingerprints([video]).get(video)
    try:
        stat = Path(video.path).stat()
    except OSError:
        return None
    age = time.time() - stat.st_mtime  # below 0 where clocks differ: then nobody can tell
    return None if 0 <= age < settled_seconds else (stat.st_size, stat.st_mtime_ns)
