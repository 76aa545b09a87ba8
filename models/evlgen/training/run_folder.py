"""The folder of a run: its recipe, what may be changed when it goes on, which shards it draws from, who works in it.

`recipe.json` has every setting of the run, so that `--resume` needs none of them again. A run that goes on keeps what
decides its results; how it is watched, saved and spread over processes may change. With other shards than those that
`shards.json` names it would draw other samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evlgen.data.shards import FoundShards
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes.loading import override_recipe
from evlgen.recipes.renamed_keys import use_new_keys
from evlgen.recipes.schema import KEPT, Recipe
from evlgen.sections import differences
from evlgen.system.files import write_text
from evlgen.system.jsons import parse_json, read_json, write_json
from evlgen.system.locks import held_alone
from evlgen.training.checkpoints import STATE_FILE, finish_rename
from evlgen.training.run_log import RunLog

RECIPE_FILE = "recipe.json"
LOCK_FILE = ".lock"
LAST, BEST = "last", "best"
_SHOWN = 60  # letters of a value
_MAY_CHANGE = {
    "optimizer", "validation", "summary", "data.shard_cache_gb", "data.max_broken_share", "train.accumulation_steps",
    "train.gradient_checkpointing", "train.sharding", "train.explode_factor",
    "train.checkpoint_seconds", "train.log_every", "train.trackers", "scst.cider_drop", "scst.bad_endings_rise",
    "scst.patience",
}  # fmt: skip
"""Sections and keys that a resumed run may change; the rest decides what the run is."""


def kept_recipe(folder: Path) -> Recipe:
    """The recipe of the run in a folder, with every setting it was started with.

    Raises:
        UsageError: the folder holds no run.
        EvlgenError: recipe.json is damaged.
    """
    kept = folder / RECIPE_FILE
    if not kept.is_file():
        raise UsageError(f"{folder} holds no run to resume", "start without --resume")
    try:
        return Recipe.model_validate(use_new_keys(read_json(kept), warn=False), context={KEPT: True})
    except (EvlgenError, ValueError, AttributeError) as error:
        reason = " ".join(str(getattr(error, "what", error)).split())
        raise EvlgenError(f"{kept} is damaged: {reason}", "start a new run in another --out") from None


def keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Write recipe.json.

    Raises:
        EvlgenError: the folder cannot be written; what was there stays.
    """
    write_text(folder / RECIPE_FILE, recipe.model_dump_json(indent=2) + "\n", hint="free some disk, or name another")


