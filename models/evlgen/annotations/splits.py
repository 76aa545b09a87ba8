"""Names of splits, and which clip or picture belongs to which, by the lists beside a captions file that names none.

MSVD (Chen and Dolan, ACL 2011): youtube_mapping.txt numbers the clips, and the split that everyone uses (Venugopalan et
al., NAACL 2015) goes by number; or train_list.txt, val_list.txt and test_list.txt. Flickr30k's token file: train.txt,
val.txt and test.txt of Flickr30k Entities.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from evlgen.annotations.columns import MSVD_CLIP
from evlgen.errors import UsageError

MSVD_MAPPING = "youtube_mapping.txt"
MSVD_LISTS = "{}_list.txt"
FLICKR30K_LISTS = "{}.txt"

_OTHER_NAMES = {"validate": "val", "validation": "val", "valid": "val", "dev": "val", "training": "train"}
"""MSR-VTT says validate where others say val."""

_NUMBERED = re.compile(rf"({MSVD_CLIP})\s+vid(\d+)")
_LAST = (("train", 1200), ("val", 1300), ("test", 1970))
_SPLITS = ("train", "val", "test")


def usual_name(split: str) -> str:
    """What most data sets call a split: "validate" is "val"."""
    return _OTHER_NAMES.get(split, split)


def same_splits(name: str, there: Collection[str]) -> list[str]:
    """The splits among `there` that a name means: its own, or other spellings of it where none has its own."""
    return [name] if name in there else [split for split in there if usual_name(split) == usual_name(name)]


def chosen_splits(path: Path, asked: str, sizes: Mapping[str, int]) -> set[str]:
    """The splits of a file that are asked for.

    Args:
        path: the file, for errors.
        asked: a split, or several with + between.
        sizes: how many items each split of the file has.

    Raises:
        UsageError: there is no such split; all are told.
    """
    found = [same_splits(name, sizes) for name in ([asked] if asked in sizes else asked.split("+"))]
    if not all(found):
        listed = ", ".join(f"{name} ({size})" for name, size in sizes.items())
        raise UsageError(f"{path} has no split {asked!r}", f"its splits are {listed}" if sizes else "it names none")
    return {split for each in found for split in each}


def listed_splits(captions: Path, first: str) -> dict[str, str]:
    """Name -> split, from lists beside a captions file; empty if there are none.

    Args:
        captions: a file whose rows name no split.
        first: the first name in it, which tells the data set.

    Raises:
        UsageError: a list cannot be read, a line is not what it must be, or two lists share a name.
    """
    folder = captions.parent
    if re.fullmatch(MSVD_CLIP, first):
        return _numbered(folder / MSVD_MAPPING) or _lists(folder, MSVD_LISTS, "")
    return _lists(folder, FLICKR30K_LISTS, ".jpg") if first.endswith(".jpg") else {}


def _numbered(path: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for number, line in _lines(path):
        match = _NUMBERED.fullmatch(line)
        split = next((name for name, last in _LAST if match and 1 <= int(match[2]) <= last), None)
        if match is None or split is None:
            raise UsageError(
                f"{path} line {number}: expected a clip and vid1 to vid1970, such as mv89psg6zh4_33_46 vid1, found "
                f"{line[:40]!r}"
            )
        splits[match[1]] = split
    return splits


def _lists(folder: Path, pattern: str, suffix: str) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split in _SPLITS:
        path = folder / pattern.format(split)
        for number, line in _lines(path):
            if len(line.split()) > 1:
                raise UsageError(f"{path} line {number}: expected one name a line, found {line[:40]!r}")
            name = line.removesuffix(suffix) + suffix
            if splits.setdefault(name, split) != split:
                raise UsageError(f"{path} line {number}: {name} is in {pattern.format(splits[name])} as well")
    return splits


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers, blank ones left out; none if there is no such file."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "expected one name a line, in UTF-8") from None
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
