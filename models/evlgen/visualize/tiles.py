"""Frames, mosaics and tables of shades as Pillow images, and putting them beside and below each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evlgen.visualize.mosaic import contours

INK, SOFT, BACK, ACCENT = (28, 35, 48), (93, 103, 120), (255, 255, 255), (37, 99, 168)


def draw_tile(
    picture: NDArray[np.uint8] | None,
    colours_PC: NDArray[np.float64],
    groups_P: NDArray[np.int64],
    grid: tuple[int, int],
    size: tuple[int, int],
    lit_P: NDArray[np.float64] | None = None,
) -> Image.Image:
    """A frame, or its mosaic, with the contours of its groups or with light on some.

    Args:
        picture: what lies below the contours; None: the mosaic.
        colours_PC: of the mosaic.
        groups_P: which patches belong together.
        grid: rows and columns of patches.
        size: width and height in pixels.
        lit_P: 1 leaves a patch as it is, 0 makes it dark, and contours would hide that; None: all as they are.
    """
    rows, columns = grid
    if picture is None:
        cells = Image.fromarray(colours_PC.round().astype(np.uint8).reshape(rows, columns, 3))
        tile = cells.resize(size, Image.Resampling.NEAREST)
    else:
        tile = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    if lit_P is not None:
        shade = Image.fromarray((255 * (0.2 + 0.8 * lit_P)).astype(np.uint8).reshape(rows, columns))
        return Image.composite(tile, Image.new("RGB", size), shade.resize(size, Image.Resampling.NEAREST))
    draw = ImageDraw.Draw(tile, "RGBA")
    across, down = size[0] / columns, size[1] / rows
    edges = [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in contours(groups_P, grid)]
    if picture is not None:  # white lines would be lost on snow
        for edge in edges:
            draw.line(edge, fill=(*INK, 90), width=3)
    for edge in edges:
        draw.line(edge, fill=BACK, width=1)
    return tile


def shades(values: Sequence[Sequence[float]], width: int, height: int) -> Image.Image:
    """A table of shades: white for 0, full colour for the largest value of the table."""
    table = np.asarray(values, np.float64)
    part = (table / max(float(table.max()), 1e-12))[..., None]
    colours = np.asarray(BACK) * (1 - part) + np.asarray(ACCENT) * part
    return Image.fromarray(colours.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def text_lines(text: str, width: int, size: int = 14, colour: tuple[int, int, int] = INK) -> Image.Image:
    """Text broken at blanks into lines that fit.

    Args:
        text: in one line.
        width: of the image, in pixels.
        size: of the letters, in pixels.
        colour: of the letters.
    """
    font = ImageFont.load_default(size)
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    lines.append(line)
    height = line_height(size)
    sheet = Image.new("RGB", (width, height * len(lines)), BACK)
    draw = ImageDraw.Draw(sheet)
    for number, one in enumerate(lines):
        draw.text((0, number * height + 1), one, fill=colour, font=font)
    return sheet


def line_height(size: int) -> int:
    """Pixels from line to line of text of a size."""
    return round(1.45 * size)


def beside(images: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    """Images in a row, their upper edges level."""
    sheet = Image.new("RGB", (sum(i.width + gap for i in images) - gap, max(i.height for i in images)), BACK)
    left = 0
    for one in images:
        sheet.paste(one, (left, 0))
        left += one.width + gap
    return sheet


def below(images: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    """Images below each other, their left edges level."""
    sheet = Image.new("RGB", (max(i.width for i in images), sum(i.height + gap for i in images) - gap), BACK)
    top = 0
    for one in images:
        sheet.paste(one, (0, top))
        top += one.height + gap
    return sheet


def framed(image: Image.Image) -> Image.Image:
    """An image with an empty edge, its sides even numbers as video wants them."""
    edge = 12
    width, height = (side + 2 * edge + side % 2 for side in image.size)
    sheet = Image.new("RGB", (width, height), BACK)
    sheet.paste(image, (edge, edge))
    return sheet
