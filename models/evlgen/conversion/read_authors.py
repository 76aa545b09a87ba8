"""An authors' checkpoint into one of our folders.

- config.json, model.safetensors: as `save_pretrained` writes them, without the embeddings of prompt texts.
- vision.safetensors: the frozen tower, if the file holds it; config.json names it with its hash, relative to itself.
- language/: the frozen language model, if the file holds it, in transformers' layout.
- unused.safetensors: what neither model uses (a pooler, positions beyond the last token), so that `to_authors` gives
  the file back whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import torch
import transformers
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.conversion.authors_config import Assumed, infer_config, model_shapes
from evlgen.conversion.tensor_names import (
    POSITIONS,
    POSITIONS_OF_AUTHORS,
    TIED_HEAD,
    Family,
    Sorted,
    complaint,
    sort_tensors,
    to_theirs,
)
from evlgen.errors import EvlgenError, UsageError, WeightsError
from evlgen.modeling.language import load_config, load_tokenizer
from evlgen.modeling.pretrained import read_tensors, write_tensors
from evlgen.system.files import os_errors
from evlgen.system.hashes import sha256_of
from evlgen.weights.named_models import WEIGHTS_FILE

VISION_FILE, LANGUAGE_FOLDER, UNUSED_FILE = "vision.safetensors", "language", "unused.safetensors"
LANGUAGE_FILE = "model.safetensors"

GATES = "gates"
"""Metadata of model.safetensors: shapes of gates that the file given had as tensors of one number, not as scalars."""


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        folder: where.
        config: of the model.
        tensors: how many tensors each part has; a frozen part that the file did not hold has none.
        parameters: numbers in the trained tensors.
    """

    folder: Path
    config: EVLGenConfig
    tensors: dict[str, int]
    parameters: int


def convert(file: Path, folder: Path, assumed: Assumed | None = None, unused: tuple[str, ...] = ()) -> Converted:
    """Write a folder that `from_pretrained` and `train.start_from` read.

    Args:
        file: a torch pickle of {"model": tensors} or of tensors (read with weights_only), or safetensors.
        folder: to be made; must be new or empty.
        assumed: what the tensors do not tell.
        unused: prefixes of names that belong to no part of the model; kept aside.

    Raises:
        UsageError: the folder is not empty, or a frozen part has to be named.
        WeightsError: the file is damaged or not such a checkpoint; missing and unexpected names are told.
        EvlgenError: the folder cannot be written.
    """
    assumed = assumed or Assumed()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and is not an empty folder", "choose another folder")
    given = sort_tensors(read_tensors(file, inside="model"), unused)
    try:
        family = _family(given)
        config = infer_config(given, family, assumed)
        _keep_positions(given, config.vision.tokens)
        gates = _flatten_gates(given)
        _check(given, family, config)
    except EvlgenError as error:
        raise type(error)(f"{file}: {error.what}", error.hint) from None
    except pydantic.ValidationError as error:
        raise UsageError(f"{file}: {error.errors()[0]['msg']}") from None
    language = _language(given.language, config, family) if given.language else None
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        config, stored = _write_frozen(given, config, folder, language)
        if given.unused:
            write_tensors(given.unused, folder / UNUSED_FILE)
        config.save_pretrained(folder)
        metadata = {"frozen": json.dumps(stored)} | ({GATES: json.dumps(gates)} if gates else {})
        write_tensors(given.trained, folder / WEIGHTS_FILE, metadata)
    parts = {name: len(getattr(given, name)) for name in ("trained", "vision", "language", "unused")}
    return Converted(
        folder, EVLGenConfig.from_pretrained(folder), parts, sum(t.numel() for t in given.trained.values())
    )


def _family(given: Sorted) -> Family:
    if len(given.families) == 1:
        return next(iter(given.families))
    found = "both opt_ and llm_ tensors" if given.families else "neither opt_proj nor llm_proj"
    raise WeightsError(
        f"it holds {found}{_also(given.unknown)}",
        "expected is an EVLGen checkpoint as its authors write it, of OPT (opt_proj) or of Vicuna (llm_proj)",
    )


