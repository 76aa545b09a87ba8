"""A report of `evlgen bench` as one HTML file that opens from disk: curves, tables, and what has changed.

It has no script and fetches nothing. Names are escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.bench.plot import AXES, panels_of, series_of
from evlgen.bench.report_rows import Change, Row, remarks, rows_of, told_change
from evlgen.system.files import write_text
from evlgen.system.names import printable
from evlgen.system.pages import render_template

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 380, 270, 52, 14, 10, 40  # of a panel, in SVG units
_TICKS = 4
_COLOURS = 8


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    low: float
    high: float
    trained: bool
    title: str


@dataclass(frozen=True)
class _Panel:
    """A curve in SVG coordinates: series by name, and ticks with their labels."""

    x_title: str
    y_title: str
    series: dict[str, list[_Point]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def write_page(report: dict[str, Any], out: Path, *, changes: Sequence[Change] = (), old: str = "") -> None:
    """Write the page; an existing file is replaced at once or not at all.

    Args:
        report: see `rows_of`.
        out: the HTML file.
        changes: from an older report, to show beside it.
        old: what that is called.

    Raises:
        EvlgenError: the file cannot be written.
    """
    write_text(out, render_page(report, changes=changes, old=old), hint="choose another --html")


def render_page(report: dict[str, Any], *, changes: Sequence[Change] = (), old: str = "") -> str:
    """The page as text; see `write_page`."""
    rows = rows_of(report)
    names = {name for x, y in panels_of(rows) for name in series_of(rows, x, y)}
    return render_template(
        "evlgen.bench",
        "page.html.j2",
        title=", ".join(printable(one["name"]) for one in report["models"]),
        report=report,
        rows=[(row, told_change(row)) for row in rows],
        remarks=list(remarks(rows)),
        panels=[_panel(rows, x, y) for x, y in panels_of(rows)],
        colour={name: place % _COLOURS for place, name in enumerate(sorted(names))},
        changes=changes,
        old=printable(old),
        size={"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM},
    )


def _panel(rows: list[Row], x: str, y: str) -> _Panel:
    series = series_of(rows, x, y)
    drawn = [row for own in series.values() for row in own]
    across, up = ([AXES[axis](row) or 0.0 for row in drawn] for axis in (x, y))
    bounds = [bound for row in drawn for bound in row.interval or ()] if y == "CIDEr" else []
    x_range, y_range = (min(0.0, *across), max(across) or 1.0), (min(0.0, *up, *bounds), max(*up, *bounds, 1e-9))

    def at(value: float, axis: tuple[float, float], start: float, length: float) -> float:
        return start + length * (value - axis[0]) / ((axis[1] - axis[0]) * 1.04 or 1.0)

    def place(value: float) -> float:
        return round(at(value, x_range, _LEFT, _WIDTH - _LEFT - _RIGHT), 1)

    def height(value: float) -> float:
        return round(at(value, y_range, _HEIGHT - _BOTTOM, -(_HEIGHT - _BOTTOM - _TOP)), 1)

    def point(row: Row) -> _Point:
        value = AXES[y](row) or 0.0
        low, high = row.interval if y == "CIDEr" and row.interval is not None else (value, value)
        title = f"{row.name}: {y} {value:.4g} at {AXES[x](row) or 0.0:.4g} {x}"
        return _Point(place(AXES[x](row) or 0.0), height(value), height(low), height(high), row.trained, title)

    def ticks(axis: tuple[float, float]) -> list[float]:
        return [axis[0] + (axis[1] - axis[0]) * step / _TICKS for step in range(_TICKS + 1)]

    return _Panel(
        x,
        y,
        {name: [point(row) for row in own] for name, own in series.items()},
        [(place(value), f"{value:.3g}") for value in ticks(x_range)],
        [(height(value), f"{value:.3g}") for value in ticks(y_range)],
    )
