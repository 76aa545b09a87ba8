"""The one reader of YAML: no key twice, bounded in size and depth, and bounded in what aliases make of it.

PyYAML's safe loader makes plain values only, but it takes the last of two equal keys without a word, falls over text
that is nested deeply, and lets a few lines of aliases stand for more values than any memory holds.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from evlgen.errors import UsageError
from evlgen.system.files import os_errors
from evlgen.system.jsons import MOST_DIGITS, decode_utf8

MOST_BYTES = 1 << 20
"""Size of the largest file that is read: a recipe has a few thousand."""
MOST_VALUES = 100_000
"""Values in a file at most, those that aliases repeat included."""


def read_text(path: Path) -> str:
    """The text of a recipe file, in UTF-8.

    Raises:
        UsageError: it is another encoding, or far too long.
        EvlgenError: it cannot be read.
    """
    with os_errors(path, "cannot be read"), path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UsageError(f"{path} has more than {MOST_BYTES:,} bytes: that is no recipe")
    return decode_utf8(content, str(path))


def parse_yaml(text: str, what: str) -> Any:
    """The value of YAML text.

    Args:
        text: the text.
        what: what to call it in errors.

    Raises:
        UsageError: it is not YAML, has a key twice, or is nested or repeated too much.
    """
    try:
        return deepcopy(_parsed(text, what))
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply") from None


@lru_cache(256)
def _parsed(text: str, what: str) -> Any:
    """Kept: most recipes extend others, and reading the same few files again is most of the time of `recipes ls`."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _weigh(node, what, {})
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none
        raise UsageError(f"{what} is not YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def _weigh(node: yaml.Node, what: str, weights: dict[int, int]) -> int:
    """How many values a node stands for; keys and the length of numbers are looked at on the way."""
    if id(node) not in weights:
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MOST_DIGITS:
            line = node.start_mark.line + 1
            raise UsageError(f"{what} holds a number of more than {MOST_DIGITS} digits, in line {line}")
        weights[id(node)] = MOST_VALUES + 1  # until it is known: a node that holds itself has no end
        inner = list(node.value) if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, what)
            inner = [one for pair in inner for one in pair]
        weights[id(node)] = 1 + sum(_weigh(one, what, weights) for one in inner)
    if weights[id(node)] > MOST_VALUES:
        raise UsageError(f"{what} stands for more than {MOST_VALUES:,} values, with what its aliases repeat")
    return weights[id(node)]


def _check_keys(node: yaml.MappingNode, what: str) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in seen:
                lines = f"line {seen[key.value]} and line {line}"
                raise UsageError(f"{what}: key {key.value!r} is there twice, in {lines}", "keep one of them")
            seen[key.value] = line
