"""When each frame of a video is on display: the one time rule that every sampler and every backend shares.

Times are exact fractions of a second from presentation timestamps (pts), counted from the first frame. Frame rates and
frame counts written in the file play no part: both can lie, and both are meaningless when the frame rate varies.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Timeline:
    """The frames of one video in presentation order.

    Args:
        times: when each frame comes on display, in seconds after the first frame; ascending, `times[0] == 0`.
        duration: when the last frame goes off display, in seconds after the first frame.
        keyframes: presentation indices of the frames that decode on their own; ascending.
    """

    times: tuple[Fraction, ...]
    duration: Fraction
    keyframes: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        assert len(self.times) > 0, "a timeline has at least one frame"
        assert self.times[0] == 0, "a timeline starts with a frame at 0"
        assert self.duration >= self.times[-1], "the last frame cannot end before it starts"

    @classmethod
    def from_pts(
        cls, pts: Sequence[int], time_base: Fraction, last_duration: int = 0, keyframes: Sequence[int] = (0,)
    ) -> "Timeline":
        """Build from ascending pts in units of `time_base` seconds.

        Args:
            pts: ascending; at least one.
            time_base: seconds in one unit of pts.
            last_duration: how long the last frame stays, in units of pts; 0 or less means unknown, and then the gap
                before it is taken (0 for a single frame).
            keyframes: presentation indices.
        """
        if last_duration <= 0:
            last_duration = pts[-1] - pts[-2] if len(pts) > 1 else 0
        first = pts[0]
        times = tuple((value - first) * time_base for value in pts)
        return cls(times, (pts[-1] - first + last_duration) * time_base, tuple(keyframes))

    def part(self, start: Fraction, end: Fraction) -> tuple[int, "Timeline"]:
        """The part from `start` to `end`, in seconds, as a timeline of its own, and the index of its first frame here.

        It begins with the frame on display at `start`, and holds those that come on before `end`.
        """
        first = self.frame_at(start)
        last = max(bisect_left(self.times, end), first + 1)
        times = tuple(max(time - start, Fraction(0)) for time in self.times[first:last])
        times = (Fraction(0), *times[1:])
        keyframes = tuple(index - first for index in self.keyframes if first <= index < last)
        duration = max(min(end, self.duration) - start, times[-1])
        return first, Timeline(times, duration, keyframes or (0,))

    def frame_at(self, seconds: Fraction) -> int:
        """The presentation index of the frame on display at `seconds`.

        That is the last frame that came on at or before that moment, and the first frame if there is none.
        """
        return max(bisect_right(self.times, seconds) - 1, 0)
