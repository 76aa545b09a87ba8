"""Miniatures of published data sets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.published_sets import SETS


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """`made("msvd")` is the root of a miniature."""

    def make(name: str) -> Path:
        root = tmp_path / "own" / name
        root.mkdir(parents=True)
        SETS[name](root)
        return root

    return make
