"""What the sections of a configuration have in common. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A section in which an unknown key is an error, and so is a number that is none or has no end."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


# Bounds that no model comes near: a file from elsewhere may ask for any number, and building it would never end.
Layers = Annotated[int, Field(gt=0, le=1_000)]
Heads = Annotated[int, Field(gt=0, le=10_000)]
Width = Annotated[int, Field(gt=0, le=100_000)]
Scale = Annotated[float, Field(ge=1e-6)]
Frames = Annotated[int, Field(gt=0, le=10_000)]
Tokens = Annotated[int, Field(gt=0, le=1_000_000)]
MOST_PARAMETERS = 1e11
