"""Neighbours that say the same as one cue: against a definition by milliseconds, and as FFmpeg reads them."""

import csv
import random
from itertools import groupby
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evlgen.errors import UsageError
from evlgen.exports import ExportOptions, Outputs, export_captions, read_caption_file
from evlgen_cli.main import app

from .exported_captions import line, touch, write
from .test_subtitles import cues

Part = tuple[int, int, str | None]


def merged(parts: list[Part]) -> list[tuple[int, int, str]]:
    """What is said in each millisecond, and how long without a change."""
    said: list[str | None] = [None] * max(end for _, end, _ in parts)
    for start, end, caption in parts:
        said[start:end] = [caption] * (end - start)
    found, at = [], 0
    for caption, run in groupby(said):
        length = len(list(run))
        if caption is not None:
            found.append((at, at + length, caption))
        at += length
    return found


@pytest.mark.parametrize("seed", range(20))
def test_any_parts(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    parts: list[Part] = []
    at = 0
    for _ in range(chance.randint(1, 30)):
        at += chance.choice([0, 0, 0, 2, 250])
        end = at + chance.randint(100, 400)
        parts.append((at, end, chance.choice(["a dog", "a dog", "a cat", None])))
        at = end
    if not any(caption for _, _, caption in parts):
        parts[0] = (*parts[0][:2], "a dog")
    lines = [line("a.mp4", text, start_seconds=a / 1000, end_seconds=b / 1000) for a, b, text in parts]
    captions = write(tmp_path / "c.jsonl", *lines)
    export_captions(captions, "srt", tmp_path / "x.srt", options=ExportOptions(merge_equal=True))
    assert cues(tmp_path / "x.srt") == [(a / 1000, b / 1000, text) for a, b, text in merged(parts)]
    export_captions(captions, "csv", tmp_path / "x.csv", options=ExportOptions(merge_equal=True))
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = [
            (float(row["start_seconds"]), float(row["end_seconds"]), row["caption"]) for row in csv.DictReader(file)
        ]
    assert rows == [(a / 1000, b / 1000, text) for a, b, text in merged(parts)]
    assert (
        read_caption_file(captions).clips[0].with_equal_merged().caption == read_caption_file(captions).clips[0].caption
    )


def test_files_are_ours_whichever_way_they_were_written(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "a.mp4")
    parts = [line("a.mp4", "a dog", start_seconds=float(n), end_seconds=n + 1.0) for n in range(3)]
    captions = write(tmp_path / "c.jsonl", *parts, line("b.mp4", "whole"))
    for merge, count in ((False, 3), (True, 1), (False, 3)):
        result = CliRunner().invoke(
            app, ["export", str(captions), "--to", "vtt", *(["--merge-equal"] if merge else [])], prog_name="evlgen"
        )
        assert result.exit_code == 3, "b.mp4 is not there"
        assert len(cues(tmp_path / "videos" / "a.vtt")) == count


def test_a_journal_keeps_its_lines(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--merge-equal is for --sidecar and for --out x.srt and its kin: lines stay"):
        Outputs.of(tmp_path / "x.jsonl", merge_equal=True)
    assert Outputs.of(tmp_path / "x.srt", merge_equal=True).options.merge_equal