def _also(unknown: list[str]) -> str:
    text = complaint((), unknown, ())
    return f"; {text}" if text else ""


def _keep_positions(given: Sorted, tokens: int) -> None:
    """BERT's table has more positions than there are visual tokens; ours ends with the last token."""
    table = given.trained[POSITIONS]
    if len(table) > tokens:
        given.trained[POSITIONS], given.unused[POSITIONS_OF_AUTHORS] = table[:tokens], table[tokens:]


def _flatten_gates(given: Sorted) -> dict[str, list[int]]:
    """A gate is one number, in whatever shape; the shapes that are not the authors' own, which is that of a scalar."""
    shapes: dict[str, list[int]] = {}
    for name, tensor in given.trained.items():
        if name.endswith(".temporal.alpha") and tensor.numel() == 1:
            given.trained[name] = tensor.reshape(1)
            if tensor.dim():
                shapes[name] = list(tensor.shape)
    return shapes


def _check(given: Sorted, family: Family, config: EVLGenConfig) -> None:
    trained, vision = model_shapes(config)
    missing: list[str] = []
    unexpected: list[str] = list(given.unknown)
    shapes: list[str] = []
    for part, want in (("trained", trained), ("vision", vision if given.vision else {})):
        have: dict[str, Tensor] = getattr(given, part)
        theirs: dict[str, str] = {n: to_theirs(part, n, family) or n for n in {*want, *have}}  # type: ignore[arg-type]
        missing += [theirs[n] for n in want if n not in have]
        unexpected += [theirs[n] for n in have if n not in want]
        shapes += [
            f"{theirs[n]} {tuple(have[n].shape)} not {tuple(want[n])}"
            for n in want
            if n in have and have[n].shape != want[n]
        ]
    if text := complaint(missing, unexpected, shapes):
        raise WeightsError(
            f"it does not fit EVLGen as its authors write it: {text}",
            "what belongs to no part of the model can be kept aside with --unused PREFIX",
        )


def _language(tensors: dict[str, Tensor], config: EVLGenConfig, family: Family) -> tuple[Any, Any]:
    """transformers' configuration and the tokenizer of the file's language model; its tensors are checked."""
    settings, tokenizer = load_config(config.language), load_tokenizer(config.language)
    embeddings = [t for n, t in tensors.items() if n.endswith("embed_tokens.weight")]
    if embeddings:
        settings.vocab_size = len(embeddings[0])  # rows may have been added for a padding token
    with torch.device("meta"):
        want = transformers.AutoModelForCausalLM.from_config(settings).state_dict()
    tied = {TIED_HEAD} if settings.tie_word_embeddings else set()
    shapes = [
        f"{n} {tuple(tensors[n].shape)} not {tuple(want[n].shape)}"
        for n in want
        if n in tensors and tensors[n].shape != want[n].shape
    ]
    text = complaint(set(want) - set(tensors) - tied, set(tensors) - set(want), shapes)
    if text:
        raise WeightsError(f"{family}_model of the file does not fit language model {config.language.source}: {text}")
    return settings, tokenizer


def _write_frozen(
    given: Sorted, config: EVLGenConfig, folder: Path, language: tuple[Any, Any] | None
) -> tuple[EVLGenConfig, dict[str, str]]:
    """Write the frozen parts of the file; the configuration with their sources, and these sources alone.

    Only of parts that stood beside the trained tensors is it known that these were trained against them.
    """
    stored: dict[str, str] = {}
    if given.vision:
        write_tensors(given.vision, folder / VISION_FILE)
        stored["vision"] = f"{VISION_FILE}#sha256={sha256_of(folder / VISION_FILE)}"
    if language is not None:
        stored["language"] = LANGUAGE_FOLDER
        for part in language:  # transformers' configuration, and the tokenizer
            part.save_pretrained(folder / LANGUAGE_FOLDER)
        write_tensors(given.language, folder / LANGUAGE_FOLDER / LANGUAGE_FILE)
        without = {"language": config.language.model_copy(update={"architecture": None})}
        config = config.model_copy(update=without)
    return config.with_sources(stored), stored
