"""The curves of a run, or of several on top of each other, from their logs: losses, gap, scores, learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.files import os_errors, replacing
from evlgen.training.run_log import RunLog

PANELS = (
    ("loss", "nats per token"), ("vocabulary_loss", "vocabulary loss"), ("generation_loss", "nats per word piece"),
    ("reward", "reward of samples"),
    ("validation loss", "nats per token"), ("validation gap", "nats per token"), ("validation cider", "CIDEr"),
    ("validation bleu-4", "BLEU-4"), ("lr", "learning rate"),
)  # fmt: skip
"""What has a panel where a run has it, and what its axis is called."""

Curve = tuple[list[int], list[float]]


def curves(folder: Path) -> dict[str, Curve]:
    """Steps and values of every panel that the log of a run has something for; means over validation sources.

    Raises:
        UsageError: the folder has no log with a step or a validation in it.
    """
    found: dict[str, Curve] = {}

    def add(name: str, step: int, value: Any) -> None:
        steps, values = found.setdefault(name, ([], []))
        steps.append(step)
        values.append(float(value))

    for row in RunLog(folder).records():
        if isinstance(row.get("validation"), dict) and row["validation"]:
            figures = list(row["validation"].values())
            for name in ("loss", "gap", "cider", "bleu-4"):
                if all(name in one for one in figures):
                    add(f"validation {name}", row["step"], fmean(one[name] for one in figures))
        for name in ("loss", "vocabulary_loss", "generation_loss", "reward", "lr"):
            if name in row:
                add(name, row["step"] + 1, row[name])
    if not found:
        raise UsageError(
            f"{folder} has no log of a run", "name the folder of a training run, such as runs/mini-pretrain"
        )
    return found


def plot_runs(folders: Sequence[Path], out: Path) -> None:
    """Draw the curves of runs into a picture; its suffix says in which format (.png, .svg, .pdf).

    Raises:
        UsageError: a folder has no log, or the format is unknown.
        EvlgenError: matplotlib is not installed, or the picture cannot be written.
    """
    drawn = {folder: curves(folder) for folder in folders}
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EvlgenError("drawing needs matplotlib, which is not installed", "pip install 'evlgen[plot]'") from None
    panels = [(name, axis) for name, axis in PANELS if any(name in one for one in drawn.values())]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 2.6 * lines), layout="constrained")
    for number, (name, axis) in enumerate(panels, start=1):
        panel = figure.add_subplot(lines, columns, number)
        for folder, one in drawn.items():
            if name in one:
                panel.plot(*one[name], label=str(folder), marker="o" if len(one[name][0]) < 30 else None, markersize=3)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("optimizer steps", fontsize=8)
        panel.set_ylabel(axis, fontsize=8)
        panel.grid(alpha=0.3)
        if number == 1 and len(drawn) > 1:
            panel.legend(fontsize=7)
    formats = sorted(figure.canvas.get_supported_filetypes())
    kind = out.suffix.removeprefix(".").lower()
    if kind not in formats:
        raise UsageError(f"{out} is no picture that can be drawn", f"end its name in one of: {', '.join(formats)}")
    with os_errors(out), replacing(out) as aside:
        figure.savefig(aside, format=kind, dpi=120)
