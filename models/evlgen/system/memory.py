"""How much memory there is, and how much processes take now, as Linux tells it; elsewhere others would have to."""

import os
import sys
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def usable_bytes(container_limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """The machine's memory, or the container's share of it; None where that is not known."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    with suppress(OSError, ValueError):  # no such limit
        total = min(total, int(container_limit.read_text()))
    return total


def resident_bytes(process: int | None = None) -> int | None:
    """Memory of a process, by default of this one; None where that is not known."""
    if sys.platform != "linux":
        return None
    try:
        pages = (_PROCESSES / ("self" if process is None else str(process)) / "statm").read_text().split()[1]
    except (OSError, IndexError):  # it has ended
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int | None:
    """The most memory that this process has had so far; None where that is not known.

    What `getrusage` tells is not it: that number outlives the call that starts a program, so that a child begins with
    the peak of its parent.
    """
    try:
        lines = (_PROCESSES / "self" / "status").read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("VmHWM:")), None)
    return None if found is None else int(found.split()[1]) * 1024


def family_resident_bytes() -> int | None:
    """Memory of this process and of all that it has started; what they share is counted for each."""
    if sys.platform != "linux":
        return None
    parents: dict[int, int] = {}
    for folder in _PROCESSES.iterdir():
        if folder.name.isdecimal():
            try:  # the name, in brackets, may hold anything
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, UnicodeDecodeError):
                continue
    family = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(resident_bytes(one) or 0 for one in family)
