"""What is refused or told before anything is captioned: outputs that are none, closed folders, mixed folders."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evlgen.captioners.protocol import Caption, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen_cli.main import app

from . import fakes


@pytest.fixture(autouse=True)
def working_folder(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)


def evlgen(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["caption", *arguments], prog_name="evlgen")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["videos", "-o", "x.tsv"],
            "error: --out x.tsv would hold JSON lines, which is not what .tsv means (name x.jsonl; evlgen export makes "
            "other formats of it)\n",
        ),
        (
            ["videos", "--out", "x.srt"],
            "error: --out x.srt holds the captions of one video, and these are 6 (--out captions.jsonl --sidecar srt "
            "writes a file beside each)\n",
        ),
        (["videos", "--sidecar", "txt"], "error: --sidecar needs --out: the file that says what is done ("),
        (["videos", "--sidecar", "doc", "-o", "x.jsonl"], "error: --sidecar doc is unknown: there is txt, srt, vtt\n"),
        (["videos", "-o", "x.jsonl", "--prefix", "x"], "error: --prefix, --suffix and --template are for --sidecar ("),
        (["videos", "--out", "new/"], "error: --out new/ is a folder (name a file, such as new/captions.jsonl)\n"),
        (["videos", "--out", "/dev/null"], "error: --out /dev/null is not a plain file ("),
    ],
)
def test_refused_with_one_line(arguments: list[str], message: str) -> None:
    for more in ([], ["--dry-run"]):
        result = evlgen(*arguments, *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(message)
        assert result.stderr.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["videos"]
    assert Path("/dev/null").is_char_device()


def test_a_caption_file_of_before_may_be_called_anything() -> None:
    evlgen("videos", "--out", "x.jsonl", "--limit", "2")
    Path("x.jsonl").rename("x.txt")
    assert evlgen("videos", "--out", "x.txt").exit_code == 0
    assert len(fakes.rows_of(Path("x.txt"))) == 6


def close(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a folder be one that this user may not read, whoever runs the test."""
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.parametrize("source", ["videos", "videos/**/*"])
def test_a_folder_that_cannot_be_read_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    close(monkeypatch, "deep")
    warning = f"warning: the folder {tmp_path}/videos/sub/deep cannot be read, and what is in it is left out: "
    dry = evlgen(source, "--out", "out.jsonl", "--dry-run")
    assert (dry.exit_code, dry.stderr) == (3, f"{warning}Permission denied\nwould caption 5 of 5 videos\n")
    for done in (5, 0):
        result = evlgen(source, "--out", "out.jsonl")
        assert result.exit_code == 3
        assert result.stderr.count(warning) == 1
        assert re.search(rf"^ok +{done}$", result.stdout, re.MULTILINE)
        assert re.search(r"^folders not read +1$", result.stdout, re.MULTILINE)


def test_a_folder_of_which_nothing_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    close(monkeypatch, "videos")
    result = evlgen("videos")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: no video or picture could be read: {tmp_path}/videos: Permission denied (see to the permissions of "
        "these folders)\n"
    )


def test_one_output_for_two_folders_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for name in ("1.mp4", "2.mp4"):
            fakes.write_video(tmp_path / folder / name, f"{name} of {folder}")
    assert evlgen("a", "--out", "out.jsonl").exit_code == 0
    for more in ([], ["--dry-run"], ["--num-beams", "5"]):
        result = evlgen("b", "--out", "out.jsonl", *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            f"error: out.jsonl holds the captions of other files of the same names, {tmp_path}/a/1.mp4 for "
            f"{tmp_path}/b/1.mp4 and 1 more (choose another --out, or caption both folders in one run with another "
            "--out)\n"
        )
    assert {row["caption"] for row in fakes.rows_of(Path("out.jsonl"))} == {"1.mp4 of a", "2.mp4 of a"}
    assert evlgen("a", "b", "--out", "both.jsonl").exit_code == 0
    assert [row["video"] for row in fakes.rows_of(Path("both.jsonl"))] == ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"]


def test_a_folder_that_has_moved_is_the_same_folder(tmp_path: Path) -> None:
    evlgen("videos", "--out", "out.jsonl")
    Path("videos").rename("moved")
    fakes.write_video(tmp_path / "moved" / "clip1.mp4", "another now")
    result = evlgen("moved", "--out", "out.jsonl")
    assert (result.exit_code, len(fakes.rows_of(Path("out.jsonl")))) == (0, 7)


def test_lines_that_do_not_say_their_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    evlgen("videos", "--out", "out.jsonl")
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    Path("out.jsonl").write_text(
        "".join(json.dumps({k: v for k, v in row.items() if k != "root"}) + "\n" for row in rows)
    )
    assert "skipped, done  6" in evlgen("videos", "--out", "out.jsonl").stdout
    fakes.write_video(tmp_path / "others" / "clip1.mp4", "another")
    assert evlgen("others", "--out", "out.jsonl").exit_code == 0


class Addressed(fakes.FakeCaptioner):
    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        raise ValueError(f"cannot read {object()} at all")


def test_reasons_hold_no_addresses_and_no_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evlgen.video import DecodeFailure

    class Decoder(fakes.FakeDecoder):
        def map(self, paths: Any, idle_seconds: float) -> Any:
            for path in paths:
                if path.name == "clip1.mp4":
                    text = f"{path}: PIL <_io.Reader at 0x7f00aa> of {path}, beside {path.parent}/other.mp4"
                    yield DecodeFailure(path, "decode-error", text, None)
                else:
                    yield from super().map([path], idle_seconds)

    captioner = Addressed()
    captioner.decoder = Decoder()
    fakes.install(monkeypatch.setattr, captioner)
    assert evlgen("videos", "--out", "out.jsonl").exit_code == 3
    messages = {row["video"]: row["error"]["message"] for row in fakes.rows_of(Path("out.jsonl"))}
    assert messages["sub/clip1.mp4"] == "PIL <_io.Reader> of sub/clip1.mp4, beside sub/other.mp4"
    assert messages["clip2.mp4"] == "cannot read <object> at all"
    assert str(tmp_path) not in Path("out.jsonl").read_text()


def test_the_old_name_of_a_failure_still_works_and_says_the_new_one() -> None:
    import evlgen.captioning
    from evlgen.errors import Failure, RenamedWarning

    with pytest.warns(RenamedWarning, match="RowError is called Failure now"):
        assert evlgen.captioning.RowError is Failure
