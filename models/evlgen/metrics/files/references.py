"""Captions that people wrote, as data sets publish them.

COCO and NoCaps annotations, Karpathy's splits of COCO, Flickr30k and Flickr8k, MSR-VTT's videodatainfo, VATEX, MSVD's
text and table, and plain rows or objects. Shapes are those of the published files; nothing else in them is read.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.metrics.files.contents import References
from evlgen.metrics.files.fields import (
    GROUP_COLUMNS,
    REFERENCE_COLUMNS,
    counted,
    find,
    id_note,
    id_text,
    is_mapping,
    is_row,
    row_id,
    second_id,
    shown,
    shown_keys,
    texts,
    wrapped_rows,
)
from evlgen.metrics.files.opening import Source, inspect
from evlgen.metrics.files.predictions import is_own
from evlgen.metrics.files.records import Row, json_value, list_rows, rows
from evlgen.splits import listed_splits, same_splits

LAYOUTS = (
    "known are COCO and NoCaps annotations, Karpathy's splits, MSR-VTT's videodatainfo, VATEX, {id: [captions]}, "
    "and rows with an id and captions"
)


def read_references(path: Path | str, *, split: str | None = None) -> References:
    """Read captions that people wrote, in any known layout; it is found from the content.

    Args:
        path: the file.
        split: only this split of a file that has splits, or several with + between; by default all of them, and a note
            says so.

    Raises:
        UsageError: it cannot be read, is of no known layout, or has no such split; file and line are named.
    """
    path = Path(path)
    source = inspect(path)
    collected = _Collected(path, split)
    if source.form != "json":
        return collected.result(_take_rows(collected, source, rows(source)))
    value = json_value(source)
    if isinstance(value, dict):
        value = wrapped_rows(value, REFERENCE_COLUMNS) or value
    if isinstance(value, list):
        return collected.result(_take_rows(collected, source, list_rows(path, value)))
    if not isinstance(value, dict):
        raise UsageError(f"{path} is JSON of no known layout: it is {shown(value)}", LAYOUTS)
    return collected.result(_take_object(collected, source, value))


def _take_object(collected: "_Collected", source: Source, value: dict[str, Any]) -> str:
    path = source.path
    images, annotations = _objects(path, value, "images"), _objects(path, value, "annotations")
    videos, sentences = _objects(path, value, "videos"), _objects(path, value, "sentences")
    if images and "sentences" in images[0]:
        return _take_karpathy(collected, images)
    if annotations and ("question_id" in annotations[0] or "answers" in annotations[0]):
        raise UsageError(f"{path} holds answers to questions, expected captions")
    if annotations and "image_id" in annotations[0]:
        return _take_coco(collected, images, annotations)
    if sentences and "video_id" in sentences[0]:
        return _take_msr_vtt(collected, videos, sentences)
    if is_row(value, REFERENCE_COLUMNS):
        return _take_rows(collected, replace(source, form="lines"), [("line 1", value)])
    if is_mapping(value):
        for key, captions in value.items():
            collected.add(key, texts(path, f"id {shown(key)}", captions, "the caption"))
        return "JSON object {id: captions}"
    raise UsageError(f"{path} is JSON of no known layout: it has {shown_keys(value)}", LAYOUTS)


def _take_coco(collected: "_Collected", images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> str:
    for number, image in enumerate(images, start=1):
        key = _field_id(collected.path, f"images entry {number}", image, "id")
        collected.declare(key, image, alias=image.get("file_name"))
    for number, row in enumerate(annotations, start=1):
        where = f"annotations entry {number}"
        key = _field_id(collected.path, where, row, "image_id")
        if "caption" not in row:
            raise UsageError(
                f"{collected.path} {where}: no caption, only {shown_keys(row)}",
                "COCO's captions are in captions_*.json, not in instances_*.json",
            )
        collected.add(key, texts(collected.path, where, row["caption"], "caption"))
    return "NoCaps annotations" if any("domain" in image for image in images) else "COCO annotations"


def _take_karpathy(collected: "_Collected", images: list[dict[str, Any]]) -> str:
    for number, image in enumerate(images, start=1):
        where = f"images entry {number}"
        # people number COCO's images by COCO's own ids, and call Flickr's by file name
        names = [name for name in ("cocoid", "filename", "imgid") if name in image]
        key = _field_id(collected.path, where, image, names[0] if names else "cocoid")
        collected.declare(key, image, alias=image[names[1]] if len(names) > 1 else None)
        captions = texts(collected.path, where, image.get("sentences"), "sentences")
        collected.add(key, captions)
    return "Karpathy's splits"


def _take_msr_vtt(collected: "_Collected", videos: list[dict[str, Any]], sentences: list[dict[str, Any]]) -> str:
    for number, video in enumerate(videos, start=1):
        collected.declare(_field_id(collected.path, f"videos entry {number}", video, "video_id"), video)
    for number, row in enumerate(sentences, start=1):
        where = f"sentences entry {number}"
        key = _field_id(collected.path, where, row, "video_id")
        collected.add(key, texts(collected.path, where, row.get("caption"), "caption"))
    return "MSR-VTT videodatainfo"


def _take_rows(collected: "_Collected", source: Source, read: Iterable[Row]) -> str:
    path = source.path
    stream = iter(read)
    first = next(stream, None)
    if first is None:
        raise UsageError(f"{path} has no rows", LAYOUTS)
    names = first[1]
    if is_own(names):
        raise UsageError(f"{path} holds captions that evlgen made, expected references", "are the two files swapped?")
    # MSVD's table has one row a caption in many languages, and a clip is a video with a start and an end in seconds
    clip = [find(tuple(names), (name,)) for name in ("videoid", "start", "end", "description")]
    msvd = source.form == "table" and all(clip)
    language = find(tuple(names), ("language",)) if msvd else None
    note = None if msvd else id_note(names)
    collected.notes.extend([note] if note else [])
    foreign = 0
    splits: dict[str, str] | None = None
    for where, row in chain([first], stream):
        key = "_".join(str(row[name]) for name in clip[:3] if name) if msvd else row_id(path, where, row)
        if language is not None and row[language] != "English":
            foreign += 1
            continue
        captions = _row_captions(path, where, row)
        if splits is None:  # such files name no splits; lists beside them may
            plain = msvd or source.form == "text" or source.delimiter == "|"
            splits = listed_splits(path, key) if plain else {}
        collected.declare(key, {**row, "split": splits[key]} if key in splits else row, alias=second_id(row))
        collected.add(key, captions)
    if foreign:
        collected.notes.append(f"{counted(foreign, 'caption', 'captions')} in languages other than English left out")
    if msvd:
        return "MSVD table"
    if find(tuple(names), ("encap",)):
        return "VATEX"
    return source.rows_layout


def _row_captions(path: Path, where: str, row: Mapping[str, Any]) -> list[str]:
    column = find(tuple(row), REFERENCE_COLUMNS)
    if column is not None:
        return texts(path, where, row[column], column)
    numbered = [name for name in row if name.casefold().startswith("caption") and name[7:].strip(" _").isdigit()]
    if not numbered:
        raise UsageError(
            f"{path} {where}: no caption column, only {shown_keys(row)}",
            f"expected one of {', '.join(REFERENCE_COLUMNS)}",
        )
    return [one for name in numbered for one in texts(path, where, row[name], name)]


def _objects(path: Path, value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under a name; empty if there is none, or if it holds something else, such as captions."""
    found = value.get(name)
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return []
    for number, one in enumerate(found, start=1):
        if not isinstance(one, dict):
            raise UsageError(f"{path} {name} entry {number}: expected an object, found {shown(one)}")
    return found


