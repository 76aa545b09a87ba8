"""What the sections of a configuration have in common. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A section in which an unknown key is an error, and so is a number that is none or has no end."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


def differences(before: BaseModel, now: BaseModel) -> list[tuple[str, Any, Any]]:
    """(key, value before, value now) of every setting that differs."""
    return list(_pairs("", before.model_dump(mode="json"), now.model_dump(mode="json")))


def _pairs(place: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*now, *before]):
            yield from _pairs(f"{place}.{key}" if place else key, before.get(key), now.get(key))
    elif before != now:
        yield place, before, now


# Bounds that no model comes near: a file from elsewhere may ask for any number, and building it would never end.
Layers = Annotated[int, Field(gt=0, le=1_000)]
Heads = Annotated[int, Field(gt=0, le=10_000)]
Width = Annotated[int, Field(gt=0, le=100_000)]
Scale = Annotated[float, Field(ge=1e-6)]
Frames = Annotated[int, Field(gt=0, le=10_000)]
Tokens = Annotated[int, Field(gt=0, le=1_000_000)]
MOST_PARAMETERS = 1e11
