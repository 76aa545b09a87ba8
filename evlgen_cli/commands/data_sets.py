"""`evlgen data ls` and `evlgen data check NAME`: published data sets, and what of one is on the disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlgen_cli.console import err, out, print_json, table

if TYPE_CHECKING:
    from evlgen.data.datasets.checking import SetCheck, SplitCheck
    from evlgen.data.datasets.description import PublishedSet, Split

_SHOWN = 3


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


def show_check(done: "SetCheck", as_json: bool) -> None:
    """Print what a check found."""
    if as_json:
        print_json(_check_row(done))
        return
    out.print(f"{done.known.title} in {done.root}")
    questions = done.known.task == "questions"
    texts = "answers" if questions else "captions"
    columns = ["split", "file", "questions" if questions else "items", texts, "media", "found", "broken", "verdict"]
    table(columns, [_cells(one) for one in done.splits])
    for one in done.splits:
        for line in _findings(one):
            err.print(f"{one.split}: {line}")
    for note in [*(f"{one.split}: {text}" for one in done.splits for text in one.notes), *done.notes]:
        err.print(f"note: {note}")


def _cells(one: "SplitCheck") -> list[str]:
    broken = ", ".join(f"{count} {kind}" for kind, count in one.counts().items()) or "0"
    verdict = "fine" if one.is_fine else "missing" if not one.file else "look below"
    found = f"{one.found} of {one.files}" if one.media else "-"
    return [one.split, one.file or "-", str(one.items), str(one.texts), one.media or "-", found, broken, verdict]


def _findings(one: "SplitCheck") -> list[str]:
    lines = [*one.missing, *([one.error] if one.error else [])]
    lines += [f"{b.name}: {b.reason}" for b in one.broken[:_SHOWN]]
    if len(one.broken) > _SHOWN:
        lines.append(f"and {len(one.broken) - _SHOWN} more (--json lists them)")
    if one.repeated:
        more = ", ..." if len(one.repeated) > _SHOWN else ""
        lines.append(f"{len(one.repeated)} items have their captions twice: {', '.join(one.repeated[:_SHOWN])}{more}")
    return lines


def _check_row(done: "SetCheck") -> dict[str, Any]:
    from dataclasses import asdict

    splits = [{**asdict(one), "counts": one.counts(), "is_fine": one.is_fine} for one in done.splits]
    head = {"name": done.known.name, "title": done.known.title, "root": str(Path(done.root))}
    return {**head, "is_fine": done.is_fine, "splits": splits, "notes": done.notes}
