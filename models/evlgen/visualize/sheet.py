"""PNG: frames on top, below them what merged in every layer, then what words and frames looked at.

Where frames share their groups, one mosaic stands for all, and beside it the contours on each frame; else each frame
has a mosaic of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evlgen.system.files import replacing
from evlgen.system.names import printable
from evlgen.visualize.mosaic import cell_colours, group_colours, patch_groups, prompt_colours
from evlgen.visualize.tiles import BACK, SOFT, below, beside, draw_tile, framed, line_height, shades, text_lines

if TYPE_CHECKING:
    from evlgen.visualize.run import Panel

LABEL_PIXELS = 76
LEAST_PIXELS = 420
"""Width of a model's half, for its words."""
MOST_ROWS = 7
_WIDE = 1100  # pixels of one model's frames in a row, at most
_TALLEST, _WIDEST, _NARROWEST = 200, 200, 60  # pixels of a frame


def write_sheet(panels: Sequence[Panel], out: Path, title: str) -> None:
    """Draw panels side by side into a PNG.

    Raises:
        EvlgenError: it cannot be written.
    """
    sheet = framed(beside([draw_panel(panel, title) for panel in panels], gap=32))
    with replacing(out) as aside:
        sheet.save(aside, format="PNG", optimize=True)


def tile_size(panel: Panel) -> tuple[int, int]:
    """Width and height of a frame in pixels, in the video's own shape."""
    frames, height, width = panel.pictures.shape[:3]
    most = max(_NARROWEST, min(_WIDEST, _WIDE // frames))
    scale = min(most / width, _TALLEST / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def rows_shown(layers: int) -> list[int]:
    """At most `MOST_ROWS` layers, evenly spread, with the first and the last."""
    count = min(layers + 1, MOST_ROWS)
    return sorted({round(place * layers / max(1, count - 1)) for place in range(count)})


def headline(panel: Panel, title: str, width: int) -> Image.Image:
    """What was captioned by which model, the caption, and how many tokens became how many."""
    trace = panel.trace
    facts = (
        f"{printable(title)} · {printable(trace.model)} · {trace.tokens[0]} tokens"
        f"{' a frame' if not trace.shared and trace.frames > 1 else ''} to {trace.soft_prompts} soft prompts, "
        f"fusion {trace.fusion}"
    )
    caption = printable(trace.caption) or "(no caption)"
    return below([text_lines(caption, width, 18), text_lines(facts, width, 13, SOFT)])


def draw_panel(panel: Panel, title: str) -> Image.Image:
    """All that a PNG shows of one model."""
    trace, size = panel.trace, tile_size(panel)
    pictures = [Image.fromarray(one).resize(size, Image.Resampling.LANCZOS) for one in panel.pictures]
    times = [f"{seconds:.2f} s" for seconds in panel.seconds]
    if trace.shared:
        pictures, times = [Image.new("RGB", size, BACK), *pictures], ["mosaic of all", *times]
    width = max(LABEL_PIXELS + len(pictures) * (size[0] + 4), LEAST_PIXELS)
    parts = [headline(panel, title, width)]
    parts.append(beside([_label(""), *(text_lines(time, size[0], 12, SOFT) for time in times)]))
    parts.append(beside([_label("frames"), *pictures]))
    for layer in rows_shown(len(trace.groups) - 1):
        name = f"layer {layer}" if layer else "patches"
        mosaics, frames = layer_tiles(panel, layer, size)
        tiles = [*mosaics[:1], *frames] if trace.shared else mosaics
        parts.append(beside([_label(name, f"{trace.tokens[layer]} tokens"), *tiles]))
    if trace.words:
        parts.append(text_lines("attention of words over soft prompts (column: soft prompt)", width, 13, SOFT))
        parts.append(words_table(panel, width))
    if trace.temporal:
        parts.append(text_lines("attention between frames (row: who listens), by temporal module", width, 13, SOFT))
        tables = [shades(one.weights, 48, 48) for one in trace.temporal]
        each = max(1, width // 52)
        parts += [beside(tables[start : start + each]) for start in range(0, len(tables), each)]
    return below(parts)


def layer_tiles(
    panel: Panel, layer: int, size: tuple[int, int], lit_FP: NDArray[np.float64] | None = None
) -> tuple[list[Image.Image], list[Image.Image]]:
    """The mosaic of each frame behind a layer, and the frames with the same contours.

    Args:
        panel: of the model.
        layer: 0 is before the first.
        size: of each image, in pixels.
        lit_FP: as of `draw_tile`.
    """
    trace = panel.trace
    groups = patch_groups(trace, layer)
    colours = group_colours(cell_colours(panel.pictures, trace.grid), groups)
    made: tuple[list[Image.Image], list[Image.Image]] = ([], [])
    for f in range(trace.frames):
        lit = None if lit_FP is None else lit_FP[f]
        for found, below_it in zip(made, (None, panel.pictures[f]), strict=True):
            found.append(draw_tile(below_it, colours[f], groups[f], trace.grid, size, lit))
    return made


def words_table(panel: Panel, width: int) -> Image.Image:
    """A row of shades for each word, under the soft prompts' mean colours."""
    trace = panel.trace
    across = width - LABEL_PIXELS - 8
    colours = prompt_colours(trace, cell_colours(panel.pictures, trace.grid))
    chips = Image.new("RGB", (len(colours), 1))
    chips.putdata([one or (200, 200, 200) for one in colours])
    names = [text_lines(printable(word.text)[:10], LABEL_PIXELS, 13) for word in trace.words]
    table = shades([word.attention for word in trace.words], across, line_height(13) * len(names))
    top = beside([_label(""), chips.resize((across, 12), Image.Resampling.NEAREST)])
    return below([top, beside([below(names, gap=0), table])])


def _label(*lines: str) -> Image.Image:
    return below([text_lines(line, LABEL_PIXELS, 13, SOFT) for line in lines], gap=0)
