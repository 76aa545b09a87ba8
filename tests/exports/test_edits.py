"""Captions by hand: what is added to the journal, what is read back, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from typer.testing import Result

from evlgen.errors import UsageError
from evlgen.exports import CaptionTemplate, ExportOptions, edit_caption, edit_from, export_captions
from tests.cli.conftest import cli  # noqa: F401 - the fixture

from .exported_captions import line, touch, write


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    touch(tmp_path / "videos", "a.mp4", "sub/b.mp4", "c.mp4")
    lines = [line("a.mp4", "a dog"), line("sub/b.mp4", "a cat"), line("c.mp4")]
    return write(tmp_path / "c.jsonl", *lines)


def added(path: Path, before: bytes) -> list[dict[str, object]]:
    """What was added to a file that is otherwise as it was."""
    after = path.read_bytes()
    assert after.startswith(before)
    return [json.loads(text) for text in after[len(before) :].splitlines()]


def test_one_video_by_name_or_path(captions: Path, tmp_path: Path) -> None:
    before = captions.read_bytes()
    edit_caption(captions, "sub/b.mp4", " a tabby\ncat ")
    edit_caption(captions, str(tmp_path / "videos" / "c.mp4"), "nobody")
    one, other = added(captions, before)
    old = json.loads(before.splitlines()[1])
    changes = {"caption": "a tabby cat", "edited": True, "log_probability": None, "token_count": None, "format": 1}
    assert one == old | changes
    assert (other["video"], other["status"], other["error"], other["edited"]) == ("c.mp4", "ok", None, True)


def test_the_models_own_is_put_back(captions: Path) -> None:
    before = captions.read_bytes()
    edit_caption(captions, "a.mp4", "mine")
    edit_caption(captions, "a.mp4", "mine again")
    edit_caption(captions, "a.mp4", None)
    assert added(captions, before)[2] == json.loads(before.splitlines()[0])


@pytest.mark.parametrize(
    ("video", "text", "says"),
    [
        ("b.mp4", "x", "has no line about b.mp4 \\(did you mean sub/b.mp4\\?\\)"),
        ("a.mp4", " ", "cannot be empty"),
        ("a.mp4", "\udcff", "is no text"),
    ],
)
def test_what_is_refused(captions: Path, video: str, text: str, says: str) -> None:
    before = captions.read_bytes()
    with pytest.raises(UsageError, match=says):
        edit_caption(captions, video, text)
    assert added(captions, before) == []


def test_parts(captions: Path) -> None:
    spans = [{"start_seconds": float(n), "end_seconds": n + 1.0} for n in range(2)]
    write(captions, *(line("a.mp4", f"part {n}", **span) for n, span in enumerate(spans)))
    with pytest.raises(UsageError, match=r"a.mp4 has parts that start at 0, 1 s"):
        edit_caption(captions, "a.mp4", "x")
    before = captions.read_bytes()
    edit_caption(captions, "a.mp4", "mine", start_seconds=1.0)
    assert [(one["caption"], one["start_seconds"]) for one in added(captions, before)] == [("mine", 1.0)]
    export_captions(captions, "csv")
    table = captions.with_suffix(".csv")
    table.write_text(table.read_text().replace("part 0", "by table"))
    before = captions.read_bytes()
    assert edit_from(captions, table).unchanged == 1
    assert [(one["caption"], one["end_seconds"]) for one in added(captions, before)] == [("by table", 1.0)]


def test_a_table_that_pandas_wrote(captions: Path) -> None:
    """Another order, other columns, one row gone: only what was changed is taken in."""
    export_captions(captions, "csv")
    table = captions.with_suffix(".csv")
    frame = pandas.read_csv(table).iloc[::-1].drop(columns=["model"])
    frame.loc[frame["video"] == "a.mp4", "caption"] = 'a "big" dog; ä'
    frame.to_csv(table, index=False, sep=";", encoding="utf-8-sig")
    before = captions.read_bytes()
    report = edit_from(captions, table)
    assert (report.edited, report.unchanged) == (["a.mp4"], 1)
    assert [one["caption"] for one in added(captions, before)] == ['a "big" dog; ä']
    assert edit_from(captions, table).edited == []  # once is enough


def test_an_export_of_before_is_no_edit(captions: Path) -> None:
    export_captions(captions, "csv")
    with captions.open("a") as file:
        file.write(json.dumps(line("a.mp4", "two dogs", settings_hash="s2")) + "\n")
    before = captions.read_bytes()
    assert edit_from(captions, captions.with_suffix(".csv")).unchanged == 2
    assert added(captions, before) == []


def test_a_changed_table_is_not_overwritten(captions: Path) -> None:
    export_captions(captions, "csv")
    table = captions.with_suffix(".csv")
    table.write_text(table.read_text().replace("a dog", "my dog"))
    with pytest.raises(UsageError, match=r"has 1 captions that .* has not, such as that of a.mp4 \(evlgen edit"):
        export_captions(captions, "csv")
    edit_from(captions, table)
    export_captions(captions, "csv")
    assert list(pandas.read_csv(table)["caption"]) == ["my dog", "a cat"]


WORDS = CaptionTemplate("ohwx, ", ".", "{folder}: {caption}")


@pytest.mark.parametrize("folder", ["videos", "texts"])
def test_sidecars_with_words_around_captions(captions: Path, tmp_path: Path, folder: str) -> None:
    out = None if folder == "videos" else tmp_path / folder
    export_captions(captions, "txt", out, options=ExportOptions(CaptionTemplate(prefix="ohwx: ")))
    before = captions.read_bytes()
    with pytest.raises(
        UsageError, match=r"2 texts of .* are captions with 'ohwx: ' in front and '' behind .*nothing was"
    ):
        edit_from(captions, tmp_path / folder)
    export_captions(captions, "txt", out, options=ExportOptions(WORDS, overwrite=True))
    (tmp_path / folder / "sub" / "b.txt").write_text("ohwx, sub: my cat.\n")
    report = edit_from(captions, tmp_path / folder, WORDS)
    assert (report.edited, report.unchanged) == (["sub/b.mp4"], 1)
    assert [one["caption"] for one in added(captions, before)] == ["my cat"]


def test_lists_for_trainers_are_read_back(captions: Path, tmp_path: Path) -> None:
    for to, place in (("musubi", tmp_path / "c.musubi.jsonl"), ("metadata-csv", tmp_path / "videos" / "metadata.csv")):
        export_captions(captions, to)
        place.write_text(place.read_text().replace("a cat", f"a cat of {to}"))
        assert edit_from(captions, place).edited == ["sub/b.mp4"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("video,caption\nz.mp4,x\n", "names none of the videos of"),
        ("video,length\na.mp4,3\n", "has no rows of names and captions"),
        ('{"a": 1}\n{"b": 2}\n', "has no rows of names and captions"),
    ],
)
def test_tables_that_are_none(captions: Path, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UsageError, match=says):
        edit_from(captions, tmp_path / "t.csv")
    with pytest.raises(UsageError, match="is the caption file itself"):
        edit_from(captions, captions)


def test_the_command(cli: Callable[..., Result], captions: Path) -> None:  # noqa: F811 - the fixture
    result = cli("edit", "c.jsonl", "a.mp4", "mine")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "edits\nedited  1\n", "")
    assert cli("edit", "c.jsonl", "a.mp4", "--undo").stdout == "edits\nput back  1\n"
    Path("t.csv").write_text("video,caption\na.mp4,by table\nz.mp4,unknown\nsub/b.mp4,\n")
    result = cli("edit", "c.jsonl", "--from", "t.csv")
    assert (result.exit_code, result.stdout) == (
        3,
        "edits\nedited           1\nempty, left      1\nnames not taken  1\n",
    )
    assert result.stderr == "warning: c.jsonl has no line about these, or several: z.mp4\n"
    for wrong in (["a.mp4"], ["a.mp4", "x", "--undo"], ["a.mp4", "x", "--from", "t.csv"], []):
        assert cli("edit", "c.jsonl", *wrong).exit_code == 2
