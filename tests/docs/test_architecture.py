"""Every file and every name that the walks and the README's map mention is in the source."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.collecting import ROOT, SOURCES, trees

WALKS = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAP = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Where things are")[2].partition("## Develop")[0]


@cache
def definitions() -> set[str]:
    """Classes, functions, attributes and constants of the source."""
    found: set[str] = set()
    for node in (node for tree in trees().values() for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            found |= {one.id for one in targets if isinstance(one, ast.Name)}
    return found


@pytest.mark.parametrize("text", [WALKS, MAP], ids=["walks", "map"])
def test_what_is_mentioned_exists(text: str) -> None:
    spans = re.findall(r"`([^`]+)`", text)
    files = {span for span in spans if re.fullmatch(r"[\w/.-]+(\.py|\.yaml|/)", span)}
    there = [
        str(path.relative_to(ROOT))
        for path in [*SOURCES, *(ROOT / "recipes").iterdir(), *(ROOT / "benchmarks").iterdir()]
    ]
    assert len(files) > 20
    assert {one for one in files if not any(_ends(path, one) for path in there)} == set()
    named = {part for span in spans if re.fullmatch(r"[A-Za-z_.]+", span) for part in span.split(".")}
    names = {name for name in named if re.search(r"[a-z][A-Z]|._.|^[A-Z]", name)}
    assert names - definitions() - {Path(one).stem for one in there} == set()


def _ends(path: str, mentioned: str) -> bool:
    return f"/{path}".endswith(f"/{mentioned}") or (mentioned.endswith("/") and f"/{mentioned}" in f"/{path}")
