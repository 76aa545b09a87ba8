"""The errors that a user can cause or meet. Each is one clear line: what happened, and a hint what to try next.

Anything else that escapes is a bug in evlgen.
"""

from dataclasses import dataclass


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
class FileFailure:
    """Why one file, or one item of a data set, cannot be used, where the work goes on without it.

    Attributes:
        name: of the item or file, as whoever lists it spells it.
        kind: a short stable word: that of a `VideoError`, or "unreadable", "cut", "no-captions", "no-picture".
        reason: in one line, without the name.
    """

    name: str
    kind: str
    reason: str
