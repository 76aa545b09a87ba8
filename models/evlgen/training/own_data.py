"""A recipe for one's own captions: what the file holds, what is held out to choose by, and steps that fit its size.

The recipe starts from evlgen-mini, whose parts a CPU can train. Where the file names no items to choose by, a copy of
it with splits is written beside the recipe: who is held out depends on the names alone, so that the same file always
gives the same split, and every other command (eval, compare) can use it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evlgen.annotations.caption_layouts import AnnotationRow, read_caption_rows
from evlgen.annotations.splits import same_splits
from evlgen.data.media import MediaStore
from evlgen.errors import UsageError
from evlgen.recipes.loading import load_recipe
from evlgen.system.files import write_text

BASE = "mini-small"
START = "evlgen-mini"
_SHOWN = 3


@dataclass(frozen=True)
class OwnData:
    """What a captions file holds.

    Attributes:
        captions: the file.
        media: folder or archive of the pictures and videos.
        train, validation: names of the items to learn from and to choose by.
        validation_split: what the file calls the latter; empty where it names none.
        rows: of the file.
        missing: names without a file in `media`.
    """

    captions: Path
    media: Path
    train: list[str]
    validation: list[str]
    validation_split: str
    rows: list[AnnotationRow]
    missing: list[str]

    @property
    def captions_per_item(self) -> float:
        """On average."""
        return sum(len(row.captions) for row in self.rows) / len({row.name for row in self.rows})


def look_at(captions: Path, media: Path | None = None) -> OwnData:
    """Read a captions file in any layout that training reads, and look for its files.

    Args:
        captions: JSONL, CSV, TSV or a published layout, with a column of files and one of captions.
        media: folder or archive of the files; None: the folder of `captions`.

    Raises:
        UsageError: the file cannot be read, has too few items, or none of its files is there.
    """
    rows = [row for row in read_caption_rows(captions, answers=True).rows if any(c.strip() for c in row.captions)]
    names = list(dict.fromkeys(row.name for row in rows))
    split_of = {row.name: row.split or "" for row in rows}
    media = captions.parent if media is None else media
    store = MediaStore(str(media))
    missing = [name for name in names if store.resolve(name) is None]
    if names and len(missing) == len(names):
        hint = "name their folder with --media" if media == captions.parent else "is it another folder?"
        raise UsageError(f"none of the {len(names)} files of {captions} is in {media}: {missing[0]}", hint)
    splits = list(dict.fromkeys(split_of.values()))
    held = next(iter(same_splits("val", splits)), "")
    learned = [name for name in names if split_of[name] in ("train", "")]
    if not learned:
        raise UsageError(
            f"{captions} has no items to train on: its splits are {', '.join(splits)}", "call the split train"
        )
    if held:
        validation = [name for name in names if split_of[name] == held]
        return OwnData(captions, media, learned, validation, held, rows, missing)
    if len(learned) < 2:
        raise UsageError(f"{captions} has {len(learned)} items, expected 2 or more", "one of them is held out")
    chosen = held_out(learned)
    return OwnData(captions, media, [n for n in learned if n not in chosen], sorted(chosen), "", rows, missing)


def held_out(names: Sequence[str]) -> set[str]:
    """The items to choose by: a tenth, a quarter of few, 1000 at most; those with the smallest SHA-256 of the name."""
    count = max(1, min(1000, max(len(names) // 10, min(len(names) // 4, 50))))
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def write_recipe(data: OwnData, out: Path) -> list[Path]:
    """Write a recipe, and the captions with their splits where the file has none; returns what was written.

    Args:
        data: see `look_at`.
        out: the recipe's file; its name, without the suffix, is that of the recipe.

    Raises:
        UsageError: it is there already, or its name cannot be a recipe's.
        EvlgenError: it cannot be written.
    """
    name = out.stem.lower()
    if out.suffix not in (".yaml", ".yml") or not re.fullmatch(r"[a-z0-9.-]+", name):
        raise UsageError(
            f"{out} cannot be a recipe: expected letters, digits, - and a name that ends in .yaml", "--out"
        )
    written, captions, split = [], data.captions, data.validation_split
    if not split:
        captions, split = out.with_name(f"{out.stem}.captions.jsonl"), "val"
        written.append(captions)
    for path in (out, *written):
        if path.exists():
            raise UsageError(f"{path} exists already", "name another file with --out")
    if written:
        write_text(captions, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _split_rows(data)))
    write_text(out, _recipe_text(replace(data, captions=captions, validation_split=split), out, name))
    load_recipe(str(out))  # it is valid, or this is a bug of ours
    return [out, *written]


def _split_rows(data: OwnData) -> list[dict[str, Any]]:
    """A row an item and prompt, with all of its captions."""
    held = set(data.validation)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in data.rows:
        split = "val" if row.name in held else row.split or "train"
        prompt = {"prompt": row.prompt} if row.prompt else {}
        gathered = rows.setdefault((row.name, row.prompt), {"file": row.name, "split": split, **prompt, "captions": []})
        gathered["captions"] += row.captions
    return list(rows.values())


def _recipe_text(data: OwnData, out: Path, name: str) -> str:
    items = len(data.train)
    per_step = 8 if items < 100 else 16 if items < 2000 else 24
    epochs = 10 if items < 100 else 5 if items < 2000 else 3
    steps = max(20, min(3000, -(-items * epochs // per_step)))
    every = max(5, steps // 5)
    per_item = max(1, min(3, int(data.captions_per_item)))
    split = data.validation_split
    source = f"captions: {_quoted(data.captions)}, media: {_quoted(data.media)}"
    score = f"evlgen eval --model runs/{name}/best --dataset {data.captions} --split {split} --media {data.media}"
    counts = f"{items} items to learn from, {len(data.validation)} to choose by"
    return f"""\
