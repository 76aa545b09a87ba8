"""Mosaics against means worked out patch by patch, and what is in the files that are written."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from benchmarks import merging_pictures
from evlgen.errors import UsageError
from evlgen.visualize import Panel, VisualizeRequest, trace_clip, visualize
from evlgen.visualize.mosaic import cell_colours, contours, group_colours, patch_groups, prompt_colours
from evlgen.visualize.movie import END_SECONDS, FRAMES_PER_SECOND, LAYER_SECONDS, WORD_SECONDS, scenes, write_movie
from evlgen.visualize.sheet import rows_shown, write_sheet
from tests.cli.conftest import cli  # noqa: F401 - the fixture
from tests.modeling.conftest import tiny_config, tiny_model
from tests.video.video_clips import write_clip

from .conftest import SHORT, model_of


def panel_of(kind: str, frames: np.ndarray) -> Panel:
    return Panel(trace_clip(model_of(kind), frames, name=kind, decoding=SHORT), frames, (0.0, 0.5, 1.0))


def test_a_group_has_the_mean_colour_of_its_patches_in_all_its_frames(kind: str, frames: np.ndarray) -> None:
    panel = panel_of(kind, frames)
    trace = panel.trace
    rows, columns = trace.grid
    cells = cell_colours(frames, trace.grid)
    if trace.grid == (3, 4):  # patches are the tiles that the frames are made of
        assert np.array_equal(cells[:, 0], frames[:, 0, 0])
    groups = patch_groups(trace, len(trace.groups) - 1)
    colours = group_colours(cells, groups)
    for f in range(3):
        for patch in range(rows * columns):
            alike = [
                cells[g, p]
                for g in range(3)
                for p in range(rows * columns)
                if trace.groups[-1][0 if trace.shared else g][p + trace.prefix_tokens]
                == trace.groups[-1][0 if trace.shared else f][patch + trace.prefix_tokens]
                and (trace.shared or g == f)
            ]
            assert np.allclose(colours[f, patch], np.mean(alike, axis=0))
    chips = prompt_colours(trace, cells)
    assert len(chips) == trace.soft_prompts
    assert sum(chip is None for chip in chips) == (trace.prefix_tokens * (3 if kind == "vit-concat" else 1))


def test_the_section_of_the_docs_is_written_anew(frames: np.ndarray) -> None:
    trace = panel_of("vit-concat", frames).trace
    page = merging_pictures.DOCS / "visualize.md"
    before, after = page.read_text(encoding="utf-8").split("Three clips of ")[0], "\n\n## What is shown\n"
    text = merging_pictures.page_with(page.read_text(encoding="utf-8"), {"bikes": trace, "carphone_pristine": trace})
    assert text.startswith(before + "Three clips of `evlgen data samples`, drawn with evlgen-mini by ")
    assert page.read_text(encoding="utf-8").partition(after)[2] == text.partition(after)[2] != ""
    assert re.findall(r"^!\[(\w+): (\d+) tokens become (\d+) in 2 layers; .*\]\((.*)\)$", text, re.MULTILINE) == [
        (name, str(trace.tokens[0]), str(trace.tokens[-1]), f"merging-{name.split('_')[0]}.webp")
        for name in ("bikes", "carphone_pristine")
    ]
    assert merging_pictures.page_with(text, {"bikes": trace, "carphone_pristine": trace}) == text
    for name in ("bikes", "carphone_pristine", "bigbuckbunny"):
        assert merging_pictures.picture_of(name).is_file()


def test_contours_by_hand() -> None:
    assert contours(np.array([0, 0, 1, 1]), (2, 2)) == [(0, 1, 1, 1), (1, 1, 2, 1)]
    assert contours(np.array([0, 1, 0, 0]), (2, 2)) == [(1, 0, 1, 1), (1, 1, 2, 1)]
    assert contours(np.array([5, 5]), (1, 2)) == []


def test_rows_of_a_sheet() -> None:
    assert rows_shown(6) == [0, 1, 2, 3, 4, 5, 6]
    assert rows_shown(12) == [0, 2, 4, 6, 8, 10, 12]
    assert rows_shown(1) == [0, 1]


@pytest.mark.slow
def test_two_models_in_a_png_and_in_an_mp4(tmp_path: Path, frames: np.ndarray) -> None:
    panels = [panel_of("vit-temporal", frames), panel_of("cnn-mean", frames)]
    write_sheet(panels, tmp_path / "a.png", "clip.mp4")
    write_sheet(panels[:1], tmp_path / "one.png", "clip.mp4")
    both, one = Image.open(tmp_path / "a.png"), Image.open(tmp_path / "one.png")
    assert both.width > 1.5 * one.width
    shown = {tuple(colour) for colour in np.asarray(both.convert("RGB")).reshape(-1, 3)}
    for panel in panels:  # the mosaic is in it, in exactly its colours
        cells = cell_colours(frames, panel.trace.grid)
        for colour in group_colours(cells, patch_groups(panel.trace, 2)).reshape(-1, 3).round():
            assert tuple(colour.astype(np.uint8)) in shown
    write_movie(panels, tmp_path / "a.mp4", "clip.mp4")
    words = max(len(panel.trace.words) for panel in panels)
    assert len({picture.size for picture, _ in scenes(panels, "clip.mp4")}) == 1
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        count = sum(1 for _ in container.decode(stream))
    assert count == FRAMES_PER_SECOND * (3 * LAYER_SECONDS + words * WORD_SECONDS + END_SECONDS)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "tiny"
    tiny_model(tiny_config(fusion="concat")).save_pretrained(folder)
    return folder


def test_the_command(cli: Callable[..., Result], tmp_path: Path, checkpoint: Path) -> None:  # noqa: F811
    write_clip(tmp_path / "clip.mp4", count=10)
    result = cli("visualize", "clip.mp4", "--model", checkpoint, "--dtype", "float32", "--frames", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    row = result.stdout.splitlines()[1]
    assert re.search(r"10 8 6 +12 ", row)
    assert result.stdout.splitlines()[2] == "clip-merging.html"
    assert (tmp_path / "clip-merging.html").is_file()
    result = cli("visualize", "clip.mp4", "--model", checkpoint, "--model", checkpoint, "--dtype", "float32", "--json")
    one, other = json.loads(result.stdout)
    for trace in (one, other):
        assert (trace["tokens"], len(trace["prompts"]), len(trace["timestamps_seconds"])) == ([10, 8, 6], 3, 3)
    assert one["caption"].split() == [word["text"] for word in one["words"]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["clip.mp4", "-o", "x.gif"], 2, "--out x.gif ends in nothing that can be drawn (end its name in .html"),
        (["clip.mp4", "--frames", "33"], 2, "--frames 33 is not 1 to 32"),
        (["clip.mp4", "--model", "openai:x@http://y"], 2, "--model openai:x@http://y merges no tokens"),
        (["clip.mp4", *["--model", "evlgen-mini"] * 3], 2, "--model is given 3 times"),
        (["clip.mp4", "--model", "evlgen-minx"], 2, "no model 'evlgen-minx'"),
        (["gone.mp4", "--model", "evlgen-mini"], 1, "gone.mp4"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    cli: Callable[..., Result],  # noqa: F811
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    result = cli("visualize", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nothing_is_computed_for_a_name_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in nothing"):
        visualize(VisualizeRequest(tmp_path / "gone.mp4", (tmp_path / "a.html", tmp_path / "a.txt")))
    assert list(tmp_path.iterdir()) == []
