"""What the result of a step depends on, as plain values: its settings, the data it reads, the model it starts from.

Captions files count by their content, archives of media by their size, shards by size and time, folders of media by
their name alone: to look at every file would take longer than some steps. Who changes pictures inside a folder removes
the step's folder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from evlgen.captioners.opening import identify_model
from evlgen.captioning.discover import find_videos
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.shards.listing import ShardFiles
from evlgen.evaluating.prediction import caption_request, find_data
from evlgen.recipes import DataSource, Recipe, expand_path, expand_variables
from evlgen.recipes.chain_schema import AnyStep, CaptionStep, EvalStep, TrainStep
from evlgen.recipes.renamed_keys import use_new_keys
from evlgen.system.hashes import sha256_of
from evlgen.workflow.chain_steps import prediction_of
from evlgen.workflow.state import StepRecord

HASHED_BYTES = 256 << 20
"""Files that are larger count by size and time instead of their content."""

_OF_THE_RUN = {
    "train": {
        "accumulation_steps", "checkpoint_seconds", "explode_factor", "gradient_checkpointing", "log_every", "sharding",
        "trackers",
    },
    "data": {"max_broken_share", "shard_cache_gb"},
}  # fmt: skip
"""Keys of sections that say how a run goes, and not what comes out."""


def settings_of(step: AnyStep, recipe: Recipe | None) -> dict[str, Any]:
    """Everything that decides the result of a step, apart from the steps it refers to.

    Args:
        step: of a valid chain.
        recipe: the one that it works on, if any, as the chain has it: without what it starts from another step.

    Raises:
        UsageError: a file, a model or a variable that the step names is not there.
    """
    own = step.model_dump(mode="json", exclude={"name", "recipe", "set", "concurrency", *step.references()})
    if recipe is not None:
        return {**own, "recipe": _recipe_facts(recipe), "data": [_source_facts(s) for s in _sources(recipe)]} | (
            {"start": _model_facts(str(expand_path(recipe.train.start_from)))}
            if isinstance(step, TrainStep) and recipe.train.start_from is not None and step.start_from is None
            else {}
        )
    if isinstance(step, EvalStep):
        asked = prediction_of(step)
        found = find_data(asked)
        beams = caption_request(asked, found).decoding.num_beams
        return {**own, "num_beams": beams, "data": [file_facts(path) for path in found.files]}
    if isinstance(step, CaptionStep):
        videos = find_videos([str(expand_path(text)) for text in step.videos])
        return {**own, "found": [[video.name, *_stamp(video.path)] for video in videos]}
    return own


def dependencies_of(step: AnyStep, records: dict[str, StepRecord], names: set[str]) -> dict[str, str]:
    """Key of a reference -> digest of what it refers to: an earlier step's result, or a model from outside.

    Args:
        step: of a valid chain.
        records: of the steps before it, which are done.
        names: of all steps.

    Raises:
        UsageError: there is no such model.
    """
    found = {key: records[wanted].digest for key, (wanted, _) in step.references().items()}
    if isinstance(step, EvalStep | CaptionStep):
        found["model"] = (
            records[step.model].digest if step.model in names else _model_facts(expand_variables(step.model))
        )
    return found


def changes(before: Any, now: Any, key: str = "") -> list[str]:
    """What differs between two settings, in words: "train.steps is 5, was 4"; what is long is only named.

    A key that is not there, null and false are the same: nothing is wanted. Recipes have today's names of keys.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        if not key and isinstance(before.get("recipe"), dict):
            before = {**before, "recipe": use_new_keys(before["recipe"], warn=False)}
        keys = [k for k in (*now, *(k for k in before if k not in now)) if _wanted(before, k) != _wanted(now, k)]
        return [text for k in keys for text in changes(before.get(k), now.get(k), f"{key}.{k}" if key else k)]
    key = key.removeprefix("recipe.")
    if any(isinstance(value, dict | list) for value in (before, now)):
        return [f"{key} has changed"]
    return [f"{key} is {now}, was {before}"]


def _wanted(settings: dict[str, Any], key: str) -> Any:
    return None if settings.get(key) is False else settings.get(key)


def file_facts(path: Path) -> Any:
    """Return what stands for a file: the hash of captions (64 bits), or size and time where large; an archive's size;
    of a folder "folder".
    """
    if path.is_dir():
        return "folder"
    size, time = _stamp(path)
    if path.suffix not in {".jsonl", ".json", ".csv", ".tsv", ".txt"}:
        return size
    return file_hash(path) if size <= HASHED_BYTES else [size, time]


def file_hash(path: Path) -> str:
    """64 bits of a file's content, in hexadecimal."""
    return sha256_of(path)[:16]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


def _recipe_facts(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json", exclude={"name", "summary"})
    for section, keys in _OF_THE_RUN.items():
        values[section] = {key: value for key, value in values[section].items() if key not in keys}
    return values


def _sources(recipe: Recipe) -> list[DataSource]:
    return [*recipe.data.train, *recipe.data.validation]


def _source_facts(source: DataSource) -> list[Any]:
    if source.shards:
        listed = [[s.path, s.size, s.stamp] for s in ShardFiles(source.shards).shards]
        return [hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]]
    source = resolve_source(source)
    captions, media = expand_path(source.captions), expand_path(source.media)
    return [
        file_facts(captions) if captions.exists() else "missing",
        file_facts(media) if media.exists() else "missing",
    ]


def _model_facts(name: str) -> str:
    identity = identify_model(name)
    return f"{identity.hash} {identity.config_hash}"
