"""From the text of `--model` to its captioner: a table of kinds, told apart by what stands in front of the colon.

Each kind is a module with three functions, imported when one of them is called:

    identify_model(model) -> ModelIdentity          without loading weights
    resolve_dtype(dtype, device) -> str             every "auto" decided
    load_captioner(model, options, report) -> Captioner

`model` is the whole text, with what stands in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from evlgen.captioners.protocol import Captioner, LoadOptions, ModelIdentity
from evlgen.errors import UsageError
from evlgen.system.progress import ProgressCallback


@dataclass(frozen=True)
class CaptionerKind:
    """One make of models.

    Attributes:
        title: what messages call such models.
        module: below this room, with the functions that the table's module names.
        options: names of those `LoadOptions` that only some kinds take and this one does.
        batch_size: clips that are decoded ahead and go through the model together, unless the user says otherwise.
    """

    title: str
    module: str
    options: frozenset[str] = frozenset()
    batch_size: int = 16

    def identify(self, model: str) -> ModelIdentity:
        """What is known about a model without loading it.

        Raises:
            UsageError: there is no such model, or its configuration is not readable.
            WeightsError: it cannot be fetched.
        """
        identity: ModelIdentity = self._functions.identify_model(model)
        return identity

    def resolve_dtype(self, dtype: str, device: str) -> str:
        """The name of the arithmetic that `dtype` means on `device`, with every `auto` decided.

        Raises:
            UsageError: an unknown name, or a device that this machine does not have.
        """
        name: str = self._functions.resolve_dtype(dtype, device)
        return name

    def load(self, model: str, options: LoadOptions, report: ProgressCallback | None = None) -> Captioner:
        """Load a model; `report` is told about downloads.

        Raises:
            UsageError: no such model or device, or it cannot do what is asked.
            WeightsError: a weight file is missing or damaged.
        """
        captioner: Captioner = self._functions.load_captioner(model, options, report)
        return captioner

    def refuse(self, options: LoadOptions) -> None:
        """Raise a UsageError if an option is given that this kind does not take."""
        given = {
            "system_prompt": bool(options.system_prompt),
            "load_in": options.load_in is not None,
            "trust_remote_code": options.trust_remote_code,
        }
        for name in (name for name, is_given in given.items() if is_given and name not in self.options):
            raise UsageError(f"--{name.replace('_', '-')} means nothing to {self.title}", "leave it away")

    @property
    def _functions(self) -> Any:
        return import_module(f"evlgen.captioners.{self.module}")


EVLGEN = CaptionerKind("EVLGen's own models", "evlgen_captioner")

BY_PREFIX: dict[str, CaptionerKind] = {}
"""Kinds by what `--model` begins with, without the colon; any other text is an EVLGen model."""


def kind_of(model: str) -> CaptionerKind:
    """The kind of captioner that a `--model` names."""
    return BY_PREFIX.get(model.partition(":")[0], EVLGEN) if ":" in model else EVLGEN


def identify_model(model: str) -> ModelIdentity:
    """What is known about a model of any kind without loading it; see `CaptionerKind.identify`."""
    return kind_of(model).identify(model)
