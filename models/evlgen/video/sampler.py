"""Which frames of a video to look at: a pure function from a timeline to presentation indices.

"uniform" looks at the middle of each of F equal spans of time, which evaluation uses; "head-tail" spreads F frames
evenly from the first to the last one (the released code's sampler of that name is another one, random, and trains);
"random-spans" takes one random moment in each of F equal spans, as the paper trains.
The frame chosen for a moment is the one on display then (timeline.py). Where we differ from the paper's code: spans are
spans of time, not of frame numbers, so a variable frame rate does not skew them.
"""

import math
import random
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from evlgen.errors import UsageError, VideoError
from evlgen.video.timeline import Timeline

FIXED_COUNT = ("uniform", "head-tail", "random-spans")
STRATEGIES = (*FIXED_COUNT, "fps", "keyframes", "times")
DEFAULT_FRAMES = 4
MOST_FRAMES = 10_000
MOST_FPS = 1_000_000
_NUMBER = re.compile(r"[+-]?(\d{1,99}(\.\d{0,99})?|\.\d{1,99})(e[+-]?\d{1,3})?|[+-]?\d{1,99}/\d{1,99}", re.IGNORECASE)

Item = TypeVar("Item")
Span = tuple[Fraction, Fraction]
"""From when to when, in seconds after the first frame."""


@dataclass(frozen=True)
class Sampler:
    """A rule for choosing frames. Wrong settings raise one UsageError that lists them all.

    Args:
        strategy: "uniform", "head-tail" and "random-spans" always give exactly `frames` entries, repeating frames when
            the video has fewer; "fps", "keyframes" and "times" give as many as there are, at most `max_frames`.
        frames: number of frames for the first three strategies.
        fps: frames per second of video, for "fps" only; a frame is never given twice.
        times: seconds after the first frame, for "times" only; one entry each, the last frame for moments past the end.
        max_frames: for "fps", "keyframes" and "times": thin out evenly to this many; None means no limit.
        seed: for "random-spans"; the same seed and the same file name choose the same frames.
        spans: (start, end) in seconds of parts of the video: the rule is applied to each by itself, and the frames of
            all follow each other; none: the whole video. For the strategies that give a fixed number.
    """

    strategy: str = "uniform"
    frames: int = DEFAULT_FRAMES
    fps: Fraction | None = None
    times: tuple[Fraction, ...] = ()
    max_frames: int | None = None
    seed: int = 0
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.strategy not in STRATEGIES:
            problems.append(f"sampler {self.strategy!r} is not one of {', '.join(STRATEGIES)}")
        if not 1 <= self.frames <= MOST_FRAMES:
            problems.append(f"frames must be 1 to {MOST_FRAMES}, not {self.frames}")
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            problems.append(f"fps must be more than 0 and at most {MOST_FPS}")
        if self.max_frames is not None and self.max_frames < 1:
            problems.append(f"max_frames must be 1 or more, not {self.max_frames}")
        if any(time < 0 for time in self.times):
            problems.append("times must not be negative")
        if self.spans and self.strategy not in FIXED_COUNT:
            problems.append(f"parts of a video go with {', '.join(FIXED_COUNT)}, not with sampler {self.strategy}")
        problems += _misplaced(self.strategy, self.fps, self.times)
        _raise_all(problems)

    @classmethod
    def parse(
        cls,
        strategy: str | None = None,
        *,
        frames: int | None = None,
        fps: float | str | Fraction | None = None,
        times: str | Iterable[float | str | Fraction] | None = None,
        max_frames: int | None = None,
        seed: int | None = None,
    ) -> "Sampler":
        """Build from what a user typed; None means "not given".

        Args:
            strategy: without one, fps or times selects the strategy of that name, and "uniform" is the default.
            frames: number of frames of the strategies that have a fixed one.
            fps: frames per second of video; a text may be a fraction, "30000/1001".
            times: moments in seconds; one text may hold all, "0.5,1.2".
            max_frames: limit of the other strategies.
            seed: of "random-spans".

        Raises:
            UsageError: with every problem at once and the allowed choices.
        """
        problems: list[str] = []
        fps_value = None if fps is None else _fraction("fps", fps, problems)
        items = times.split(",") if isinstance(times, str) else list(times or ())
        time_values = tuple(_fraction("times", item, problems) for item in items)
        if strategy is None:
            strategy = "times" if items else "fps" if fps is not None else "uniform"
        if frames is not None and strategy in STRATEGIES and strategy not in FIXED_COUNT:
            hint = "use max_frames to limit it" if strategy != "times" else "times gives one frame for each time"
            problems.append(f"frames does not go with sampler {strategy} ({hint})")
        if max_frames is not None and strategy in FIXED_COUNT:
            problems.append(f"max_frames does not go with sampler {strategy} (use frames)")
        try:
            sampler = cls(
                strategy,
                DEFAULT_FRAMES if frames is None else frames,
                fps_value,
                time_values,
                max_frames,
                0 if seed is None else seed,
            )
        except UsageError as error:
            problems.append(error.what)
        _raise_all(problems)
        return sampler

    def choose(self, timeline: Timeline, name: str = "") -> tuple[int, ...]:
        """Presentation indices of the chosen frames, never descending except for unordered `times`.

        Args:
            timeline: when the frames are on display.
            name: the file's name; "random-spans" draws other moments for another name.

        Raises:
            VideoError: of kind "no-frames": a span begins behind the end.
        """
        if self.spans:
            for start, _ in self.spans:
                if start >= timeline.duration > 0:
                    raise VideoError(
                        "no-frames",
                        f"{name}: a part begins at {float(start):g} s, and the video ends at "
                        f"{float(timeline.duration):g} s",
                    )
            whole = replace(self, spans=())
            parts = (timeline.part(start, end) for start, end in self.spans)
            return tuple(
                first + index
                for number, (first, part) in enumerate(parts)
                for index in whole.choose(part, f"{name}:{number}")
            )
        count, duration = self.frames, timeline.duration
        if self.strategy == "uniform":
            moments = [duration * Fraction(2 * span + 1, 2 * count) for span in range(count)]
        elif self.strategy == "head-tail":
            moments = [timeline.times[-1] * Fraction(step, max(count - 1, 1)) for step in range(count)]
        elif self.strategy == "random-spans":
            draw = random.Random(f"{self.seed}:{name}")
            moments = [duration * (span + Fraction(draw.random())) / count for span in range(count)]
        elif self.strategy == "times":
            moments = list(_thin(self.times, self.max_frames))
        elif self.strategy == "keyframes":
            return tuple(_thin(timeline.keyframes or (0,), self.max_frames))
        else:
            assert self.fps is not None
            return tuple(_thin(_at_rate(timeline, self.fps), self.max_frames))
        return tuple(timeline.frame_at(moment) for moment in moments)


