"""Converted files: built once, whole or not at all, by one process."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evlgen.errors import EvlgenError, WeightsError
from evlgen.system.hashes import checksum
from evlgen.weights import cache as cache_module
from evlgen.weights import derived
from evlgen.weights.derived import verify_derived
from tests.weights.tiny_wheel import files_in

derived_module = sys.modules["evlgen.weights.derived"]  # the package calls its function alike


def build(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "model.bin").write_bytes(b"converted")


def test_built_once(cache: Path) -> None:
    folder = derived("language-1", build)
    assert folder == cache / "derived" / "language-1"
    assert files_in(cache) == ["derived/language-1/manifest.json", "derived/language-1/sub/model.bin"]

    def again(folder: Path) -> None:
        raise AssertionError("built twice")

    assert derived("language-1", again) == folder


def test_a_file_that_was_cut_is_built_again(cache: Path) -> None:
    folder = derived("language-1", build)
    (folder / "sub" / "model.bin").write_bytes(b"conv")
    assert (derived("language-1", build) / "sub" / "model.bin").read_bytes() == b"converted"


def test_damage_that_kept_size_and_time_is_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = derived("language-1", build) / "sub" / "model.bin"
    before = path.stat()
    path.write_bytes(b"c\0\0\0erted")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr(derived_module, "_compared", {})  # another process
    assert (derived("language-1", build) / "sub" / "model.bin").read_bytes() == b"converted"


def test_files_are_compared_once_in_a_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived_module, "_compared", {})
    folder = derived("language-1", build)
    read: list[Path] = []
    monkeypatch.setattr(derived_module, "checksum", lambda path: read.append(path) or checksum(path))
    assert derived("language-1", build) == derived("language-1", build) == folder
    assert read == [folder / "sub" / "model.bin"]


@pytest.mark.parametrize("manifest", ["", "[]", "[" * 10_000, '{"checksums": 3}', '{"checksums": {"none": "x"}}', "{}"])
def test_a_damaged_manifest(manifest: str, cache: Path) -> None:
    folder = derived("language-1", build)
    (folder / "manifest.json").write_text(manifest)
    (folder / "sub" / "model.bin").write_bytes(b"x")
    assert (derived("language-1", build) / "sub" / "model.bin").read_bytes() == b"converted"


def test_what_is_built_is_readable_as_the_umask_says(cache: Path) -> None:
    def closed(folder: Path) -> None:
        build(folder)
        (folder / "sub" / "model.bin").chmod(0o600)

    before = os.umask(0o027)
    try:
        folder = derived("language-1", closed)
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (folder, folder / "sub" / "model.bin")] == [0o750, 0o640]


def test_verifying_removes_what_is_damaged(cache: Path) -> None:
    kept, damaged = derived("kept", build), derived("damaged", build)
    (damaged / "sub" / "model.bin").write_bytes(b"x")
    assert verify_derived() == (["kept"], ["damaged"])
    assert (kept.exists(), damaged.exists()) == (True, False)
    assert verify_derived() == (["kept"], [])


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        derived("language-1", fail)
    assert files_in(cache) == []
    with pytest.raises(WeightsError, match="nothing was built for language-1"):
        derived("language-1", lambda folder: None)


@pytest.mark.parametrize("library", ["python", "rust"])
def test_full_disk_while_building(library: str, cache: Path) -> None:
    def full(folder: Path) -> None:
        if library == "rust":  # as safetensors says it
            raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.bin"))

    with pytest.raises(EvlgenError, match="cannot be written: No space left on device"):
        derived("language-1", full)
    assert files_in(cache) == []


def test_other_failures_of_the_build_are_its_own(cache: Path) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/model.bin")

    with pytest.raises(PermissionError):
        derived("language-1", denied)


def test_keys_are_plain_names(cache: Path) -> None:
    with pytest.raises(ValueError, match="a key is letters"):
        derived("../up", build)


def test_two_processes_build_once(cache: Path, tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from evlgen.weights import derived\n"
        "def build(folder):\n"
        f"    with open({str(tmp_path / 'log')!r}, 'a') as log: log.write('built;')\n"
        "    time.sleep(0.2); (folder / 'model.bin').write_bytes(b'x')\n"
        "derived('language-1', build)"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built;"


@pytest.mark.parametrize(
    ("platform", "variables", "place"),
    [
        ("linux", {"EVLGEN_CACHE": "/fast/evlgen"}, "/fast/evlgen"),
        ("linux", {"XDG_CACHE_HOME": "/var/x"}, "/var/x/evlgen"),
        ("linux", {}, "HOME/.cache/evlgen"),
        ("darwin", {}, "HOME/Library/Caches/evlgen"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/evlgen/Cache"),
    ],
)
def test_where_the_cache_is(
    platform: str, variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EVLGEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_module.cache_root() == Path(place.replace("HOME", str(Path.home())))
