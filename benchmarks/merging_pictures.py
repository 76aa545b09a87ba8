"""Draw the pictures of docs/visualize.md anew with evlgen-mini, and write what stands around them.

python benchmarks/merging_pictures.py      (three clips of `evlgen data samples`; a minute or two)

Look at the pictures before they are committed: a caption is what the model says, not what is there.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from evlgen.visualize import Trace, VisualizeRequest, visualize
from evlgen.weights.parts import copy_samples

DOCS = Path(__file__).resolve().parent.parent / "docs"
FRAMES, WIDTH, QUALITY = 3, 560, 80


def page_with(text: str, traces: Mapping[str, Trace]) -> str:
    """The page with another section about its clips: their names, and what became of them."""
    lines = [
        "Three clips of `evlgen data samples`, drawn with evlgen-mini by `python benchmarks/merging_pictures.py`: "
        f"`evlgen visualize samples/{next(iter(traces))}.mp4\n--frames {FRAMES} --dtype float32 --out merging.png` and "
        "so on, made smaller:"
    ]
    for name, trace in traces.items():
        first, *_, last = trace.tokens
        said = f"{name}: {first} tokens become {last} in {len(trace.groups) - 1} layers; “{trace.caption}”"
        lines.append(f"![{said}]({picture_of(name).name})")
    section = "\n\n".join(lines)
    made, count = re.subn(r"^Three clips of .*?(?=\n\n## )", lambda _: section, text, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        raise ValueError("the page has no section about three clips")
    return made


def picture_of(name: str) -> Path:
    """Where the picture of a clip is."""
    return DOCS / f"merging-{name.partition('_')[0]}.webp"


def main() -> None:
    """Trace, draw, make smaller, write."""
    traces = {}
    with tempfile.TemporaryDirectory() as folder:
        for clip in copy_samples(Path(folder)):
            sheet = clip.with_suffix(".png")
            (panel,) = visualize(VisualizeRequest(clip, (sheet,), frames=FRAMES, dtype="float32"))
            picture = Image.open(sheet)
            picture.thumbnail((WIDTH, 10 * WIDTH))
            picture.save(picture_of(clip.stem), quality=QUALITY)
            traces[clip.stem] = panel.trace
            print(picture_of(clip.stem))
    page = DOCS / "visualize.md"
    page.write_text(page_with(page.read_text(encoding="utf-8"), traces), encoding="utf-8")


if __name__ == "__main__":
    main()
