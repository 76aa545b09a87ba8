"""Folders of fake videos, and the fakes in place."""

from pathlib import Path

import pytest

from . import fakes


@pytest.fixture
def captioner(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeCaptioner:
    """The fake model (and decoder) that runs of this test use."""
    captioner = fakes.FakeCaptioner()
    fakes.install(monkeypatch.setattr, captioner)
    return captioner


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Six videos in two folders, equal basenames among them."""
    folder = tmp_path / "videos"
    for name in ("clip1.mp4", "clip2.mp4", "clip10.mp4", "sub/clip1.mp4", "sub/deep/clip1.webm", "sub/clip3.mkv"):
        fakes.write_video(folder / name, f"caption of {name}")
    return folder
