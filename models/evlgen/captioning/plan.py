"""What a run has to do: every video is compared with the last line that the output file holds for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from evlgen.captioning.discover import Unreadable, Video
from evlgen.captioning.settings import CaptionSettings, describe_difference
from evlgen.captioning.state import Entry, JournalState
from evlgen.video import fingerprints


class Decision(StrEnum):
    """What happens to a video, and why; the values are what people read."""

    NEW = "new"
    CHANGED = "the file has changed"
    OTHER_SETTINGS = "other settings"
    RETRY = "failed before"
    DONE = "done"
    EMPTY = "empty before; other settings may say more"
    FAILED_BEFORE = "failed before; --retry-failed tries again"
    BEYOND_LIMIT = "beyond --limit"

    @property
    def is_work(self) -> bool:
        """Whether the video is captioned in this run."""
        return self in (Decision.NEW, Decision.CHANGED, Decision.OTHER_SETTINGS, Decision.RETRY)


@dataclass(frozen=True)
class PlannedVideo:
    """A video and what happens to it.

    Attributes:
        video: which one.
        decision: what and why.
        error_kind: of the line that the output holds, if that is an error.
    """

    video: Video
    decision: Decision
    error_kind: str | None = None


@dataclass(frozen=True)
class Plan:
    """All videos of a run.

    Attributes:
        videos: in the order in which they are captioned.
        difference: how the settings differ from those of the lines that other settings made; empty if there are none.
        unreadable: folders that could not be read, so that what is in them is left out.
    """

    videos: Sequence[PlannedVideo]
    difference: str
    unreadable: Sequence[Unreadable] = ()

    @property
    def work(self) -> list[Video]:
        """The videos to caption."""
        return [planned.video for planned in self.videos if planned.decision.is_work]

    def count(self, decision: Decision) -> int:
        """Videos of one decision."""
        return sum(planned.decision is decision for planned in self.videos)

    @property
    def failed_before(self) -> Counter[str]:
        """Videos that are left alone because they failed before, by kind."""
        return Counter(
            planned.error_kind or "unknown" for planned in self.videos if planned.decision is Decision.FAILED_BEFORE
        )


def make_plan(
    videos: Sequence[Video],
    state: JournalState,
    settings: CaptionSettings,
    retry_failed: bool,
    limit: int | None,
    timeout_seconds: float,
) -> Plan:
    """Decide about every video.

    Args:
        videos: what the user asked for.
        state: what the output file says.
        settings: of this run.
        retry_failed: caption again what failed before.
        limit: most videos to caption in this run.
        timeout_seconds: a file that takes longer to read counts as one that cannot be read.
    """
    comparable = [
        video for video in videos if (old := state.entries.get(video.name)) and old.settings_hash == settings.hash
    ]
    paths = list(dict.fromkeys(video.path for video in comparable))  # many questions may be about one picture
    now = fingerprints(paths, timeout_seconds)
    planned: list[PlannedVideo] = []
    work = 0
    for video in videos:
        entry = state.entries.get(video.name)
        decision = _decide(video, entry, settings.hash, now.get(video.path), retry_failed)
        if decision.is_work:
            if limit is not None and work >= limit:
                decision = Decision.BEYOND_LIMIT
            work += 1
        planned.append(PlannedVideo(video, decision, entry.error_kind if entry else None))
    return Plan(planned, _difference(planned, state, settings.as_dict()))


def _decide(
    video: Video, entry: Entry | None, settings_hash: str, fingerprint: str | None, retry_failed: bool
) -> Decision:
    if entry is None:
        return Decision.NEW
    if entry.settings_hash != settings_hash:
        return Decision.OTHER_SETTINGS
    if entry.fingerprint != fingerprint or entry.question != video.question:
        return Decision.CHANGED
    if entry.status == "empty":
        return Decision.EMPTY
    if entry.status == "error":
        return Decision.RETRY if retry_failed else Decision.FAILED_BEFORE
    return Decision.DONE


def _difference(planned: Sequence[PlannedVideo], state: JournalState, now: Mapping[str, object]) -> str:
    hashes = {state.entries[one.video.name].settings_hash for one in planned if one.decision is Decision.OTHER_SETTINGS}
    return "; ".join(sorted({describe_difference(state.settings.get(old, {}), now) for old in hashes}))
