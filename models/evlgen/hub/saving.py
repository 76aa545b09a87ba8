"""A model of the hub brought here, and a model in a folder of its own: as it is, or with its frozen parts beside it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from safetensors import safe_open

from evlgen.captioners.hub_models import find_model
from evlgen.configuration import FROZEN_PARTS, EVLGenConfig, source_beside
from evlgen.errors import UsageError, WeightsError
from evlgen.hub.model_folder import CARD_FILE, ModelFolder, inside, language_files_in, look_through
from evlgen.hub.stub import add_stub
from evlgen.modeling.pretrained import read_tensors, write_tensors
from evlgen.modeling.tensor_checksums import KEY as CHECKSUM
from evlgen.system.files import os_errors
from evlgen.system.progress import ProgressCallback
from evlgen.weights import fetch
from evlgen.weights.hub_client import PREFIX, hub_folder
from evlgen.weights.named_models import LANGUAGE_PREFIX, WEIGHTS_FILE, find_checkpoint, packaged_language

_OF_LANGUAGE = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def save(model: str, out: Path, *, with_parts: bool = False, report: ProgressCallback | None = None) -> list[str]:
    """Write a model into a new folder, which transformers' Auto classes open; all of it or nothing.

    Args:
        model: a packaged model, a folder, or a repository of the hub.
        out: the folder; it is missing or empty.
        with_parts: copy frozen parts into it as well, so that it needs neither index nor hub nor this machine.
        report: told of downloads.

    Returns:
        the names of its files.

    Raises:
        UsageError: there is no such model, it is no model but a training checkpoint, or `out` holds something.
        WeightsError: something of the model is missing, damaged, or cannot be fetched.
        EvlgenError: the folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there and is not an empty folder", "choose another folder")
    found = look_through(model)
    with os_errors(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name[:40]}.") as aside:
            folder = Path(aside) / "model"
            _fill(folder, found, with_parts, report)
            folder.rename(out)
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def _fill(folder: Path, model: ModelFolder, with_parts: bool, report: ProgressCallback | None) -> None:
    folder.mkdir()
    for name, path in model.files.items():
        _copy(path, folder / name)
    if model.card is not None:
        _copy(model.folder / CARD_FILE, folder / CARD_FILE)
    model.config.with_sources({part: _moved(model, part, folder) for part in FROZEN_PARTS}).save_pretrained(folder)
    if with_parts:
        _add_parts(folder, report)
    add_stub(folder)


def _moved(model: ModelFolder, part: str, folder: Path) -> str | None:
    """The source of a part: its copy, if it lay in the model's own folder."""
    source = model.source(part)
    return source if source is None or inside(source) is None else f"{folder.absolute()}/{source}"


def _add_parts(folder: Path, report: ProgressCallback | None) -> None:
    """Copy what the configuration names from elsewhere, and name the copies in it and in the weights' header."""
    config = EVLGenConfig.from_pretrained(folder)
    sources = {}
    for part in FROZEN_PARTS:
        source = getattr(config, part).source
        if source is None:
            raise WeightsError(f"{part}.source is null: its weights are random and kept nowhere", "train another model")
        path, mark, digest = source.partition("#")
        if Path(path).is_relative_to(folder.absolute()):
            sources[part] = source
        elif part == "language" and ".gguf" not in source:
            for name, file in language_files_in(language_snapshot(source)).items():
                _copy(file, folder / part / name)
            sources[part] = str(folder.absolute() / part)
        else:
            file = fetch(source, report=report)
            _copy(file, folder / part / file.name)
            sources[part] = f"{folder.absolute() / part / file.name}{mark}{digest}"
    config.with_sources(sources).save_pretrained(folder)
    weights = folder / WEIGHTS_FILE
    with safe_open(weights, framework="pt") as file:
        metadata = {key: value for key, value in (file.metadata() or {}).items() if key not in ("format", CHECKSUM)}
    metadata["frozen"] = json.dumps({part: source_beside(source, folder) for part, source in sources.items()})
    write_tensors(read_tensors(weights), weights, metadata)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


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
    """The folder of a language model in transformers' layout: evlgen's own, one here, or one of the hub, fetched.

    Raises:
        UsageError: there is none.
        WeightsError: it cannot be fetched.
    """
    if source.startswith(LANGUAGE_PREFIX):
        return packaged_language(source)
    if not source.startswith(PREFIX):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise UsageError(f"language.source {source} is not a folder", "for a hub repository write hf:owner/name")
        return folder
    return hub_folder(source, _OF_LANGUAGE)
