"""The table of environment variables against the source: every variable that is read, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from evlgen.captioning import video_shards

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "models").rglob("*.py"), *(ROOT / "evlgen_cli").rglob("*.py")]
SET_ALONE = {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
"""Read by torch's and accelerate's own code; ours sets them for the processes that it starts."""


def variables(path: Path) -> Iterator[str]:
    """Names in os.environ[...], os.environ.get(...), os.getenv(...) and `in os.environ`; constants are looked up."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    environments = {"environ"} | {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == "os.environ"
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def is_environment(node: ast.AST) -> bool:
        return ast.unparse(node).removeprefix("os.") in environments

    for node in ast.walk(tree):
        named: ast.AST | None = None
        if isinstance(node, ast.Subscript) and is_environment(node.value):
            named = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if (node.func.attr == "get" and is_environment(node.func.value)) or ast.unparse(node.func) == "os.getenv":
                named = node.args[0]
        elif isinstance(node, ast.Compare) and is_environment(node.comparators[0]):
            named = node.left
        name = constants.get(named.id) if isinstance(named, ast.Name) else getattr(named, "value", None)
        if isinstance(name, str):
            yield name


def test_the_table_names_what_the_source_reads() -> None:
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \|", text.partition("What the libraries below")[0], re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    read = {name for path in SOURCES for name in variables(path)}
    in_recipes = {
        name
        for path in (ROOT / "recipes").glob("*.yaml")
        for name in re.findall(r"\$\{?(EVLGEN_\w+)", path.read_text())
    }
    assert len(told) == len(set(told))
    parts = {name for _, *names in video_shards._VARIABLES for name in names if name}
    assert set(told) == read | in_recipes | SET_ALONE | parts
