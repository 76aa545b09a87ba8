"""HTML: one file that opens from disk, asks the network for nothing, and draws itself with merging_page.js."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evlgen.system.files import write_text
from evlgen.system.names import printable
from evlgen.system.pages import render_drawn
from evlgen.video.picture import as_jpeg, jpeg_url
from evlgen.visualize.mosaic import cell_colours, prompt_colours

if TYPE_CHECKING:
    from evlgen.visualize.run import Panel

_QUALITY = 80


def write_page(panels: Sequence[Panel], out: Path, title: str) -> None:
    """Write panels side by side as a page.

    Raises:
        EvlgenError: it cannot be written.
    """
    write_text(out, render_page(panels, title))


def render_page(panels: Sequence[Panel], title: str) -> str:
    """The page as text; `title` is its heading."""
    images: dict[str, str] = {}
    values = [_panel(panel, images) for panel in panels]
    layers = max(len(panel.trace.groups) for panel in panels) - 1
    data = {"panels": values, "images": images}
    return render_drawn("evlgen.visualize", "merging_page", data, title=printable(title), layers=layers)


def _panel(panel: Panel, images: dict[str, str]) -> dict[str, Any]:
    """What merging_page.js shows of a model; frames are added to `images`, those that both models saw once."""
    trace = panel.trace
    values = trace.as_dict()
    cells = cell_colours(panel.pictures, trace.grid)
    values |= {
        "model": printable(trace.model),
        "words": [{**word, "text": printable(word["text"])} for word in values["words"]],
        "images": [_image(one, images) for one in panel.pictures],
        "times": list(panel.seconds),
        "cells": [[round(value) for value in one.ravel()] for one in cells],
        "chip_colours": prompt_colours(trace, cells),
        "warnings": [printable(text) for text in panel.warnings],
    }
    return values


def _image(picture: np.ndarray[Any, np.dtype[np.uint8]], images: dict[str, str]) -> str:
    content = as_jpeg(picture, _QUALITY)
    key = hashlib.sha256(content).hexdigest()[:12]
    images[key] = jpeg_url(content)
    return key
