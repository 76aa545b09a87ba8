"""A file goes on in the arithmetic it was begun with, unless the user names one: another would caption all of it again.

Telling that takes no torch, so that a run with nothing to do, or a dry one, does not load it.
"""

from collections import Counter
from dataclasses import replace

from evlgen.arithmetic import DTYPES
from evlgen.captioning.captioner import resolve_dtype
from evlgen.captioning.settings import CaptionSettings
from evlgen.captioning.state import JournalState


def as_begun(settings: CaptionSettings, state: JournalState, device: str) -> CaptionSettings:
    """The settings with a dtype of `auto` replaced by that of the file, where it has one.

    It stays `auto` for a file that holds nothing yet, which no decision of the plan depends on.

    Args:
        settings: of this run.
        state: what the output file says.
        device: where the model would run.

    Raises:
        UsageError: as of `resolve_dtype`, where the file does not tell.
    """
    if settings.dtype != "auto" or not state.entries:
        return settings
    begun = _begun_in(settings, state)
    if begun is None or (begun == "float16" and resolve_dtype("auto", device) != "float16"):
        begun = resolve_dtype("auto", device)  # float16 is for GPUs, and this run may have none
    return replace(settings, dtype=begun)


def _begun_in(settings: CaptionSettings, state: JournalState) -> str | None:
    """The dtype of most lines that differ in nothing else; else that of the first line."""
    lines = Counter(entry.settings_hash for entry in state.entries.values())
    alike = {dtype: lines[replace(settings, dtype=dtype).hash] for dtype in DTYPES}
    best = max(alike, key=lambda dtype: alike[dtype])
    if alike[best]:
        return best
    first = next(iter(state.settings.values()), {}).get("dtype")
    return first if first in DTYPES else None
