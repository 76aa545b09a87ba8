"""A table of models as cells of text, and as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evlgen.evaluating.model_table import SHOWN, ModelTable, TableRow
from evlgen.metrics.evaluation import Evaluation
from evlgen.metrics.paper_results import SOURCE, PublishedTable
from evlgen.system.files import write_text
from evlgen.system.pages import render_template

NONE = "-"
_COSTS = ("soft tokens", "parameters", "of the LLM", "trained", "s / clip", "peak memory")


def columns(made: ModelTable) -> list[str]:
    """Heads of the columns of `line`."""
    return ["model", "clips", *_scores(made), *_COSTS, *(_changes(made))]


def line(row: TableRow, made: ModelTable, human_bytes: Callable[[float], str]) -> list[str]:
    """The cells of a row; one without scores says so.

    Args:
        row: of the table.
        made: the table.
        human_bytes: how numbers of bytes are written.
    """
    facts, evaluation = row.facts, row.evaluation
    costs = [
        NONE if facts.visual_tokens is None else str(facts.visual_tokens),
        _count(facts.parameters),
        _count(facts.language_parameters),
        _count(facts.trained_parameters),
        NONE if row.seconds_per_clip is None else f"{row.seconds_per_clip:.3g}",
        NONE if facts.peak_memory_bytes is None else human_bytes(facts.peak_memory_bytes),
    ]
    if evaluation is None:
        return [row.model, "failed", *(NONE for _ in _scores(made)), *costs, *(NONE for _ in _changes(made))]
    scores = [_score(evaluation, name) for name in _scores(made)]
    changes = [_change(row, name.removesuffix(" change")) for name in _changes(made)]
    return [row.model, str(len(evaluation.items)), *scores, *costs, *changes]


def _scores(made: ModelTable) -> list[str]:
    first = made.baseline
    if first is None or first.evaluation is None:
        return []
    asked = [one.name for one in first.evaluation.scores]
    return [name for name in SHOWN if name in asked]


def _changes(made: ModelTable) -> list[str]:
    """The change of the score that papers rank by, where there is one."""
    compared = any(row.difference is not None for row in made.rows)
    return [f"{name} change" for name in _scores(made)[:1]] if compared else []


def _score(evaluation: Evaluation, name: str) -> str:
    found = next((one for one in evaluation.scores if one.name == name), None)
    if found is None or found.value is None:
        return "skipped"
    low_high = "" if found.interval is None else f" ({found.interval[0]:.2f} to {found.interval[1]:.2f})"
    return f"{found.value:.2f}{low_high}"


def _change(row: TableRow, name: str) -> str:
    found = None if row.difference is None else next((d for d in row.difference.scores if d.name == name), None)
    if found is None or found.change is None or found.interval is None:
        return NONE
    return f"{found.change:+.2f} ({found.interval[0]:+.2f} to {found.interval[1]:+.2f})"


def _count(number: int | None) -> str:
    if number is None:
        return NONE
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def write_table(
    made: ModelTable,
    path: Path,
    *,
    published: Sequence[PublishedTable] = (),
    left_out: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page; an existing file is replaced at once or not at all.

    Args:
        made: what to show.
        path: the HTML file.
        published: tables of the paper to show in a section of their own.
        left_out: models that were not run, and why.

    Raises:
        EvlgenError: the file cannot be written.
    """
    first = made.baseline
    text = render_template(
        "evlgen.evaluating",
        "table_page.html.j2",
        title=made.data.name,
        references=str(made.data.captions),
        columns=columns(made),
        rows=[(row, line(row, made, lambda count: f"{count / 1e9:.2f} GB")) for row in made.rows],
        bootstrap=None if first is None or first.evaluation is None else first.evaluation.bootstrap,
        baseline=None if first is None else first.model,
        differences=[(row.model, row.difference) for row in made.rows if row.difference is not None],
        caution=made.caution,
        published=published,
        published_source=SOURCE,
        left_out=left_out,
    )
    write_text(path, text, hint="choose another --html")
