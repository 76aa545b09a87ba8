"""Pictures of curves with matplotlib, which is an extra (evlgen[plot])."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.files import os_errors, replacing


def new_figure(width_inches: float, height_inches: float) -> Any:
    """An empty figure of matplotlib.

    Raises:
        EvlgenError: it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EvlgenError("drawing needs matplotlib, which is not installed", "pip install 'evlgen[plot]'") from None
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def picture_format(out: Path) -> str:
    """The format that a file's suffix names, such as png, svg or pdf.

    Raises:
        UsageError: it is unknown.
        EvlgenError: matplotlib is not installed.
    """
    formats = sorted(new_figure(1, 1).canvas.get_supported_filetypes())
    kind = out.suffix.removeprefix(".").lower()
    if kind not in formats:
        raise UsageError(f"{out} is no picture that can be drawn", f"end its name in one of: {', '.join(formats)}")
    return kind


def save_figure(figure: Any, out: Path) -> None:
    """Write a figure in the format that the suffix names.

    Raises:
        UsageError: the format is unknown.
        EvlgenError: it cannot be written.
    """
    kind = picture_format(out)
    with os_errors(out), replacing(out) as aside:
        figure.savefig(aside, format=kind, dpi=120)
