"""An evaluation as one self-contained HTML file: table, intervals, histogram, best and worst captions.

No script, no font and no picture is fetched: the file can be mailed. Captions and ids are escaped by the template
engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evlgen.metrics.evaluation import Evaluation
from evlgen.metrics.paper_results import SOURCE, PublishedTable
from evlgen.system.files import write_text
from evlgen.system.pages import render_template

EXTREMES = 20
"""How many of the best and of the worst captions the page shows."""

_BINS = 30
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM = 760, 220, 44, 20, 34  # of the histogram, in SVG units


@dataclass(frozen=True)
class _Bar:
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class _Histogram:
    """Bars and axis labels in SVG coordinates."""

    bars: list[_Bar]
    x_labels: list[tuple[float, str]]
    y_labels: list[tuple[float, str]]
    median_x: float
    median: float


def write_page(
    evaluation: Evaluation, path: Path, *, title: str, source: str, published: Sequence[PublishedTable] = ()
) -> None:
    """Write the page; an existing file is replaced at once or not at all.

    Args:
        evaluation: what to show.
        path: the HTML file.
        title: heading, for instance the model's name.
        source: one line: what was scored against what.
        published: tables of the paper to show in a section of their own.

    Raises:
        EvlgenError: the file cannot be written.
    """
    text = render_page(evaluation, title=title, source=source, published=published)
    write_text(path, text, hint="choose another --html")


def render_page(evaluation: Evaluation, *, title: str, source: str, published: Sequence[PublishedTable] = ()) -> str:
    """Return the page as text.

    Args:
        evaluation: what to show.
        title: heading, for instance the model's name.
        source: one line: what was scored against what.
        published: tables of the paper to show in a section of their own.
    """
    by = sorting_score(evaluation)
    ranked = sorted(evaluation.items, key=lambda item: -item.values[by]) if by else []
    count = min(EXTREMES, len(ranked))
    return render_template(
        "evlgen.metrics",
        "evaluation_page.html.j2",
        evaluation=evaluation,
        title=title,
        source=source,
        by=by,
        best=ranked[:count],
        worst=ranked[len(ranked) - count :][::-1],
        histogram=_histogram([item.values[by] for item in ranked], by) if ranked else None,
        scale=max([100.0, *(score.interval[1] for score in evaluation.scores if score.interval)]),
        published=published,
        published_source=SOURCE,
        measured={score.name: score for score in evaluation.scores},
        size={"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "bottom": _BOTTOM},
    )


def sorting_score(evaluation: Evaluation) -> str:
    """The score by which captions are ranked: CIDEr, or the first one there is; "" if none."""
    names = [score.name for score in evaluation.scores if not score.skipped]
    return "CIDEr" if "CIDEr" in names else names[0] if names else ""


def _histogram(values: list[float], name: str) -> _Histogram:
    top = max(float(np.quantile(values, 0.995)), 1e-9)  # one outlier must not squeeze the rest
    counts, edges = np.histogram(np.minimum(values, top), bins=_BINS, range=(0.0, top))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - 8
    tallest = max(int(counts.max()), 1)
    step = width / _BINS
    bars = []
    for place, count in enumerate(counts):
        tall = height * int(count) / tallest
        last = " and above" if place == _BINS - 1 else f" to {edges[place + 1]:.0f}"
        label = f"{count} captions with {name} {edges[place]:.0f}{last}"
        bars.append(_Bar(_LEFT + place * step + 0.5, 8 + height - tall, step - 1, tall, label))
    median = float(np.median(values))
    return _Histogram(
        bars=bars,
        x_labels=[(_LEFT + width * part / 5, f"{top * part / 5:.0f}") for part in range(6)],
        y_labels=[(8 + height - height * part / 2, f"{tallest * part / 2:.0f}") for part in range(3)],
        median_x=_LEFT + width * min(median, top) / top,
        median=median,
    )
