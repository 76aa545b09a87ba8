"""`evlgen data ls` and `evlgen data check NAME`: published data sets, and what of one is on the disk."""

from typing import TYPE_CHECKING, Any

from evlgen_cli.console import err, out, print_json, table

if TYPE_CHECKING:
    from evlgen.data.datasets.description import PublishedSet, Split
    from evlgen.data.datasets.set_check import SetCheck, SplitCheck
    from evlgen.data.findings import Findings


def list_sets(as_json: bool) -> None:
    """Print the sets that are known, a line a split."""
    from evlgen.data.datasets.registry import SETS

    if as_json:
        print_json([_set_row(known) for known in SETS.values()])
        return
    rows = []
    for known in SETS.values():
        for number, split in enumerate(known.splits):
            first = [known.name, known.title, known.media] if number == 0 else ["", "", ""]
            size = f"{split.items} {'questions' if known.task == 'questions' else known.media}"
            rows.append([*first, split.name, size, _about(split), known.terms if number == 0 else ""])
    table(["name", "data set", "of", "split", "size", "about", "terms"], rows)


def _about(split: "Split") -> str:
    captions = "" if split.captions is None else f"{split.captions} captions"
    return ", ".join(text for text in (captions, split.note) if text)


def _set_row(known: "PublishedSet") -> dict[str, Any]:
    from dataclasses import asdict

    row = asdict(known)
    for split, one in zip(row["splits"], known.splits, strict=True):
        for layout, kept in zip(split["layouts"], one.layouts, strict=True):
            layout["media"] = [str(place) for place in kept.media]
    return row


def show_set_check(done: "SetCheck", as_json: bool) -> None:
    """Print what a check of a data set found."""
    if as_json:
        print_json(done.row())
        return
    out.print(f"{done.known.title} in {done.root}")
    questions = done.known.task == "questions"
    texts = "answers" if questions else "captions"
    columns = ["split", "file", "questions" if questions else "items", texts, "media", "found", "broken", "verdict"]
    table(columns, [_cells(one) for one in done.splits])
    for one in done.splits:
        show_findings(one.split, one)
    for note in [*(f"{one.split}: {text}" for one in done.splits for text in one.notes), *done.notes]:
        err.print(f"note: {note}")


def show_findings(name: str, findings: "Findings") -> None:
    """Print what is wrong with a source of a recipe or a split of a data set, a line each."""
    for line in findings.lines():
        err.print(f"{name}: {line}")


def broken_cell(findings: "Findings") -> str:
    """How many items are broken, by kind, for a table."""
    return ", ".join(f"{count} {kind}" for kind, count in findings.counts().items()) or "0"


def _cells(one: "SplitCheck") -> list[str]:
    verdict = "fine" if one.is_fine else "missing" if not one.file else "look below"
    found = f"{one.found} of {one.files}" if one.media else "-"
    counts = [str(one.items), str(one.texts)]
    return [one.split, one.file or "-", *counts, one.media or "-", found, broken_cell(one), verdict]
