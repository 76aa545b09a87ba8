"""A report of `evlgen bench` as one HTML file that opens from disk: curves, tables, and what has changed.

It has no script and fetches nothing. Names are escaped by the template engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.bench.curve_plot import AXES, panels_of, series_of
from evlgen.bench.report_rows import WAYS, Change, Row, remarks, rows_of, told_change
from evlgen.system.files import write_text
from evlgen.system.names import printable
from evlgen.system.pages import render_template

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 380, 270, 52, 14, 10, 40  # of a panel, in SVG units
_STEPS = 4  # of an axis, or as many as make its numbers round
_COLOURS = 8
_LONGEST_LABEL = 7


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    low: float
    high: float
    trained: bool
    title: str
    label: str


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
        rows=[(row, WAYS.get(row.way, row.way), told_change(row)) for row in rows],
        remarks=list(remarks(rows)),
        panels=[_panel(rows, x, y) for x, y in panels_of(rows)],
        colour={name: place % _COLOURS for place, name in enumerate(sorted(names))},
        changed=[one for one in changes if not one.within_noise],
        unchanged=[one for one in changes if one.within_noise],
        old=printable(old),
        told_seconds=told_seconds,
        size={"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "top": _TOP, "bottom": _BOTTOM},
    )


def told_seconds(seconds: float) -> str:
    """A time in the unit that reads best.

    >>> told_seconds(12.3), told_seconds(0.0801), told_seconds(0.00052)
    ('12.30 s', '80.1 ms', '0.52 ms')
    """
    if seconds >= 1:
        return f"{seconds:,.2f} s"
    return f"{1000 * seconds:.{1 if seconds >= 0.01 else 2}f} ms"


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose a range, from 0 where that does not press what is drawn into less than half.

    >>> round_ticks(30, 81), round_ticks(41.2, 48.1)
    ([0.0, 25.0, 50.0, 75.0, 100.0], [40.0, 42.0, 44.0, 46.0, 48.0, 50.0])
    """
    if not high / 2 < low < high:
        low, high = min(low, 0.0), high if high > low else low + 1.0
    least = (high - low) / _STEPS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least)
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _panel(rows: list[Row], x: str, y: str) -> _Panel:
    series = series_of(rows, x, y)
    drawn = [row for own in series.values() for row in own]
    across, up = ([AXES[axis](row) or 0.0 for row in drawn] for axis in (x, y))
    bounds = [bound for row in drawn for bound in row.interval or ()] if y == "CIDEr" else []
    x_ticks, y_ticks = round_ticks(min(across), max(across)), round_ticks(min(*up, *bounds), max(*up, *bounds))

    def at(value: float, ticks: list[float], start: float, length: float) -> float:
        return round(start + length * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    def place(value: float) -> float:
        return at(value, x_ticks, _LEFT, _WIDTH - _LEFT - _RIGHT)

    def height(value: float) -> float:
        return at(value, y_ticks, _HEIGHT - _BOTTOM, -(_HEIGHT - _BOTTOM - _TOP))

    def point(row: Row) -> _Point:
        value = AXES[y](row) or 0.0
        low, high = row.interval if y == "CIDEr" and row.interval is not None else (value, value)
        title = f"{row.name}: {y} {value:.4g} at {AXES[x](row) or 0.0:.4g} {x}"
        label = row.r if row.way == "merge" and len(row.r) <= _LONGEST_LABEL else ""
        return _Point(place(AXES[x](row) or 0.0), height(value), height(low), height(high), row.trained, title, label)

    return _Panel(
        x,
        y,
        {name: [point(row) for row in own] for name, own in series.items()},
        [(place(value), f"{value:.6g}") for value in x_ticks],
        [(height(value), f"{value:.6g}") for value in y_ticks],
    )
