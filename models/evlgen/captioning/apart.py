"""Two folders with files of the same names must not share an output: the captions of one would replace the other's.

Rows say which folder their name is relative to, as seen from the output, so that both may move together. Rows from
before they did are taken as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

from evlgen.captioning.discover import Video
from evlgen.captioning.plan import Plan
from evlgen.captioning.state import JournalState
from evlgen.errors import UsageError
from evlgen.system.names import printable
from evlgen.video import fingerprints


def root_in_row(video: Video, out: Path) -> str | None:
    """The folder that the video's name is relative to, as seen from that of the output; None: the name is not."""
    if video.root is None:
        return None
    try:
        return Path(os.path.relpath(video.root, out.absolute().parent)).as_posix()
    except ValueError:  # Windows: two drives
        return video.root.as_posix()


def refuse_mixing(plan: Plan, state: JournalState, out: Path, timeout_seconds: float) -> None:
    """See that no video would take the place of another one that is still there, in another folder.

    Args:
        plan: what is to be done.
        state: what the output says.
        out: the output.
        timeout_seconds: most time to read a file.

    Raises:
        UsageError: one would.
    """
    others: dict[Path, Video] = {}
    for video in plan.work:
        entry = state.entries.get(video.name)
        if entry is None or entry.root is None or entry.fingerprint is None or video.root is None:
            continue
        root = os.path.normpath(out.absolute().parent / entry.root)
        if root != os.path.normpath(video.root):
            others[Path(root) / video.name] = video
    now = fingerprints([*others, *(video.path for video in others.values())], timeout_seconds)
    mixed = [
        (path, video)
        for path, video in others.items()
        if now[path] == state.entries[video.name].fingerprint != now[video.path]
    ]
    if mixed:
        path, video = mixed[0]
        more = f" and {len(mixed) - 1} more" if len(mixed) > 1 else ""
        raise UsageError(
            f"{out} holds the captions of other files of the same names, {printable(path)} for {printable(video.path)}"
            f"{more}",
            "choose another --out, or caption both folders in one run with another --out",
        )
