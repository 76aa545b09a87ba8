"""Keys of recipes that had another name: they keep working in files, in --set and in folders of runs."""

from __future__ import annotations

import warnings
from typing import Any

from evlgen.errors import RenamedWarning

RENAMED = {
    "optimizer.floor": "optimizer.min_lr",
    "optimizer.start": "optimizer.warmup_start_lr",
    "validation.beams": "validation.num_beams",
    "train.checkpoint_language": "train.gradient_checkpointing.language",
    "train.checkpoint_vision": "train.gradient_checkpointing.vision",
}


def new_key(key: str, value: Any) -> tuple[str, Any]:
    """A key such as "optimizer.floor" and its value, or a section and its keys, with today's names."""
    if key in RENAMED:
        _warn(key)
        return RENAMED[key], value
    return key, use_new_keys({key: value})[key]


def use_new_keys(content: dict[str, Any], *, warn: bool = True) -> dict[str, Any]:
    """The content of a recipe with today's keys; what it was read from stays as it is.

    Args:
        content: sections with their keys.
        warn: give a `RenamedWarning` for every old key.
    """
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        if not isinstance(content.get(section), dict) or key not in content[section]:
            continue
        if warn:
            _warn(old)
        values = dict(content[section])
        value = values.pop(key)
        content = {**content, section: values}
        *parents, last = new.split(".")[1:]
        for parent in parents:
            values[parent] = dict(values.get(parent, {}))
            values = values[parent]
        values[last] = value
    return content


def _warn(old: str) -> None:
    warnings.warn(f"the recipe key {old} is called {RENAMED[old]} now", RenamedWarning, stacklevel=3)
