"""A model's folder, looked through: which files make the model, whether they are whole, what they lack elsewhere.

Files are taken by what they are, never as a whole folder: states of optimizers, checkpoints of training and whatever
else lies there stay behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evlgen.configuration import CONFIG_FILE, FROZEN_PARTS, EVLGenConfig, source_beside
from evlgen.errors import UsageError, WeightsError
from evlgen.hub.stub import STUB_FILE
from evlgen.modeling.pretrained import read_tensors
from evlgen.system.names import printable
from evlgen.training.checkpoints import STATE_FILE
from evlgen.training.run_folder import BEST, RECIPE_FILE
from evlgen.weights.hub_client import PREFIX
from evlgen.weights.named_models import LANGUAGE_PREFIX, WEIGHTS_FILE, find_checkpoint, packaged_models

CARD_FILE = "README.md"
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")
_OF_LANGUAGE = (".json", ".safetensors", ".gguf", ".model", ".txt", ".jinja")
EVERYWHERE = ("pypi:", PREFIX, LANGUAGE_PREFIX)
"""How sources begin that are the same on every machine."""
_STATES = (STATE_FILE, "trainer_state.json", "optimizer.safetensors")


@dataclass(frozen=True)
class ModelFolder:
    """A model that can go elsewhere.

    Attributes:
        folder: where it lies.
        name: of the packaged model, of the run or of the folder.
        config: its configuration; frozen parts in the folder have their whole paths.
        parameters: numbers in its weight file.
        files: those that make the model, by their names below the folder, without config.json, card and stub.
        left_out: other files there.
    """

    folder: Path
    name: str
    config: EVLGenConfig
    parameters: int
    files: dict[str, Path]
    left_out: tuple[str, ...]

    @property
    def card(self) -> str | None:
        """The text of the card that lies there."""
        path = self.folder / CARD_FILE
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    @property
    def run(self) -> Path | None:
        """The folder of the training run whose best checkpoint this is."""
        run = self.folder.absolute().parent
        return run if self.folder.absolute().name == BEST and (run / RECIPE_FILE).is_file() else None

    def source(self, part: str) -> str | None:
        """Where a frozen part comes from; relative to the folder if it lies there."""
        return source_beside(getattr(self.config, part).source, self.folder)


def look_through(model: str | Path) -> ModelFolder:
    """Read a model's folder; its weights are compared with their checksum.

    Args:
        model: a packaged model, a folder, or a repository of the hub, which is fetched.

    Raises:
        UsageError: there is no model, or it is a checkpoint to resume training from.
        WeightsError: something of it is missing or damaged.
    """
    path = Path(model).expanduser()
    if str(model) not in packaged_models() and not (path / CONFIG_FILE).is_file() and (path / BEST).is_dir():
        raise UsageError(f"{path} is the folder of a run, not of a model", f"give {path / BEST}")
    folder = find_checkpoint(str(model))
    for state in _STATES:
        if (folder / state).is_file():
            raise UsageError(
                f"{folder} is a checkpoint to resume training from: it holds {state}",
                f"give the run's {folder.parent / BEST}",
            )
    config = EVLGenConfig.from_pretrained(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise WeightsError(f"{printable(folder)} holds no {WEIGHTS_FILE}", "train, convert or fetch the model again")
    tensors = read_tensors(weights)
    files = {WEIGHTS_FILE: weights}
    for part in FROZEN_PARTS:
        files |= _files_of_part(part, source_beside(getattr(config, part).source, folder), folder)
    files |= {name: folder / name for name in _LICENCES if (folder / name).is_file()}
    written = {CONFIG_FILE, CARD_FILE, STUB_FILE}
    others = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
    return ModelFolder(
        folder,
        _name(str(model), path, folder),
        config,
        sum(tensor.numel() for tensor in tensors.values()),
        files,
        tuple(name for name in others if name not in files and name not in written and not _hidden(name)),
    )


def check_portable(model: ModelFolder) -> None:
    """See that a model's frozen parts are there wherever it goes.

    Raises:
        UsageError: one is a file of this machine, or random.
    """
    hint = "evlgen models save MODEL --out FOLDER --with-parts copies it beside the model"
    for part in FROZEN_PARTS:
        source = model.source(part)
        if source is None:
            raise UsageError(
                f"{part}.source of {printable(model.folder)} is null: its frozen weights are random and kept nowhere",
                "train a model whose parts have a source",
            )
        if not source.startswith(EVERYWHERE) and inside(source) is None:
            raise UsageError(f"{part}.source {printable(source)} is a path on this machine, outside the model", hint)


def _name(model: str, path: Path, folder: Path) -> str:
    if model in packaged_models():
        return model
    place = folder.absolute()
    if place.name == BEST:
        place = place.parent
    elif model.startswith("hf:") or ("/" in model and not path.exists()):
        return model.removeprefix("hf:").partition("@")[0].rpartition("/")[2]
    return place.name


def inside(source: str) -> PurePosixPath | None:
    """The place below the folder that a source names, as `source_beside` gives it; None if it is elsewhere."""
    path = PurePosixPath(source.partition("#")[0])
    return None if path.is_absolute() or ".." in path.parts or source.startswith(("~", *EVERYWHERE)) else path


def _files_of_part(part: str, source: str | None, folder: Path) -> dict[str, Path]:
    """Files of a frozen part that lies in the folder."""
    place = inside(source) if source else None
    if place is None:
        return {}
    path = folder / place
    if path.is_file():
        return {place.as_posix(): path}
    found = language_files_in(path)
    if not any(name.endswith((".safetensors", ".gguf")) for name in found):
        raise WeightsError(f"{part}.source {printable(path)} holds no .safetensors", "save or fetch it again")
    return {(place / name).as_posix(): file for name, file in found.items()}


def language_files_in(folder: Path) -> dict[str, Path]:
    """Files of a language model in transformers' layout, by their names; states of training are left out."""
    return {
        path.name: path
        for path in sorted(folder.glob("*"))
        if path.is_file() and path.suffix in _OF_LANGUAGE and path.name not in _STATES
    }


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)
