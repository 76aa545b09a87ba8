"""MP4: merging layer by layer, then the caption word by word with the patches that each word looks at.

It shows the frames that the model saw, not the whole video: nothing else was merged. Encoded by PyAV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evlgen.errors import EvlgenError
from evlgen.system.files import replacing
from evlgen.system.names import printable
from evlgen.visualize.sheet import LEAST_PIXELS, headline, layer_tiles, tile_size
from evlgen.visualize.tiles import ACCENT, BACK, below, beside, framed, text_lines

if TYPE_CHECKING:
    from evlgen.visualize.run import Panel

FRAMES_PER_SECOND = 5
LAYER_SECONDS, WORD_SECONDS, END_SECONDS = 1.0, 1.0, 2.0
_HEAD_PIXELS = 96
_CODECS = ("libx264", "libopenh264", "mpeg4")


def write_movie(panels: Sequence[Panel], out: Path, title: str) -> None:
    """Draw panels side by side into an MP4 without sound.

    Raises:
        EvlgenError: it cannot be written, or PyAV has no encoder for it.
    """
    codec = next((name for name in _CODECS if name in av.codecs_available), None)
    if codec is None:
        raise EvlgenError("this PyAV has no encoder for MP4", "write .html or .png, or pip install a wheel of av")
    with replacing(out) as aside, av.open(str(aside), "w", format="mp4") as container:
        stream = None
        for picture, seconds in scenes(panels, title):
            if stream is None:
                stream = container.add_stream(codec, rate=FRAMES_PER_SECOND)
                stream.width, stream.height = picture.size
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_image(picture)
            for _ in range(round(seconds * FRAMES_PER_SECOND)):
                frame.pts = None
                container.mux(stream.encode(frame))
        assert stream is not None, "there is a scene for the patches before the first layer"
        container.mux(stream.encode(None))


def scenes(panels: Sequence[Panel], title: str) -> Iterator[tuple[Image.Image, float]]:
    """Pictures of one size, and how many seconds each is shown."""
    layers = max(len(panel.trace.groups) for panel in panels)
    words = max(len(panel.trace.words) for panel in panels)
    for layer in range(layers):
        yield _scene(panels, title, layer, None), LAYER_SECONDS
    for word in range(words):
        yield _scene(panels, title, layers, word), WORD_SECONDS
    yield _scene(panels, title, layers, None), END_SECONDS


def _scene(panels: Sequence[Panel], title: str, layer: int, word: int | None) -> Image.Image:
    return framed(beside([_half(panel, title, layer, word) for panel in panels], gap=32))


def _half(panel: Panel, title: str, layer: int, word: int | None) -> Image.Image:
    """One model's half: frames with contours above their mosaics; of a model with fewer layers or words, its last."""
    trace, size = panel.trace, tile_size(panel)
    layer = min(layer, len(trace.groups) - 1)
    name = f"after layer {layer} of {len(trace.groups) - 1}" if layer else "before the first layer"
    said, lit = f"{name}: {trace.tokens[layer]} tokens", None
    if word is not None and word < len(trace.words):
        said = f"looked at for “{printable(trace.words[word].text)[:30]}”"
        lit = word_light(panel, word)
    mosaics, frames = layer_tiles(panel, layer, size, lit)
    rows = [beside(frames), mosaics[0] if trace.shared else beside(mosaics)]
    width = max(rows[0].width, LEAST_PIXELS)
    head = Image.new("RGB", (width, _HEAD_PIXELS), BACK)  # of one height, however many lines words take
    head.paste(below([headline(panel, title, width), text_lines(said, width, 16, ACCENT)]), (0, 0))
    return below([head, *rows])


def word_light(panel: Panel, word: int) -> NDArray[np.float64]:
    """How much a word looks at each patch of each frame (F, P), 1 for the most."""
    trace = panel.trace
    attention = np.asarray(trace.words[word].attention)
    light: NDArray[np.float64] = (attention / max(float(attention.max()), 1e-12))[
        trace.prompts()[:, trace.prefix_tokens :]
    ]
    return light
