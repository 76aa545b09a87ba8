"""`evlgen caption --sidecar` and outputs that are no journals, with a fake decoder and model."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evlgen.captioning import CaptionRequest, Row
from evlgen.exports import CaptionTemplate, Outputs, caption_and_export
from evlgen_cli.main import app
from tests.captioning import fakes


@pytest.fixture(autouse=True)
def working_folder(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)


def evlgen(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], prog_name="evlgen")


def texts() -> dict[str, str]:
    return {path.relative_to("videos").as_posix(): path.read_text() for path in sorted(Path("videos").rglob("*.txt"))}


def test_sidecars_are_written_as_it_goes(videos: Path) -> None:
    """When a row is told, its sidecar is there; a run that was stopped before is made up for by the next."""
    seen = []

    class Watching(fakes.Listener):
        def on_row(self, row: Row) -> None:
            seen.append(len(texts()))

    outputs = Outputs.of(Path("out.jsonl"), "txt", CaptionTemplate(prefix="TOK "))
    request = CaptionRequest([str(videos)], batch_size=1)
    summary, [report] = caption_and_export(request, outputs, Watching())
    assert seen == [0, 1, 2, 3, 4, 5]
    assert (summary.ok, report.written, report.unchanged) == (6, 6, 0)
    assert texts()["sub/deep/clip1.txt"] == "TOK caption of sub/deep/clip1.webm"
    Path("videos/clip1.txt").unlink()
    summary, [report] = caption_and_export(request, outputs)
    assert (summary.done_before, report.written, report.unchanged) == (6, 1, 5)


def test_what_a_person_wrote_stays_and_what_we_wrote_follows() -> None:
    assert evlgen("caption", "videos", "-o", "out.jsonl", "--sidecar", "txt").exit_code == 0
    Path("videos/clip1.txt").write_text("mine")
    for name in ("clip1.mp4", "clip2.mp4"):
        fakes.write_video(Path("videos") / name, "another caption")
    result = evlgen("caption", "videos", "-o", "out.jsonl", "--sidecar", "txt")
    assert (texts()["clip1.txt"], texts()["clip2.txt"]) == ("mine", "another caption")
    assert "\n.txt files     1 written, 1 left alone (a person's)\n" in result.stdout
    assert evlgen("edit", "out.jsonl", "--from", "videos").exit_code == 0
    result = evlgen("caption", "videos", "-o", "out.jsonl", "--sidecar", "txt", "--num-beams", "5")
    assert "\nedited by hand  1 (left alone)\n" in result.stdout
    assert texts()["clip1.txt"] == "mine"


def test_a_folder_that_was_moved_away_from_its_output() -> None:
    evlgen("caption", "videos", "-o", "out.jsonl")
    Path("videos").rename("moved")
    Path("moved/sub").rename("moved/videos")
    result = evlgen("caption", "moved", "-o", "out.jsonl", "--sidecar", "txt")
    assert "warning" not in result.stderr
    assert len(list(Path("moved").rglob("*.txt"))) == 6


def test_videos_of_earlier_runs_get_no_sidecars() -> None:
    evlgen("caption", "videos/sub", "-o", "out.jsonl")
    evlgen("caption", "videos/clip2.mp4", "-o", "out.jsonl", "--sidecar", "txt")
    assert list(texts()) == ["clip2.txt"]


def test_a_table(captioner: fakes.FakeCaptioner) -> None:
    fakes.write_video(Path("videos/clip2.mp4"), fail="timeout")
    result = evlgen("caption", "videos", "-o", "x.csv")
    assert result.exit_code == 3
    assert result.stderr.startswith("captions are kept in x.jsonl; x.csv is made of it at the end\n")
    assert result.stdout.endswith("output           x.jsonl\ncsv              x.csv, 5 captions\n")
    with Path("x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows][:2] == ["clip1.mp4", "clip10.mp4"]
    assert len(fakes.rows_of(Path("x.jsonl"))) == 6
    batches = len(captioner.batches)
    assert evlgen("caption", "videos", "-o", "x.csv").exit_code == 3
    assert len(captioner.batches) == batches  # nothing is captioned twice


def test_a_table_with_a_persons_captions_is_refused_before_anything_is_done(captioner: fakes.FakeCaptioner) -> None:
    evlgen("caption", "videos", "-o", "x.csv", "--limit", "2")
    table = Path("x.csv").read_text().replace("caption of clip1.mp4", "mine")
    Path("x.csv").write_text(table)
    batches = len(captioner.batches)
    result = evlgen("caption", "videos", "-o", "x.csv")
    assert (result.exit_code, result.stdout, Path("x.csv").read_text()) == (2, "", table)
    assert result.stderr == (
        "error: x.csv has 1 captions that x.jsonl has not, such as that of clip1.mp4 (evlgen edit x.jsonl --from x.csv "
        "takes them in, evlgen export --overwrite drops them)\n"
    )
    assert len(captioner.batches) == batches


def test_subtitles_of_one_video() -> None:
    assert evlgen("caption", "videos/clip2.mp4", "-o", "x.srt").exit_code == 0
    assert Path("x.srt").read_text() == "1\n00:00:00,000 --> 00:00:02,000\ncaption of clip2.mp4\n"
    result = evlgen("caption", "videos/clip2.mp4", "-o", "x.srt", "--json")
    assert json.loads(result.stdout)["to_srt"]["unchanged"] == 1


def test_folders_that_cannot_be_written_to_cost_no_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("videos/sub/clip3.txt").mkdir()
    result = evlgen("caption", "videos", "-o", "out.jsonl", "--sidecar", "txt")
    assert result.exit_code == 3
    assert len(fakes.rows_of(Path("out.jsonl"))) == 6
    assert "error: sub/clip3.mkv: " in result.stderr
    assert len([path for path in Path("videos").rglob("*.txt") if path.is_file()]) == 5


def test_a_page() -> None:
    fakes.write_video(Path("videos/clip2.mp4"), fail="timeout")
    result = evlgen("caption", "videos", "-o", "x.html")
    assert result.exit_code == 3
    page = Path("x.html").read_text()
    assert '"caption":"caption of sub/clip3.mkv"' in page
    assert '"error":["timeout","made to fail"]' in page
