"""Names of splits, and which clip or picture belongs to which, by the lists beside a captions file that names none.

MSVD (Chen and Dolan, ACL 2011): youtube_mapping.txt numbers the clips, and the split that everyone uses (Venugopalan et
al., NAACL 2015) goes by number; or train_list.txt, val_list.txt and test_list.txt. Flickr30k's token file: train.txt,
val.txt and test.txt of Flickr30k Entities. Both the data and the metrics room read such files, so this lies below both.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from evlgen.errors import UsageError

MSVD_CLIP = re.compile(r"[\w-]{11}_\d+_\d+")
"""A clip of MSVD: the YouTube id, then its start and end in seconds."""
MSVD_MAPPING = "youtube_mapping.txt"
MSVD_LISTS = "{}_list.txt"
FLICKR30K_LISTS = "{}.txt"

_OTHER_NAMES = {"validate": "val", "validation": "val", "valid": "val", "dev": "val", "training": "train"}
"""MSR-VTT says validate where others say val."""

_NUMBERED = re.compile(rf"({MSVD_CLIP.pattern})\s+vid(\d+)")
_LAST = (("train", 1200), ("val", 1300), ("test", 1970))
_SPLITS = ("train", "val", "test")


def usual_name(split: str) -> str:
    """What most data sets call a split: "validate" is "val"."""
    return _OTHER_NAMES.get(split, split)


def same_splits(name: str, there: Collection[str]) -> list[str]:
    """The splits among `there` that a name means: its own, or other spellings of it where none has its own."""
    return [name] if name in there else [split for split in there if usual_name(split) == usual_name(name)]


def listed_splits(captions: Path, first: str) -> dict[str, str]:
    """Name -> split, from lists beside a captions file; empty if there are none.

    Args:
        captions: a file whose rows name no split.
        first: the first name in it, which tells the data set.

    Raises:
        UsageError: a list cannot be read, a line is not what it must be, or two lists share a name.
    """
    folder = captions.parent
    if MSVD_CLIP.fullmatch(first):
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
