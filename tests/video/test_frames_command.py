"""`evlgen frames`, run in process, output compared whole."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from evlgen.errors import UsageError, VideoError
from evlgen.video import extract_frames
from evlgen_cli.commands.frames import frames
from tests.video import video_clips as clips

GetClip = Callable[[str], Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    app = typer.Typer()
    app.command("frames")(frames)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def test_images_and_their_times(run: Callable[..., Result], clip: GetClip, tmp_path: Path) -> None:
    result = run(clip("vfr.mp4"), "--out", tmp_path, "--times", "0,1.9,5")
    assert result.exit_code == 0, result.output
    names = ["vfr-00-i000000-0.000s.png", "vfr-01-i000007-1.840s.png", "vfr-02-i000014-5.000s.png"]
    assert result.stdout == (
        f"frame      0       0.000 s  {tmp_path / names[0]}\n"
        f"frame      7       1.840 s  {tmp_path / names[1]}\n"
        f"frame     14       5.000 s  {tmp_path / names[2]}\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [clips.read_barcode(np.asarray(Image.open(tmp_path / name))) for name in names] == [0, 7, 14]


def test_json(run: Callable[..., Result], clip: GetClip, tmp_path: Path) -> None:
    path = clip("turned_90.mp4")
    result = run(path, "--out", tmp_path, "--sampler", "head-tail", "--frames", 2, "--format", "jpg", "--json")
    assert json.loads(result.stdout) == {
        "video": str(path),
        "width": 128,
        "height": 64,
        "frame_indices": [0, 29],
        "timestamps_seconds": [0.0, 1.16],
        "files": [str(tmp_path / f"turned_90-0{n}.jpg") for n in ("0-i000000-0.000s", "1-i000029-1.160s")],
        "partial": False,
        "warnings": [],
    }


def test_contact_sheet_has_every_frame_and_room_for_its_time(
    run: Callable[..., Result], clip: GetClip, tmp_path: Path
) -> None:
    result = run(clip("cfr.mp4"), "--out", tmp_path / "new", "--fps", "2", "--contact-sheet")
    sheet_path = tmp_path / "new" / "cfr-sheet.png"
    assert result.stdout.splitlines()[-1] == str(sheet_path)
    sheet = np.asarray(Image.open(sheet_path))
    assert sheet.shape == (2 * (160 + 18), 2 * 320, 3)  # 4 frames of 128 x 64, in a 2 x 2 grid
    tiles = [sheet[top : top + 160, left : left + 320] for top in (0, 178) for left in (0, 320)]
    assert [clips.read_barcode(tile) for tile in tiles] == [0, 12, 25, 37]
    assert sheet[160:178, :320].max() > 250  # the time is drawn below


def test_warnings_go_to_standard_error(run: Callable[..., Result], clip: GetClip, tmp_path: Path) -> None:
    result = run(clip("cut_short.mkv"), "--out", tmp_path)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {clip('cut_short.mkv')}: the file is cut short: its last ")
    assert all(line.startswith("frame ") for line in result.stdout.splitlines())


def test_errors_are_left_to_the_one_handler(run: Callable[..., Result], clip: GetClip, tmp_path: Path) -> None:
    failed = run(clip("audio.mp4"), "--out", tmp_path).exception
    assert isinstance(failed, VideoError)
    assert failed.kind == "no-video-stream"
    misspelled = run(clip("cfr.mp4"), "--out", tmp_path, "--sampler", "evenly").exception
    assert isinstance(misspelled, UsageError)
    assert "'evenly' is not one of uniform, head-tail" in misspelled.what


def test_library_errors_name_what_to_change(clip: GetClip, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="image format 'bmp' is not one of png, jpg"):
        list(extract_frames({clip("cfr.mp4"): tmp_path}, image_format="bmp"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        list(extract_frames({clip("cfr.mp4"): tmp_path / "file"}))


def test_a_folder_gives_each_video_a_folder_of_its_own(
    run: Callable[..., Result], clip: GetClip, tmp_path: Path
) -> None:
    folder, out = tmp_path / "videos", tmp_path / "out"
    for name in ("a.mp4", "sub/a.mp4"):  # equal names must not meet
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(clip("cfr.mp4").read_bytes())
    Image.fromarray(clips.barcode(9)).save(folder / "a.png")
    (folder / "bad.mp4").write_text("no video")
    result = run(folder, "--out", out, "--frames", 1)
    assert result.exit_code == 3
    files = [out / name for name in (
        "a.mp4/a-00-i000025-1.000s.png", "a.png/a-00-i000000-0.000s.png", "sub/a.mp4/a-00-i000025-1.000s.png"
    )]  # fmt: skip
    assert sorted(result.stdout.splitlines()) == sorted(
        f"frame     {index:>2}       {seconds} s  {file}"
        for file, index, seconds in zip(files, (25, 0, 25), ("1.000", "0.000", "1.000"), strict=True)
    )
    assert result.stderr == f"error: {folder / 'bad.mp4'}: Invalid data found when processing input\n"
    assert sorted(path for path in out.rglob("*") if path.is_file()) == files
    assert [clips.read_barcode(np.asarray(Image.open(file))) for file in files] == [25, 9, 25]
    rows = json.loads(run(folder, "--out", out, "--frames", 1, "--json").stdout)
    assert [Path(row["video"]).name for row in rows] == ["a.mp4", "a.png", "bad.mp4", "a.mp4"]
    assert [row.get("error", {}).get("kind") for row in rows] == [None, None, "decode-error", None]


def test_names_do_not_steer_the_terminal(run: Callable[..., Result], clip: GetClip, tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb.mp4"
    path.write_bytes(clip("cut_short.mkv").read_bytes())
    result = run(path, "--out", tmp_path / "out", "--frames", 1)
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "a\ufffd[2Jb" in result.stdout
    assert "a\ufffd[2Jb" in result.stderr
