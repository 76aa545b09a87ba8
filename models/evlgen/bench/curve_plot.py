"""The curve of a report: quality, or where none was measured time, against tokens, FLOPs and time, as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evlgen.bench.report_rows import WAYS, Row, rows_of
from evlgen.errors import UsageError
from evlgen.system.figures import new_figure, save_figure

Value = Callable[[Row], float | None]
AXES: dict[str, Value] = {
    "soft prompts of an item": lambda row: row.tokens,
    "GFLOPs of a caption": lambda row: row.flops / 1e9,
    "ms of a caption": lambda row: None if row.seconds is None else 1000 * row.seconds,
    "CIDEr": lambda row: row.cider,
}
"""What can be an axis, with its unit."""


def panels_of(rows: list[Row]) -> list[tuple[str, str]]:
    """What is drawn over what: CIDEr over each cost that is known; without scores costs over tokens."""
    names = list(AXES)
    known = [name for name in names if any(AXES[name](row) is not None for row in rows)]
    if "CIDEr" in known:
        return [(name, "CIDEr") for name in known if name != "CIDEr"]
    return [(names[0], name) for name in known[1:]]


def series_of(rows: list[Row], x: str, y: str) -> dict[str, list[Row]]:
    """Rows that have both values, by model and way, from few to many."""
    several = len({row.model for row in rows}) > 1
    found: dict[str, list[Row]] = {}
    for row in rows:
        if AXES[x](row) is not None and AXES[y](row) is not None:
            title = WAYS.get(row.way, row.way)
            found.setdefault(f"{title} ({row.model})" if several else title, []).append(row)
    return {name: sorted(own, key=lambda row: AXES[x](row) or 0.0) for name, own in found.items()}


def plot_report(report: dict[str, Any], out: Path) -> None:
    """Draw a report; the suffix of `out` says in which format (.png, .svg, .pdf).

    Raises:
        UsageError: nothing in it can be drawn, or the format is unknown.
        EvlgenError: matplotlib is not installed, or the picture cannot be written.
    """
    rows = rows_of(report)
    panels = panels_of(rows)
    if not panels:
        raise UsageError("nothing was measured that a curve could be drawn of")
    figure = new_figure(5 * len(panels), 4)
    for number, (x, y) in enumerate(panels, start=1):
        panel = figure.add_subplot(1, len(panels), number)
        for name, own in series_of(rows, x, y).items():
            across, up = ([AXES[axis](row) for row in own] for axis in (x, y))
            (line,) = panel.plot(across, up, marker="o", markersize=4, label=name)
            for row, place, value in zip(own, across, up, strict=True):
                if y == "CIDEr" and row.interval is not None:
                    panel.plot([place, place], row.interval, color=line.get_color(), linewidth=1, alpha=0.5)
                if row.trained:
                    panel.plot([place], [value], marker="*", markersize=13, color=line.get_color())
        panel.set_xlabel(x, fontsize=9)
        panel.set_ylabel(y, fontsize=9)
        panel.grid(alpha=0.3)
        if number == 1:
            panel.legend(fontsize=7)
    save_figure(figure, out)
