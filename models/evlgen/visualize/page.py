"""HTML: one file that opens from disk, asks the network for nothing, and draws itself with page.js.

Captions and names reach it as JSON without any "<" and are shown as text, never as markup; its policy lets no other
script run.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from evlgen.system.files import write_text
from evlgen.system.names import printable
from evlgen.system.pages import PALETTE, as_script_data, page_part, policy_hash, render_template
from evlgen.visualize.mosaic import cell_colours, prompt_colours

if TYPE_CHECKING:
    from evlgen.visualize.run import Panel

_PACKAGE = "evlgen.visualize"
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
    script = Markup(page_part(_PACKAGE, "page.js"))
    style = PALETTE + "\n" + Markup(page_part(_PACKAGE, "page.css"))
    return render_template(
        _PACKAGE,
        "page.html.j2",
        title=printable(title),
        layers=max(len(panel.trace.groups) for panel in panels) - 1,
        script=script,
        style=style,
        script_hash=policy_hash(script),
        style_hash=policy_hash(style),
        data=Markup(as_script_data({"panels": values, "images": images})),
    )


def _panel(panel: Panel, images: dict[str, str]) -> dict[str, Any]:
    """What page.js shows of a model; frames are added to `images`, those that both models saw once."""
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
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=_QUALITY)
    key = hashlib.sha256(content.getvalue()).hexdigest()[:12]
    images[key] = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    return key
