"""Which lines of a caption file count, and what is refused."""

from pathlib import Path

import pytest

from evlgen.errors import UsageError
from evlgen.exports import CaptionTemplate, ExportOptions, export_captions, read_caption_file

from .exported_captions import line, touch, write


def part(text: str, start: float, end: float, settings: str = "s1", **values: object) -> dict[str, object]:
    return line("a.mp4", text, start_seconds=start, end_seconds=end, settings_hash=settings, **values)


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([line("a.mp4", "x"), line("a.mp4", "y")], ["y"]),
        ([part("second", 1, 2), part("first", 0, 1)], ["first", "second"]),
        ([part("x", 0, 1), part("y", 1, 2), part("better x", 0, 1)], ["better x", "y"]),
        ([line("a.mp4", "whole"), part("x", 0, 1, "s2"), part("y", 1, 2, "s2")], ["x", "y"]),
        ([part("x", 0, 1), part("y", 1, 2), line("a.mp4", "whole", settings_hash="s2")], ["whole"]),
        ([part("x", 0, 1), part("mine", 1, 2, edited=True), part("x2", 0, 1, "s2")], ["x2", "mine"]),
        ([line("a.mp4", "mine", edited=True)], ["mine"]),
    ],
)
def test_which_lines_count(tmp_path: Path, lines: list[dict[str, object]], count: list[str]) -> None:
    clip = read_caption_file(write(tmp_path / "c.jsonl", *lines)).clips[0]
    assert [row.caption for row in clip.rows] == count
    assert len(clip.lines) == len(lines)


def test_where_the_files_are(tmp_path: Path) -> None:
    lines = [line("a.mp4", "x", root="../v"), line("sub/b.mp4", "x", root=None), line("/abs/c.mp4", "x", root=None)]
    captions = write(tmp_path / "out" / "c.jsonl", *lines)
    places = [str(clip.path) for clip in read_caption_file(captions).clips]
    assert places == [f"{tmp_path}/v/a.mp4", f"{tmp_path}/out/sub/b.mp4", "/abs/c.mp4"]
    (tmp_path / "media").mkdir()
    moved = read_caption_file(captions, tmp_path / "media").clips
    assert [str(clip.path) for clip in moved][:2] == [f"{tmp_path}/media/a.mp4", f"{tmp_path}/media/sub/b.mp4"]


@pytest.mark.parametrize(
    ("to", "options", "says"),
    [
        ("scv", ExportOptions(), "--to scv is no format (did you mean csv?)"),
        (
            "csv",
            ExportOptions(CaptionTemplate(prefix="x")),
            "--to csv holds captions as they are; --prefix, --suffix and",
        ),
        ("txt", ExportOptions(burn=True, shard_megabytes=5), "--burn is for --to subtitles; --shard-mb is for"),
        ("webdataset", ExportOptions(shard_megabytes=0), "--shard-mb 0 is not between 1 and 1000000"),
    ],
)
def test_what_is_refused(tmp_path: Path, to: str, options: ExportOptions, says: str) -> None:
    captions = write(tmp_path / "c.jsonl", line("a.mp4", "x"))
    with pytest.raises(UsageError) as caught:
        export_captions(captions, to, options=options)
    assert str(caught.value).startswith(says)
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


@pytest.mark.parametrize(
    ("content", "says"), [("", "holds no captions yet"), ("video,caption\n", "is not a caption file")]
)
def test_files_that_are_none(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(UsageError, match=says):
        export_captions(tmp_path / "c.jsonl", "csv")
    with pytest.raises(UsageError, match="no such file"):
        export_captions(tmp_path / "d.jsonl", "csv")


def test_a_caption_file_is_never_replaced(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "a.mp4")
    captions = write(tmp_path / "c.jsonl", line("a.mp4", "x"))
    before = captions.read_bytes()
    for other in (captions, write(tmp_path / "d.jsonl", line("b.mp4", "y"))):
        with pytest.raises(UsageError, match="is a caption file"):
            export_captions(captions, "musubi", other)
    assert captions.read_bytes() == before


@pytest.mark.parametrize("template", ["{captoin}", "no place", "{caption} {caption}"])
def test_templates_that_are_none(template: str) -> None:
    with pytest.raises(UsageError, match="--template"):
        CaptionTemplate(template=template)
