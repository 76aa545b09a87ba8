"""The data sets by name."""

from __future__ import annotations

import difflib

from evlgen.annotations.splits import usual_name
from evlgen.data.datasets.caption_sets import COCO, FLICKR30K, MSRVTT, MSVD, NOCAPS, VATEX
from evlgen.data.datasets.description import PublishedSet, Split
from evlgen.data.datasets.question_sets import GQA, OKVQA, VQAV2
from evlgen.errors import UsageError

SETS = {one.name: one for one in (MSRVTT, MSVD, VATEX, COCO, FLICKR30K, NOCAPS, VQAV2, OKVQA, GQA)}


def find_set(name: str) -> PublishedSet:
    """A data set by its name; case, hyphens and underscores do not matter: MSR-VTT is msrvtt.

    Raises:
        UsageError: there is none; the nearest names are told.
    """
    plain = "".join(c for c in name.casefold() if c.isalnum())
    if plain in SETS:
        return SETS[plain]
    near = difflib.get_close_matches(plain, SETS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(SETS)}: evlgen data ls"
    raise UsageError(f"no data set is called {name!r}", hint)


def find_split(known: PublishedSet, name: str) -> Split:
    """A split by its name; validation and the like mean val.

    Raises:
        UsageError: there is none; all are told.
    """
    splits = {split.name: split for split in known.splits}
    found = splits.get(name) or splits.get(usual_name(name))
    if found is None:
        raise UsageError(f"{known.title} has no split {name!r}", f"its splits are {', '.join(splits)}")
    return found
