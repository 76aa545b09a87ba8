"""Exit codes of every evlgen command."""

from enum import IntEnum


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    """The run went through, but some videos could not be captioned; the output names each with its reason."""
    INTERRUPTED = 130
