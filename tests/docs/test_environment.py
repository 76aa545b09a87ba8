"""The table of environment variables against the source: every variable that is read, and no other."""

import ast
import re
from collections.abc import Iterator

from evlgen.captioning import video_shards
from tests.docs.collecting import ROOT, trees

SET_ALONE = {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"}
"""Read by torch's and accelerate's own code; ours sets them for the processes that it starts."""


def variables(tree: ast.Module) -> Iterator[str]:
    """Names in os.environ[...], os.environ.get(...), os.getenv(...) and `in os.environ`; constants are looked up."""
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    environments = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and getattr(node.value, "attr", "") == "environ"
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def is_environment(node: ast.AST) -> bool:
        return getattr(node, "attr", "") == "environ" or getattr(node, "id", "") in environments

    for node in ast.walk(tree):
        named: ast.AST | None = None
        if isinstance(node, ast.Subscript) and is_environment(node.value):
            named = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if (node.func.attr == "get" and is_environment(node.func.value)) or node.func.attr == "getenv":
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
    read = {name for tree in trees().values() for name in variables(tree)}
    in_recipes = {
        name
        for path in (ROOT / "recipes").glob("*.yaml")
        for name in re.findall(r"\$\{?(EVLGEN_\w+)", path.read_text())
    }
    assert len(told) == len(set(told))
    parts = {name for _, *names in video_shards._VARIABLES for name in names if name}
    assert set(told) == read | in_recipes | SET_ALONE | parts