def _field_id(path: Path, where: str, row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        raise UsageError(f"{path} {where}: no {name}, only {shown_keys(row)}")
    return id_text(path, where, row[name], name)


class _Collected:
    """Reference sets as they come in."""

    def __init__(self, path: Path, split: str | None) -> None:
        self.path = path
        self.split = split
        self.captions: dict[str, list[str]] = {}
        self.splits: dict[str, str] = {}
        self.named_groups: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.notes: list[str] = []

    def declare(self, key: str, row: Mapping[str, Any], alias: object = None) -> None:
        """An item and what is known about it; its captions may follow."""
        self.captions.setdefault(key, [])
        if row.get("split") not in (None, ""):
            split = str(row["split"])
            if self.splits.setdefault(key, split) != split:
                raise UsageError(f"{self.path}: {key!r} is in split {self.splits[key]!r} and in split {split!r}")
        name = find(tuple(row), GROUP_COLUMNS)
        if name is not None and row[name] not in (None, ""):
            self.named_groups[key] = str(row[name])
        if isinstance(alias, str | int):
            self.aliases[key] = str(alias)

    def add(self, key: str, captions: list[str]) -> None:
        """Some more captions of an item."""
        self.captions.setdefault(key, []).extend(captions)

    def result(self, layout: str) -> References:
        """What was collected, of the split that was asked for.

        Raises:
            UsageError: there is no such split, or no caption at all.
        """
        notes = [*self.notes]
        chosen = self._chosen(notes)
        captions = {key: [one for one in self.captions[key] if one.strip()] for key in chosen}
        blank = sum(len(self.captions[key]) for key in chosen) - sum(map(len, captions.values()))
        if blank:
            notes.append(f"{counted(blank, 'reference caption is', 'reference captions are')} empty and left out")
        captions = {key: found for key, found in captions.items() if found}
        if not captions:
            raise UsageError(f"{self.path} has no captions" + (f" in split {self.split!r}" if self.split else ""))
        bare = len(chosen) - len(captions)
        if bare:
            notes.append(f"{counted(bare, 'item has', 'items have')} no captions and left out")
        several = self.split is None and len(set(self.splits.values())) > 1
        groups = self.named_groups or (self.splits if several else {})
        return References(
            path=self.path,
            layout=layout,
            captions=captions,
            groups={key: groups[key] for key in captions if key in groups},
            notes=tuple(notes),
            aliases={key: self.aliases[key] for key in captions if key in self.aliases},
        )

    def _chosen(self, notes: list[str]) -> list[str]:
        sizes = Counter(self.splits.values())
        listed = ", ".join(f"{name} ({size})" for name, size in sizes.items())
        if self.split is None:
            if len(sizes) > 1:
                notes.append(f"the splits {listed} are used together; choose one with --split")
            return list(self.captions)
        names = [self.split] if self.split in sizes else self.split.split("+")
        found = [same_splits(name, sizes) for name in names]
        if not all(found):
            have = f"the splits of {self.path} are {listed}" if sizes else f"{self.path} has no splits"
            raise UsageError(f"no split {self.split!r}: {have}")
        if self.split == "train" and "restval" in sizes:
            notes.append(f"split restval ({sizes['restval']}) is often trained on as well, and is not in split train")
        wanted = {split for each in found for split in each}
        return [key for key in self.captions if self.splits.get(key) in wanted]
