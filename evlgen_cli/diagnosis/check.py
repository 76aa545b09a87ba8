"""The result of looking at one thing."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One fact about this machine.

    Attributes:
        name: what was looked at.
        status: "ok"; "note": evlgen works, but something optional is missing; "broken": something needed is.
        found: what was found, in one line.
        hint: what to do about it; may be empty.
    """

    name: str
    status: Literal["ok", "note", "broken"]
    found: str
    hint: str = ""
