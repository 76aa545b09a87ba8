"""What commands write: never in the place of what is no regular file, readable as the umask says."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.test_convert import HEADS
from tests.cli.test_eval import REFERENCES, write
from tests.conversion import authors as mini
from tests.conversion.conftest import save

OPTIONS = {"--html": "<!doctype html>", "--per-caption": '{"id"', "--save-frequencies": '{"format"'}
EVAL = ("eval", "--predictions", "a.jsonl", "--references", "refs.jsonl", "--split", "test", "--bootstrap", 0)


@pytest.fixture
def scored(cli: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """`scored("--html", path)` runs `evlgen eval` with an option."""
    write(tmp_path / "refs.jsonl", REFERENCES)
    write(tmp_path / "a.jsonl", [{"video": f"{i}.mp4", "caption": "a man"} for i in (1, 2, 3)])
    return lambda *options: cli(*EVAL, *options)


def link_to(device: str, folder: Path) -> Path:
    """A link by which tests write to a device: a writer that replaces things would replace the link alone."""
    link = folder / Path(device).name
    link.symlink_to(device)
    return link


@pytest.mark.parametrize("option", OPTIONS)
def test_devices_links_and_pipes_stay_what_they_are(option: str, scored: Callable[..., Result], tmp_path: Path) -> None:
    device = link_to("/dev/null", tmp_path)
    assert scored(option, device).exit_code == 0
    assert device.is_symlink()

    link, target = tmp_path / "link", tmp_path / "kept" / "target"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    assert scored(option, link).exit_code == 0
    assert (link.is_symlink(), target.read_text()[:5]) == (True, OPTIONS[option][:5])

    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()), daemon=True)
    reader.start()
    assert scored(option, fifo).exit_code == 0
    reader.join(timeout=10)
    assert (fifo.is_fifo(), got[0][: len(OPTIONS[option])]) == (True, OPTIONS[option])


@pytest.mark.parametrize("option", OPTIONS)
def test_places_that_cannot_be_written_are_one_line(option: str, scored: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    link_to("/dev/full", tmp_path)
    for place in ("folder", "file/below", "x" * 300, "full", "/proc/none/x"):
        done = scored(option, place)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {place} cannot be written: ")
        assert done.stderr.count("\n") == 1
    assert scored(option, tmp_path / "new" / "folders" / "file").exit_code == 0


def test_a_converted_model_is_readable_by_whom_the_umask_says(cli: Callable[..., Result], tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(mini.tensors(video=True, pooler=True), tmp_path / "video.pth")
        mini.language_folder("opt", tmp_path / "opt")
        there = cli("models", "convert", "video.pth", "--to", "model", "--r", 2, "--language", "opt", *HEADS)
        back = cli("models", "convert", "model", "--to", "back.safetensors", "--to-authors")
    finally:
        os.umask(before)
    assert (there.exit_code, back.exit_code) == (0, 0)
    written = [*(tmp_path / "model").rglob("*"), tmp_path / "back.safetensors"]
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in written if p.is_file()}
    assert set(modes) == {
        "config.json", "model.safetensors", "vision.safetensors", "unused.safetensors", "back.safetensors"
    }  # fmt: skip
    assert set(modes.values()) == {0o640}


def test_a_converted_model_goes_through_a_device(cli: Callable[..., Result], tmp_path: Path) -> None:
    save(mini.tensors(video=True, pooler=True), tmp_path / "video.pth")
    mini.language_folder("opt", tmp_path / "opt")
    assert cli("models", "convert", "video.pth", "--to", "model", "--r", 2, "--language", "opt", *HEADS).exit_code == 0
    for device, line in (("/dev/null", "null is written"), ("/dev/full", "error: full cannot be written: No space")):
        link = link_to(device, tmp_path)
        done = cli("models", "convert", "model", "--to", link.name, "--to-authors")
        assert (done.stderr.startswith(line), link.is_symlink()) == (True, True)


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    for command in ("recipes copy mini-pretrain x.yaml", "caption . --out y", "--version"):
        gone = tmp_path / "gone"
        gone.mkdir()
        code = f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); from evlgen_cli.main import main; "
        done = subprocess.run(
            [sys.executable, "-c", f"{code}sys.argv = ['evlgen', *{command.split()!r}]; main()"],
            cwd=root, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'models'}"},
        )  # fmt: skip
        assert done.stderr.count("\n") == (command != "--version"), done.stderr
        assert "bug" not in done.stderr