def resumed_recipe(folder: Path, overrides: Sequence[str], wanted: Recipe | None) -> tuple[Recipe, list[str]]:
    """The recipe that a run in a folder goes on with, and a line for every setting worth a word.

    The run's own settings stay, overrides come on top. What the recipe's file says otherwise by now is named.

    Args:
        folder: of the run.
        overrides: "a.b=value", for this run from now on.
        wanted: the recipe as its file has it now, overrides included; None: only the folder was named.

    Raises:
        UsageError: there is no run, it is of another recipe, or an override is not valid.
        EvlgenError: recipe.json is damaged.
    """
    before = kept_recipe(folder)
    if wanted is not None and wanted.name != before.name:
        raise UsageError(
            f"{folder} was started with another recipe: it holds a run of {before.name}, not of {wanted.name}",
            "choose another --out",
        )
    recipe = override_recipe(before, overrides)
    notes = [
        f"changed for the rest of this run: {key} is {_short(now)}, was {_short(then)}"
        for key, then, now in differences(before, recipe)
    ]
    if wanted is not None:
        notes += [
            f"kept as the run was started: {key} is {_short(own)}, the recipe has {_short(elsewhere)} "
            "(--set changes what may change)"
            for key, own, elsewhere in differences(recipe, wanted)
        ]
    return recipe, notes


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def check_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    """Refuse what would mix two runs or lose one, before anything costs time.

    Raises:
        UsageError: the folder holds a run and `resume` is not set, holds none or one of another recipe and it is; or
            its last checkpoint is gone although steps were done.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected the folder of a run", "choose another --out")
    for name in (LAST, BEST):
        finish_rename(folder / name)
    if not (folder / RECIPE_FILE).is_file():
        if resume:
            raise UsageError(f"{folder} holds no run to resume", "start without --resume")
        return
    if not resume:
        raise UsageError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
    if changed := _forbidden(recipe, folder):
        raise UsageError(
            f"{folder} was started with another recipe: {', '.join(changed)} differ",
            "leave these settings as they were, or choose another --out for a new run",
        )
    _check_last(folder)


def _check_last(folder: Path) -> None:
    """Going on from step 0 would lose what was done, without a word."""
    last, best = folder / LAST, folder / BEST
    if (last / STATE_FILE).is_file():
        return
    records = RunLog(folder).records()
    steps = max((int(row["step"]) + 1 for row in records if "lr" in row), default=0)
    if not steps and not last.exists() and (records or not best.exists()):
        return  # it was stopped before its first checkpoint: nothing is lost
    held = sorted(path.name for path in last.iterdir()) if last.is_dir() else []
    there = f"holds {', '.join(held) or 'nothing'} but no {STATE_FILE}" if last.exists() else "is missing"
    done = f" after {steps} logged steps" if steps else ""
    hint = f"start a new run with --set train.start_from={best}" if best.is_dir() else "start a new run"
    raise UsageError(f"{folder} cannot be resumed{done}: its checkpoint {last} {there}", f"{hint} in another --out")


def may_go_on(recipe: Recipe, folder: Path) -> bool:
    """Whether `folder` holds a run that may be resumed with this recipe."""
    return (folder / RECIPE_FILE).is_file() and not _forbidden(recipe, folder)


def _forbidden(recipe: Recipe, folder: Path) -> list[str]:
    """section or section.key of what differs from the run's own and may not."""
    found = []
    for key, _, _ in differences(kept_recipe(folder), recipe):
        section, _, rest = key.partition(".")
        short = f"{section}.{rest.partition('.')[0]}" if rest else section
        if section not in _MAY_CHANGE and short not in _MAY_CHANGE:
            found.append(short)
    return list(dict.fromkeys(found))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while this is open.

    Raises:
        EvlgenError: one is there already, who is named; or the folder cannot be made.
    """
    with held_alone(folder / LOCK_FILE, f"the folder {folder}", hint="wait for its end, or choose another --out"):
        yield


SHARDS_FILE = "shards.json"


def keep_shards(found: Sequence[FoundShards], folder: Path, resume: bool) -> None:
    """Write down the shards of a new run; of a resumed one, look whether they are still the same.

    Args:
        found: the sources of shards, in the order of the recipe; none: nothing is done.
        folder: of the run.
        resume: whether it goes on.

    Raises:
        UsageError: the run was started on other shards.
        EvlgenError: the folder cannot be written, or what was kept is damaged.
    """
    if not found:
        return
    path = folder / SHARDS_FILE
    now = [
        {"shards": len(one.samples), "samples": int(one.samples.sum()), "digest": one.digest, "name": one.name}
        for one in found
    ]
    if resume and path.is_file():
        for before, here in zip(_kept(path), now, strict=False):
            if before["digest"] != here["digest"]:
                raise UsageError(
                    f"{folder} was started on other shards: {here['name']} has {here['samples']} samples in "
                    f"{here['shards']} shards, it had {before['samples']} in {before['shards']}",
                    "bring back the shards and the files with their numbers, or start a new run in another --out",
                )
        return
    write_json(path, now, indent=2, hint="free some disk, or choose another --out")


def check_alike(digests: Sequence[str], processes: int) -> None:
    """See that all processes found the same shards: on disks of their own some may lack what others have.

    Args:
        digests: of every source, process after process.
        processes: how many there are.

    Raises:
        UsageError: they differ.
    """
    each = len(digests) // processes
    if any(digests[n] != digests[n % each] for n in range(len(digests))):
        raise UsageError(
            "the processes of this run find different shards",
            "every machine needs all of them, or none of a missing one",
        )


def _kept(path: Path) -> list[dict[str, Any]]:
    try:
        kept: list[dict[str, Any]] = parse_json(path.read_bytes(), "it")
        if not all({"digest", "samples", "shards"} <= one.keys() for one in kept):
            raise ValueError("it does not say which shards there were")
    except (OSError, UsageError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise EvlgenError(f"{path} is damaged: {reason}", "start a new run in another --out") from None
    return kept
