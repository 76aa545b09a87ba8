"""What a run has to do: every item is compared with the last line that the output file holds for it.

A file goes on in the arithmetic it was begun with, unless the user names one: another would caption all of it again.
Two folders with files of the same names must not share an output: the captions of one would replace the other's.
All of this takes no torch, so that a run with nothing to do, or a dry one, does not load it.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from evlgen.arithmetic import DTYPES
from evlgen.captioning.caption_request import CaptionRequest, CaptionSettings, describe_difference
from evlgen.captioning.discover import Unreadable
from evlgen.captioning.items import Item, question_of, root_of, source_of
from evlgen.captioning.journal import JournalEntry, JournalState
from evlgen.captioning.remote import remote_fingerprints
from evlgen.errors import UsageError
from evlgen.system.names import printable
from evlgen.video import content_fingerprints


class Decision(StrEnum):
    """What happens to an item, and why; the values are what people read."""

    NEW = "new"
    CHANGED = "the file has changed"
    OTHER_SETTINGS = "other settings"
    RETRY = "failed before"
    DONE = "done"
    EMPTY = "empty before; other settings may say more"
    FAILED_BEFORE = "failed before; --retry-failed tries again"
    EDITED = "edited by hand"
    BEYOND_LIMIT = "beyond --limit"

    @property
    def is_work(self) -> bool:
        """Whether the item is captioned in this run."""
        return self in (Decision.NEW, Decision.CHANGED, Decision.OTHER_SETTINGS, Decision.RETRY)


@dataclass(frozen=True)
class PlannedItem:
    """An item and what happens to it.

    Attributes:
        item: which one.
        decision: what and why.
        error_kind: of the line that the output holds, if that is an error.
    """

    item: Item
    decision: Decision
    error_kind: str | None = None


@dataclass(frozen=True)
class Plan:
    """All items of a run.

    Attributes:
        items: in the order in which they are captioned.
        difference: how the settings differ from those of the lines that other settings made; empty if there are none.
        settings: of this run; the dtype is `auto` as long as nothing depends on it.
        unreadable: folders that could not be read, so that what is in them is left out.
    """

    items: Sequence[PlannedItem]
    difference: str
    settings: CaptionSettings
    unreadable: Sequence[Unreadable] = ()

    @property
    def work(self) -> list[Item]:
        """The items to caption."""
        return [planned.item for planned in self.items if planned.decision.is_work]

    def count(self, decision: Decision) -> int:
        """How many items have this decision."""
        return sum(planned.decision is decision for planned in self.items)

    @property
    def failed_before(self) -> Counter[str]:
        """How many items are left alone because they failed before, by kind of failure."""
        return Counter(
            planned.error_kind or "unknown" for planned in self.items if planned.decision is Decision.FAILED_BEFORE
        )


def make_plan(
    items: Sequence[Item],
    state: JournalState,
    settings: CaptionSettings,
    request: CaptionRequest,
    unreadable: Sequence[Unreadable] = (),
) -> Plan:
    """Decide about every item.

    Args:
        items: what the user asked for.
        state: what the output file says.
        settings: of this run.
        request: its output, device, limit and deadline.
        unreadable: folders that could not be read when the items were looked for.

    Raises:
        UsageError: an item would take the place of another one that is still there, in another folder.
    """
    settings = replace(settings, dtype=begun_dtype(settings, state, request))
    settings_hash = settings.hash
    entries = ((item, state.entries.get(item.key)) for item in items)
    same = [item for item, old in entries if old and not old.edited and old.settings_hash == settings_hash]
    here = dict.fromkeys(item.path for item in same if source_of(item) is None)  # many questions, one picture
    now = content_fingerprints(list(here), request.timeout_seconds)
    elsewhere = remote_fingerprints(same)
    planned: list[PlannedItem] = []
    work = 0
    for item in items:
        entry = state.entries.get(item.key)
        if source_of(item) is None:
            fingerprint = now.get(item.path)
        else:  # a caption is not lost to a network that fails
            fingerprint = elsewhere.get(item, entry.fingerprint if entry else None)
        decision = _decide(item, entry, settings_hash, fingerprint, request.retry_failed)
        if decision.is_work:
            if request.limit is not None and work >= request.limit:
                decision = Decision.BEYOND_LIMIT
            work += 1
        planned.append(PlannedItem(item, decision, entry.error_kind if entry else None))
    plan = Plan(planned, _difference(planned, state, settings.as_dict()), settings, unreadable)
    if request.out is not None:
        _refuse_mixing(plan, state, request.out, request.timeout_seconds)
    return plan


def _decide(
    item: Item, entry: JournalEntry | None, settings_hash: str, fingerprint: str | None, retry_failed: bool
) -> Decision:
    if entry is None:
        return Decision.NEW
    if entry.edited:  # a person's words are never replaced, whatever has changed
        return Decision.EDITED
    if entry.settings_hash != settings_hash:
        return Decision.OTHER_SETTINGS
    if entry.fingerprint != fingerprint or entry.question != question_of(item):
        return Decision.CHANGED
    if entry.status == "empty":
        return Decision.EMPTY
    if entry.status == "error":
        return Decision.RETRY if retry_failed else Decision.FAILED_BEFORE
    return Decision.DONE


def _difference(planned: Sequence[PlannedItem], state: JournalState, now: Mapping[str, object]) -> str:
    hashes = {state.entries[one.item.key].settings_hash for one in planned if one.decision is Decision.OTHER_SETTINGS}
    return "; ".join(sorted({describe_difference(state.settings.get(old, {}), now) for old in hashes}))


def begun_dtype(settings: CaptionSettings, state: JournalState, request: CaptionRequest) -> str:
    """The dtype of a run: the one that is named, or the one that its output was begun in.

    It stays `auto` for an output that holds nothing yet, which no decision of the plan depends on.

    Raises:
        UsageError: there is no such device, and the output does not tell.
    """
    if settings.dtype != "auto" or not state.entries:
        return settings.dtype
    begun = _most_lines(settings, state)
    anywhere = request.kind.half_matrices and platform.machine() in ("x86_64", "AMD64")  # told without torch
    if begun is None or (begun == "float16" and not anywhere):  # else float16 is for GPUs, and this run may have none
        return request.kind.resolve_dtype("auto", request.device)
    return begun


def _most_lines(settings: CaptionSettings, state: JournalState) -> str | None:
    """The dtype of most lines that differ in nothing else; else that of the first line."""
    lines = Counter(entry.settings_hash for entry in state.entries.values())
    alike = {dtype: lines[replace(settings, dtype=dtype).hash] for dtype in DTYPES}
    best = max(alike, key=lambda dtype: alike[dtype])
    if alike[best]:
        return best
    first = next(iter(state.settings.values()), {}).get("dtype")
    return first if first in DTYPES else None


def root_in_row(item: Item, out: Path) -> str | None:
    """The folder that an item's name is relative to, as seen from that of the output, so that both may move together.

    Of a file elsewhere it is the address of the folder in which it was found, with which its name begins. None: the
    name is not relative to any.
    """
    if source := source_of(item):
        return source.folder
    root = root_of(item)
    if root is None:
        return None
    try:
        return Path(os.path.relpath(root, out.absolute().parent)).as_posix()
    except ValueError:  # Windows: two drives
        return root.as_posix()


def _refuse_mixing(plan: Plan, state: JournalState, out: Path, timeout_seconds: float) -> None:
    """Raise a UsageError if captions of another folder would be replaced; lines that name no folder are taken as is."""
    others: dict[Path, Item] = {}
    for item in plan.work:
        entry, root = state.entries.get(item.key), root_of(item)
        if entry is None or entry.root is None or entry.fingerprint is None or root is None:
            continue
        before = os.path.normpath(out.absolute().parent / entry.root)
        if before != os.path.normpath(root):
            others[Path(before) / item.name] = item
    now = content_fingerprints([*others, *(item.path for item in others.values())], timeout_seconds)
    mixed = [
        (path, item)
        for path, item in others.items()
        if now[path] == state.entries[item.key].fingerprint != now[item.path]
    ]
    if mixed:
        path, item = mixed[0]
        more = f" and {len(mixed) - 1} more" if len(mixed) > 1 else ""
        raise UsageError(
            f"{out} holds the captions of other files of the same names, {printable(path)} for {printable(item.path)}"
            f"{more}",
            "choose another --out, or caption both folders in one run with another --out",
        )
