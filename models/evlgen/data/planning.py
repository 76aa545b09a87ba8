"""What of a source is in its store already, what is to be encoded, and whether there is room for it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evlgen.data.decoding import missing
from evlgen.data.media import MISSING, MediaStore, Stamp, is_picture
from evlgen.data.store import Entry, FeatureStore
from evlgen.errors import EvlgenError, Failure

HASHED_BYTES = 64 << 20
"""Larger files are not hashed: when their time changes they are encoded again."""

_WORTH_ANOTHER_TRY = ("timeout", "crashed", "unreadable")


@dataclass(frozen=True)
class EncodingPlan:
    """What is to be done for the items of a source.

    Attributes:
        todo: positions of items to encode.
        stamps: name -> stamp of its file now.
        moved: entries whose file has another time but the same content.
        broken: position -> why, for items known to be of no use before anything is decoded.
        bytes_at_most: the rows of `todo` on disk; exact but for videos with fewer frames than asked for.
    """

    todo: list[int]
    stamps: dict[str, Stamp]
    moved: list[Entry]
    broken: dict[int, Failure]
    bytes_at_most: int


def make_plan(names: Sequence[str], media: MediaStore, store: FeatureStore, *, retry: bool = False) -> EncodingPlan:
    """Compare what is wanted with what is there, by the stamps of the files.

    Args:
        names: of the items.
        media: their files.
        store: what is there.
        retry: try items again whose decoding ran out of time or crashed.
    """
    plan = EncodingPlan([], {name: media.stamp(name) for name in names}, [], {}, 0)
    for number, name in enumerate(names):
        stamp, entry = plan.stamps[name], store.entries.get(name)
        if stamp == MISSING:
            plan.broken[number] = missing(media, name)
            continue
        if entry is not None and entry.stamp != stamp:
            same = entry.digest != "" and entry.digest == content_hash(media, name, stamp)
            entry = replace(entry, stamp=stamp) if same else None
            plan.moved.extend([entry] if entry is not None else [])
        if entry is None or (retry and entry.kind in _WORTH_ANOTHER_TRY):
            plan.todo.append(number)
        elif entry.kind:
            plan.broken[number] = entry.broken
    frames = [1 if is_picture(media.resolve(names[n]) or "") else store.facts["max_frames"] for n in plan.todo]
    return replace(plan, bytes_at_most=sum(frames) * store.facts["views"] * store.row_bytes)


def content_hash(media: MediaStore, name: str, stamp: Stamp) -> str:
    """A hash (128 bits) of a file's content; "" where it is too large or cannot be read."""
    if stamp == MISSING or stamp[0] > HASHED_BYTES:
        return ""
    try:
        return hashlib.sha256(media.read(name)).hexdigest()[:32]
    except EvlgenError:
        return ""


def free_bytes(place: Path) -> int:
    """Free space of the disk on which a folder is or would be."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_room(what: str, plan: EncodingPlan, place: Path) -> None:
    """Refuse before anything is encoded what would not fit.

    Raises:
        EvlgenError: names both sizes.
    """
    free = free_bytes(place)
    if plan.bytes_at_most > free:
        raise EvlgenError(
            f"{what}: the features of {len(plan.todo)} items take up to {plan.bytes_at_most / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free on the disk of {place}",
            "free some, name a folder elsewhere in features or EVLGEN_CACHE, or take fewer views or max_frames",
        )
