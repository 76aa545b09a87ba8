"""The spelling of a frame sampler on a command line and in the settings: a strategy, or `fps=N`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evlgen.video import Sampler


def parse_sampler(text: str, frames: int) -> Sampler:
    """`uniform`, `head-tail` and `random-spans` take `frames` frames; `keyframes` and `fps=N` take at most so many.

    Raises:
        UsageError: no such strategy, or no such rate.
    """
    from evlgen.video import Sampler

    strategy, has_value, value = text.partition("=")
    rate = value if has_value else None
    if strategy in ("fps", "keyframes"):
        return Sampler.parse(strategy, fps=rate, max_frames=frames)
    return Sampler.parse(text, frames=frames)