# {name}: evlgen-mini, trained on {data.captions.name}: {counts}.
#
# Command  evlgen data check --recipe {out}          (is every file there?)
#          evlgen train --recipe {out} --estimate    (memory, disk, time of a step)
#          evlgen train --recipe {out}               (Ctrl-C saves; evlgen train --resume --out runs/{name} goes on)
#          evlgen caption VIDEOS --model runs/{name}/best --out captions.jsonl
#          {score}
#          evlgen plot runs/{name}
#
# It starts from {START}. {steps} steps of {per_step} items are {steps * per_step / items:.3g} passes over the items;
# the best checkpoint by CIDEr + BLEU-4 on split {split} is kept, and step 0 is the start itself. If the best step is
# the last one, raise train.steps; if it is an early one, lower optimizer.learning_rate or collect more captions.
# docs/your-data.md says more, docs/recipe-keys.md has every key.

extends: {BASE}
name: {name}
summary: evlgen-mini trained on {data.captions.name}

model:  # {START} merges fewer tokens than {BASE}
  connector: {{r: [8, 8]}}

data:
  train:
    - {{{source}, split: train, views: 2}}
  validation:
    - {{{source}, split: {split}}}
  captions_per_item: {per_item}
  items_per_step: {per_step}

optimizer:
  learning_rate: 2.0e-4
  min_lr: 1.0e-5
  warmup_start_lr: 1.0e-5
  warmup_steps: {max(1, min(30, steps // 10))}

vocabulary:  # {BASE} begins with it; a trained model needs it no more
  steps: 0
  weight: 0.0

validation:
  every_steps: {every}
  loss_items: {min(len(data.validation), 100)}
  caption_items: {min(len(data.validation), 100)}

train:
  start_from: {START}
  steps: {steps}
  ema_decay: 0.9
  log_every: {max(1, min(20, steps // 10))}
"""


def _quoted(path: Path) -> str:
    return json.dumps(str(path.absolute()), ensure_ascii=False)


def said_of(data: OwnData) -> list[str]:
    """What was found, in lines."""
    lines = [
        f"{len(data.train)} items to learn from, {len(data.validation)} held out to choose by"
        + (f" (split {data.validation_split})" if data.validation_split else " (chosen by their names' hashes)")
        + f", {data.captions_per_item:.3g} captions each"
    ]
    if data.missing:
        shown = ", ".join(data.missing[:_SHOWN])
        lines.append(
            f"warning: {len(data.missing)} files are not in {data.media}: {shown}; a run leaves out 1%, no more"
        )
    return lines