def _at_rate(timeline: Timeline, fps: Fraction) -> tuple[int, ...]:
    """The frames on display at k / fps, for every k with k / fps < duration; k = 0 in any case."""
    steps = max(math.ceil(timeline.duration * fps), 1)
    if steps <= len(timeline.times):
        return tuple(dict.fromkeys(timeline.frame_at(step / fps) for step in range(steps)))
    shown = zip(timeline.times, (*timeline.times[1:], None), strict=True)  # frame by frame: steps may be without number
    first = ((math.ceil(time * fps), end) for time, end in shown)  # the first k since the frame came on
    return tuple(i for i, (k, end) in enumerate(first) if k < steps and (end is None or k < end * fps))


def _misplaced(strategy: str, fps: Fraction | None, times: tuple[Fraction, ...]) -> list[str]:
    problems = []
    if strategy == "fps" and fps is None:
        problems.append("sampler fps needs fps (frames per second of video)")
    if strategy == "times" and not times:
        problems.append("sampler times needs times (seconds, for instance 0.5,1.2)")
    if strategy in STRATEGIES and strategy != "fps" and fps is not None:
        problems.append(f"fps does not go with sampler {strategy}")
    if strategy in STRATEGIES and strategy != "times" and times:
        problems.append(f"times does not go with sampler {strategy}")
    return problems


def _fraction(name: str, value: float | str | Fraction, problems: list[str]) -> Fraction:
    text = str(value).strip()
    with suppress(ZeroDivisionError):
        if _NUMBER.fullmatch(text):
            return Fraction(text)
    problems.append(f"{name}: {value!r} is not a number")
    return Fraction(1)


def _thin(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """At most `limit` of the items, from the middles of equal spans."""
    if limit is None or len(items) <= limit:
        return items
    return [items[(2 * span + 1) * len(items) // (2 * limit)] for span in range(limit)]


def _raise_all(problems: list[str]) -> None:
    if problems:
        raise UsageError("; ".join(problems))
