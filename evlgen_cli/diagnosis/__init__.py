"""What `evlgen doctor` looks at: one function a fact, each returns a Check and never raises."""

from collections.abc import Callable

from evlgen_cli.diagnosis.check import Check
from evlgen_cli.diagnosis.files import cache, parts
from evlgen_cli.diagnosis.machine import arithmetic, cores, devices, memory, python
from evlgen_cli.diagnosis.software import decord, ffmpeg_binary, ffmpeg_package, java, packages, pyav, torch

__all__ = ["CHECKS", "Check"]

CHECKS: tuple[Callable[[], Check], ...] = (
    python,
    torch,
    devices,
    arithmetic,
    cores,
    memory,
    packages,
    pyav,
    decord,
    ffmpeg_binary,
    ffmpeg_package,
    java,
    cache,
    parts,
)
