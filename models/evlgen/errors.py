"""The errors that a user can cause or meet. Each is one clear line: what happened, and a hint what to try next.

Anything else that escapes is a bug in evlgen.
"""

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r" (object )?at 0x[0-9a-fA-F]+")
_MOST_LETTERS = 300


class EvlgenError(Exception):
    """A failure that the user should read as one line.

    Args:
        what: what happened: which file or value, and what was expected.
        hint: what to try next; may be empty.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what

    def plain(self) -> "EvlgenError":
        """The same as a UsageError or an EvlgenError, which can go from process to process."""
        return (UsageError if isinstance(self, UsageError) else EvlgenError)(self.what, self.hint)


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class UsageError(EvlgenError):
    """What was asked for cannot be done as it was spelled: a wrong argument, recipe key or value (exit code 2)."""


class WeightsError(EvlgenError):
    """A weight file is missing, unreachable, or not the one that was pinned."""


class RenamedWarning(FutureWarning):
    """A name still works and will not for ever; the text says what it is called now."""


class VideoError(EvlgenError):
    """One video cannot be decoded. `kind` is a short stable word for journals and tests.

    Args:
        kind: one of "missing", "empty-file", "no-video-stream", "no-frames", "decode-error", "too-large", "timeout",
            "crashed", "not-fetched".
        what: what happened, in one line.
        hint: what to try next; may be empty.
    """

    def __init__(self, kind: str, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.kind = kind


@dataclass(frozen=True)
class Failure:
    """Why one file, clip or item of a data set has no result, where the work goes on without it.

    Attributes:
        kind: a short stable word: that of a `VideoError`; of data also "unreadable", "cut", "no-captions" or
            "no-picture"; of models "out-of-memory", "model-error", "not-finite" (the arithmetic broke down), or what
            a server answers.
        message: one line for people, without the name.
        name: of the item or file, as whoever lists it spells it; "" where it stands beside the failure.
    """

    kind: str
    message: str
    name: str = ""

    @classmethod
    def of(cls, kind: str, text: str) -> "Failure":
        """A failure with one line that means the same in every run: without the addresses of objects."""
        line = " ".join(_ADDRESS.sub("", text).split())
        return cls(kind, line[:_MOST_LETTERS] or kind)

    def listed(self) -> dict[str, str]:
        """Plain values, as lists of items that cannot be used have them."""
        return {"name": self.name, "kind": self.kind, "reason": self.message}
