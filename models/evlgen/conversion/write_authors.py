"""One of our folders back into the authors' layout: {"model": tensors by their names}."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import TomeFormerConfig
from evlgen.conversion.authors_config import model_shapes
from evlgen.conversion.read_authors import GATES, UNUSED_FILE
from evlgen.conversion.tensor_names import POSITIONS_OF_AUTHORS, Family, Part, to_theirs
from evlgen.errors import UsageError
from evlgen.modeling.language import load_config
from evlgen.modeling.pretrained import read_tensors, write_tensors
from evlgen.system.jsons import parse_json
from evlgen.weights import fetch
from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint


@dataclass(frozen=True)
class Restored:
    """What was written.

    Attributes:
        file: where.
        family: `opt` or `llm`, the prefix of the language model's tensors.
        tensors: how many tensors each part has.
    """

    file: Path
    family: Family
    tensors: dict[str, int]


def to_authors(model: str, file: Path, *, family: Family | None = None, frozen: bool = False) -> Restored:
    """Write the authors' layout: safetensors if the file is called so, otherwise a torch pickle.

    What `convert` kept in unused.safetensors is put back. After further training, copy that file beside the new
    model.safetensors to have their table of positions in its full length.

    Args:
        model: one of our folders, or a model's name.
        file: to be written.
        family: `opt` or `llm`; without it, `opt` if the configured language model is an OPT.
        frozen: also the frozen parts, from the files that config.json names.

    Raises:
        UsageError: the authors' model has no place for a tensor, or a frozen part is not in files.
        WeightsError: a file is missing or damaged.
    """
    folder = find_checkpoint(model)
    config = EVLGenConfig.from_pretrained(folder)
    if not isinstance(config.connector, TomeFormerConfig):
        kind = config.connector.kind
        raise UsageError(f"the connector of {folder} is of kind {kind}, the authors' is TomeFormer", "convert another")
    if config.connector.norm == "pre":
        raise UsageError(f"the connector of {folder} is pre-norm, the authors' is not", "their layout cannot hold it")
    if family is None:
        family = "opt" if load_config(config.language).model_type == "opt" else "llm"
    trained = _shape_gates(read_tensors(folder / WEIGHTS_FILE), folder / WEIGHTS_FILE)
    if not config.language.learned_prompt:  # the language model's own embeddings
        trained = {n: t for n, t in trained.items() if not n.startswith("prompt_")}
    ours: list[tuple[Part, dict[str, Tensor]]] = [("trained", trained)]
    if frozen:
        ours += [("vision", _vision(config)), ("language", _language(config))]
    out: dict[str, Tensor] = {}
    nowhere: list[str] = []
    for part, tensors in ours:
        for name, tensor in tensors.items():
            theirs = to_theirs(part, name, family)
            if theirs is None:
                nowhere.append(name)
            else:
                out[theirs] = tensor
    if nowhere:
        raise UsageError(
            f"the authors' layout has no place for {len(nowhere)} tensors of {folder}: {', '.join(sorted(nowhere)[:3])}"
        )
    unused = read_tensors(folder / UNUSED_FILE) if (folder / UNUSED_FILE).is_file() else {}
    counts: dict[str, int] = {part: len(tensors) for part, tensors in ours}
    counts["unused"] = len(unused)
    if POSITIONS_OF_AUTHORS in unused:
        rows = [out[POSITIONS_OF_AUTHORS], unused.pop(POSITIONS_OF_AUTHORS)]
        out[POSITIONS_OF_AUTHORS] = torch.cat([rows[0], rows[1].to(rows[0].dtype)])
    out.update(unused)
    write_tensors(out, file)
    return Restored(file, family, counts)


def _shape_gates(trained: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Gates as scalars, which is what the authors' model expects, or as they were in the file that was converted."""
    with safe_open(file, framework="pt") as opened:
        shapes = parse_json((opened.metadata() or {}).get(GATES, "{}"), f"{GATES} in the header of {file}")
    gates = {name: t.reshape(shapes.get(name, [])) for name, t in trained.items() if name.endswith(".temporal.alpha")}
    return trained | gates


def _vision(config: EVLGenConfig) -> dict[str, Tensor]:
    if config.vision.source is None or config.vision.layout != "timm":
        raise UsageError("the vision tower is not in a file with timm's names", "leave out --frozen")
    tensors = read_tensors(fetch(config.vision.source))
    return {name: tensors[name] for name in model_shapes(config)[1] if name in tensors}


def _language(config: EVLGenConfig) -> dict[str, Tensor]:
    files = sorted(Path(config.language.source or "").expanduser().glob("*.safetensors"))
    if not config.language.source or not files:
        raise UsageError(
            f"language model {config.language.source} is not in safetensors of a folder", "leave out --frozen"
        )
    return {name: tensor for file in files for name, tensor in read_tensors(file).items()}
