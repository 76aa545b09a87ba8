"""How fast a run goes and how long it will take, from when how much was done; without a clock of its own, for tests.

The rate is that of the whole run, its slow start included. The time left is told only when it means something: not from
the first results, which come late (the model warms up) or all at once (a batch), but from what followed them.
"""

from evlgen_cli.human_numbers import human_bytes, human_seconds

ENOUGH_ARRIVALS = 3
ENOUGH_SECONDS = 5.0
"""So many times and so long after the first results more must have come before the time left is told."""


class Pace:
    """What was done when; times are in seconds of any one clock.

    Args:
        started: when the run began.
    """

    def __init__(self, started: float) -> None:
        self.done = 0
        self._started = started
        self._first: tuple[float, int] | None = None
        self._arrivals = 0

    def record(self, done: int, now: float) -> None:
        """Take note that `done` are done in all."""
        if done > self.done:
            self._arrivals += 1
            self._first = self._first or (now, done)
        self.done = done

    def rate(self, now: float) -> float | None:
        """Done per second since the start; None before anything is done."""
        return self.done / max(now - self._started, 1e-9) if self.done else None

    def left_seconds(self, total: int | None, now: float) -> float | None:
        """The time that the rest will take at the pace since the first results; None while that means nothing."""
        if total is None or self._first is None or self._arrivals <= ENOUGH_ARRIVALS:
            return None
        since, first = self._first
        if now - since < ENOUGH_SECONDS or self.done >= total:
            return None
        return (total - self.done) * (now - since) / (self.done - first)

    def describe(self, total: int | None, now: float, *, unit: str, in_bytes: bool = False) -> str:
        """Return the rate and the time left in words, or the time that it took; empty before there is any.

        Args:
            total: of what is counted; None where nobody knows.
            now: seconds of the clock that `record` was given.
            unit: what is counted.
            in_bytes: the rate is one of bytes.
        """
        words = []
        if (rate := self.rate(now)) is not None:
            words.append(f"{human_bytes(rate)}/s" if in_bytes else f"{_short(rate)} {unit}/s")
        if total is not None and self.done >= total:
            words.append(human_seconds(now - self._started))
        elif (left := self.left_seconds(total, now)) is not None:
            words.append(f"about {human_seconds(left)} left")
        return ", ".join(words)


def _short(rate: float) -> str:
    """Two digits that count: 0.13, 2.1, 210."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
