"""A model of ours from the hub, with all that it needs, so that captioning asks for no network later."""

from __future__ import annotations

import logging
from pathlib import Path

from evlgen.captioners.hub_models import find_model
from evlgen.configuration import FROZEN_PARTS, EVLGenConfig
from evlgen.errors import UsageError
from evlgen.system.progress import ProgressCallback
from evlgen.weights import fetch
from evlgen.weights.hub_errors import PREFIX, explained
from evlgen.weights.named_models import find_checkpoint

_OF_LANGUAGE = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def pull(model: str, *, verify: bool = False, report: ProgressCallback | None = None) -> dict[str, Path]:
    """Fetch a model and its frozen parts into the caches; what is there already is not fetched.

    Args:
        model: hf:OWNER/NAME[@REVISION].
        verify: hash parts that are here already.
        report: told of downloads.

    Returns:
        where they are: "model", "vision" and "language".

    Raises:
        UsageError: there is no such model, or it is none of ours.
        WeightsError: it cannot be fetched.
    """
    found = find_model(model)
    if not found.is_evlgen:
        raise UsageError(
            f"{model} is no model of EVLGen: it is a {found.model_type or 'file of no known kind'}",
            f"hf download {found.source} fetches it, and so does captioning with --model {model}",
        )
    folder = find_checkpoint(model)
    config = EVLGenConfig.from_pretrained(folder)
    places = {"model": folder}
    for part in FROZEN_PARTS:
        source = getattr(config, part).source
        if source is None:
            continue
        if part == "language" and ".gguf" not in source:
            places[part] = language_snapshot(source)
        else:
            places[part] = fetch(source, report=report, verify=verify)
    return places


def language_snapshot(source: str) -> Path:
    """The folder of a language model in transformers' layout, fetched where it is at the hub.

    Raises:
        UsageError: there is none.
        WeightsError: it cannot be fetched.
    """
    if not source.startswith(PREFIX):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise UsageError(f"language.source {source} is not a folder", "for a hub repository write hf:owner/name")
        return folder
    from huggingface_hub import snapshot_download

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, _, revision = source.removeprefix(PREFIX).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=_OF_LANGUAGE))
    except Exception as error:
        raise explained(error, source) from None
