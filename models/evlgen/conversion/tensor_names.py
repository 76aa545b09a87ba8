"""Tensor names of the authors' checkpoints (LAVIS spelling) and ours, as one table that is read in both directions.

What a checkpoint holds belongs to one of four parts: what is trained, the frozen vision tower (under timm's names), the
frozen language model (under transformers' names), and what neither their model nor ours uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Part = Literal["trained", "vision", "language", "unused"]
Family = Literal["opt", "llm"]
"""Their two prefixes of the language model: `opt_` for OPT, `llm_` for Vicuna."""

FAMILIES: dict[str, Family] = {"opt": "opt", "vicuna": "llm"}

TABLE: tuple[tuple[str, Part, str], ...] = (
    ("visual_encoder.blocks.{n}.temporal_merge.", "trained", "vision.trunk.blocks.{n}.temporal."),
    ("visual_encoder.", "vision", ""),
    ("ln_vision.", "trained", "ln_vision."),
    ("VL_proj.", "trained", "vl_proj."),
    ("VLconnector.pooler.", "unused", "VLconnector.pooler."),
    ("VLconnector.embeddings.position_ids", "unused", "VLconnector.embeddings.position_ids"),
    ("VLconnector.", "trained", "connector."),
    ("{family}_proj.", "trained", "lm_proj."),
    ("{family}_model.", "language", ""),
)
"""Their prefix, the part, our prefix; the first row that fits counts."""

POSITIONS = "connector.embeddings.position_embeddings.weight"
POSITIONS_OF_AUTHORS = "VLconnector.embeddings.position_embeddings.weight"

BUFFER = ".rotary_emb.inv_freq"
"""Constants that old releases of transformers saved with a Llama."""

TIED_HEAD = "lm_head.weight"
"""The same tensor as the input embeddings in OPT. What saves without frozen parameters may leave this name in."""


def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{family\}", "(?P<family>opt|llm)")
    return re.compile(text)


_FROM_AUTHORS = [(_pattern(theirs), part, ours) for theirs, part, ours in TABLE]
_FROM_OURS = [(_pattern(ours), part, theirs) for theirs, part, ours in TABLE]


def to_ours(name: str) -> tuple[Part, str, Family | None] | None:
    """Part, our name, and the family if the name tells it; None if the authors' model has no such name."""
    for pattern, part, ours in _FROM_AUTHORS:
        if match := pattern.match(name):
            groups = match.groupdict()
            family: Family | None = groups.get("family")  # type: ignore[assignment]
            return part, ours.format(n=groups.get("n")) + name[match.end() :], family
    return None


def to_theirs(part: Part, name: str, family: Family) -> str | None:
    """The authors' name of one of our tensors; None if their model has no place for it."""
    for pattern, of_part, theirs in _FROM_OURS:
        if of_part == part and (match := pattern.match(name)):
            return theirs.format(n=match.groupdict().get("n"), family=family) + name[match.end() :]
    return None


@dataclass
class Sorted:
    """The tensors of an authors' checkpoint by part, under our names; unused ones under theirs.

    Attributes:
        families: `opt`, `llm`, or both in a file that is no checkpoint.
        unknown: names that the authors' model does not have.
    """

    trained: dict[str, Tensor] = field(default_factory=dict)
    vision: dict[str, Tensor] = field(default_factory=dict)
    language: dict[str, Tensor] = field(default_factory=dict)
    unused: dict[str, Tensor] = field(default_factory=dict)
    families: set[Family] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


def sort_tensors(tensors: dict[str, Tensor], unused: Iterable[str] = ()) -> Sorted:
    """Sort the tensors of an authors' checkpoint.

    Args:
        tensors: by the authors' names.
        unused: prefixes of further names to keep aside.
    """
    out = Sorted()
    aside = tuple(unused)
    for name, tensor in tensors.items():
        found = to_ours(name)
        if (aside and name.startswith(aside)) or name.endswith(BUFFER):
            out.unused[name] = tensor
        elif found is None:
            out.unknown.append(name)
        else:
            part, ours, family = found
            getattr(out, part)[ours] = tensor
            if family is not None:
                out.families.add(family)
    if set(out.language) == {TIED_HEAD}:
        (family,) = out.families
        out.unused[f"{family}_model.{TIED_HEAD}"] = out.language.pop(TIED_HEAD)
    return out


def complaint(missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[str]) -> str:
    """What does not fit, in one line: counts and the first few names; empty if all fits."""
    parts = []
    for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if found := sorted(names):
            parts.append(f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})")
    return "; ".join(parts)
