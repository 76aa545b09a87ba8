"""From the text of `--model` to its captioner: a table of kinds, told apart by what stands in front of the colon.

Each kind is a module with two functions, imported when one of them is called:

    identify_model(model) -> ModelIdentity          without loading weights
    load_captioner(model, options, report) -> Captioner

`model` is the whole text, with what stands in front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from evlgen.captioners.hub_models import find_model
from evlgen.captioners.protocol import Captioner, LoadOptions, ModelIdentity
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.system.progress import ProgressCallback


@dataclass(frozen=True)
class CaptionerKind:
    """One make of models.

    Attributes:
        title: what messages call such models.
        module: below this room, with the functions that the table's module names.
        options: names on the command line of those `LoadOptions` that only some kinds take and this one does.
        batch_size: clips that are decoded ahead and go through the model together, unless the user says otherwise.
        elsewhere: the model runs behind a server, which chooses device and arithmetic, and samples but does not search.
        half_matrices: float16 on a CPU means matrices in float16 (`evlgen.modeling.half_matrices`), which is faster
            than float32, and not arithmetic in float16, which is slower by far.
    """

    title: str
    module: str
    options: frozenset[str] = frozenset()
    batch_size: int = 16
    elsewhere: bool = False
    half_matrices: bool = False

    def identify(self, model: str) -> ModelIdentity:
        """What is known about a model without loading it.

        Raises:
            UsageError: there is no such model, or its configuration is not readable.
            WeightsError: it cannot be fetched.
        """
        identity: ModelIdentity = self._functions.identify_model(model)
        return identity

    def resolve_dtype(self, dtype: str, device: str) -> str:
        """As `local_dtype`; behind a server it is the server's business, whatever is asked for."""
        return "server" if self.elsewhere else local_dtype(dtype, device, self.half_matrices)

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
            "concurrency": options.concurrency is not None,
            "r": options.r is not None,
            "request_timeout": options.request_timeout_seconds is not None,
            "device": self.elsewhere and options.device != "auto",
            "dtype": self.elsewhere and options.dtype != "auto",
        }
        for name in (name for name, is_given in given.items() if is_given and name not in self.options):
            raise UsageError(f"--{name.replace('_', '-')} means nothing to {self.title}", "leave it away")

    def search(self, decoding: DecodingOptions) -> DecodingOptions:
        """The options of a search that such models know, for what rows say: a server has no beams, whatever is usual.

        Raises:
            UsageError: others were asked for.
        """
        if not self.elsewhere:
            return decoding
        usual = DecodingOptions()
        for name in ("no_repeat_ngram", "repetition_penalty", "num_captions"):
            if getattr(decoding, name) != getattr(usual, name):
                raise UsageError(f"--{name.replace('_', '-')} means nothing to {self.title}", "leave it away")
        return replace(decoding, num_beams=1, min_new_tokens=0, length_penalty=usual.length_penalty)

    @property
    def _functions(self) -> Any:
        return import_module(f"evlgen.captioners.{self.module}")


def local_dtype(dtype: str, device: str, half_matrices: bool = False) -> str:
    """The name of the arithmetic that `dtype` means on `device`, with every `auto` decided.

    Args:
        dtype: of the command line.
        device: of the command line.
        half_matrices: as of `CaptionerKind`.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    from evlgen.modeling.half_matrices import has_half_products
    from evlgen.modeling.hardware import pick_device, pick_dtype

    where = pick_device(device)
    halves = half_matrices and where == "cpu" and has_half_products()
    found = dtype if halves and dtype == "float16" else str(pick_dtype(dtype, where)).removeprefix("torch.")
    return "float16" if halves and (dtype, found) == ("auto", "float32") else found


EVLGEN = CaptionerKind("EVLGen's own models", "evlgen_captioner", frozenset({"r"}), half_matrices=True)

BY_PREFIX: dict[str, CaptionerKind] = {
    "openai": CaptionerKind(
        "an endpoint",
        "openai_endpoint",
        frozenset({"system_prompt", "concurrency", "request_timeout"}),
        elsewhere=True,
    ),
    "open_clip": CaptionerKind("open_clip's CoCa", "coca_captioner", batch_size=8),
    "hf": CaptionerKind(
        "models of transformers",
        "hub_captioner",
        frozenset({"system_prompt", "load_in", "trust_remote_code"}),
        batch_size=4,
    ),
}
"""Kinds by what `--model` begins with, without the colon; any other text is an EVLGen model."""


def kind_of(model: str) -> CaptionerKind:
    """The kind of captioner that a `--model` names; `hf:` may name an EVLGen model, as its configuration tells.

    Raises:
        EvlgenError: what `hf:` names is not there, or cannot be reached.
    """
    prefix, colon, _ = model.partition(":")
    kind = BY_PREFIX.get(prefix, EVLGEN) if colon else EVLGEN
    return EVLGEN if prefix == "hf" and colon and find_model(model).is_evlgen else kind


def possible_options(model: str) -> frozenset[str]:
    """Options that the model may take (`CaptionerKind.options`), as far as its name tells; asks nobody."""
    prefix, colon, _ = model.partition(":")
    kind = BY_PREFIX.get(prefix, EVLGEN) if colon else EVLGEN
    return kind.options | (EVLGEN.options if prefix == "hf" else frozenset())  # hf: may name one of ours


def identify_model(model: str) -> ModelIdentity:
    """What is known about a model of any kind without loading it; see `CaptionerKind.identify`."""
    return kind_of(model).identify(model)


def short_name(model: str) -> str:
    """What files are called after: of a `--model` its last name, without where it is or which revision."""
    return Path(model.partition("@")[0] if ":" in model else model).name.replace(":", "-")
