"""Files are written whole or not at all, where the path leads, and never take the place of what is no file."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evlgen.errors import EvlgenError
from evlgen.modeling.pretrained import write_tensors
from evlgen.system.files import replacing, write_bytes, write_text

full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def reason(code: int) -> str:
    return os.strerror(code)


def test_a_file_appears_whole_with_the_permissions_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "scores.jsonl"
    before = os.umask(0o027)
    try:
        write_text(path, "Bär\ud800\n")
        with replacing(tmp_path / "model.safetensors") as aside:
            save_file({"a": torch.zeros(2)}, aside)  # which makes files that only their owner may read
    finally:
        os.umask(before)
    assert path.read_bytes() == "Bär\ufffd\n".encode()
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, tmp_path / "model.safetensors")] == [0o640, 0o640]
    assert [p.name for p in path.parent.iterdir()] == ["scores.jsonl"]


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("old")
    path.chmod(0o600)
    write_bytes(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


def test_the_old_content_stays_if_the_new_one_cannot_be_made(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as aside:
            aside.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    script = "import os, signal, sys; from evlgen.system.files import replacing\n"
    script += "with replacing(sys.argv[1]) as aside: aside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, tmp_path / "model.pth"], timeout=60, check=False)
    old, young = sorted(tmp_path.iterdir())
    others = [tmp_path / f".model.pth.{os.getpid()}-0123ab.part", tmp_path / ".mine.part", tmp_path / "notes.part"]
    for path in others:
        path.touch()
    for path in (old, *others):
        os.utime(path, (0, 0))
    write_text(tmp_path / "other.json", "{}")
    assert sorted(tmp_path.iterdir()) == sorted([young, *others, tmp_path / "other.json"])


def test_symlinks_are_followed(tmp_path: Path) -> None:
    for name, content in (("there", "old"), ("not yet", None)):
        target, link = tmp_path / name / "target", tmp_path / f"link to {name}"
        target.parent.mkdir()
        if content:
            target.write_text(content)
        link.symlink_to(target)
        write_text(link, "new")
        assert (link.is_symlink(), target.read_text()) == (True, "new")


def test_a_fifo_stays_one_and_the_content_goes_through(tmp_path: Path) -> None:
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()), daemon=True)
    reader.start()
    write_text(fifo, "through")
    reader.join(timeout=10)
    assert (got, fifo.is_fifo()) == (["through"], True)


def test_a_device_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "null"  # by a link: a writer that replaces things would replace no more than that
    link.symlink_to("/dev/null")
    write_text(link, "gone")
    assert (link.is_symlink(), stat.S_ISCHR(link.stat().st_mode)) == (True, True)


def test_standard_output_that_is_a_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "stdout.txt"
    with path.open("w") as stdout:
        stdout.write("a table\n")
        stdout.flush()
        write_text(f"/dev/fd/{stdout.fileno()}", "scores\n")
    assert path.read_text() == "a table\nscores\n"


@full_device
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(EvlgenError) as caught:
        write_text(link, "x" * 100_000)
    assert str(caught.value) == (
        f"{link} cannot be written: {reason(errno.ENOSPC)} (free some space, or choose a place on another disk)"
    )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("x" * 300, errno.ENAMETOOLONG),
        ("folder", errno.EISDIR),
        ("loop", errno.ELOOP),
        ("file/below", errno.ENOTDIR),
    ],
)
def test_places_that_cannot_be_written(path: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(EvlgenError, match="cannot be written") as caught:
        write_text(tmp_path / path, "text")
    assert reason(code) in str(caught.value) or "File exists" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "loop"]


def test_a_folder_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the refusal is the system's own, from a place where it gives it to anyone."""
    for path, code in (("/proc/evlgen/x.json", errno.ENOENT), ("/sys/x.json", errno.EACCES)):
        with pytest.raises(EvlgenError, match=f"^{path} cannot be written: ") as caught:
            write_text(path, "text")
        assert "\n" not in str(caught.value)
        assert reason(code) in str(caught.value) or reason(errno.EROFS) in str(caught.value) or os.geteuid() != 0


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(EvlgenError, match=r"^x\.json cannot be written: "):
        write_text("x.json", "text")


@pytest.mark.parametrize("name", ["zero\0byte", "half\ud800"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(EvlgenError, match=r"written: (a name cannot hold a zero byte|its name is no text)"):
        write_text(tmp_path / name, "text")


def test_a_full_disk_while_torch_writes(tmp_path: Path) -> None:
    """The real failure of the real writer: the process may write 4 KiB a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        for name in ("model.pth", "model.safetensors"):
            with pytest.raises(EvlgenError, match=rf"{name} cannot be written: File too large$"):
                write_tensors({"a": torch.zeros(10_000)}, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_in_a_library_of_rust(tmp_path: Path) -> None:
    """safetensors reports what the system said in the text of an error of its own."""
    with (
        pytest.raises(EvlgenError, match=r"model cannot be written: No space left on device"),
        replacing(tmp_path / "model"),
    ):
        raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(PermissionError), replacing(tmp_path / "model"):
        raise PermissionError(errno.EACCES, "about another file", "/elsewhere/file")
