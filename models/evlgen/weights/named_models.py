"""Finding models by name: one packaged with evlgen, a folder, or a hub repository; packaged language models as well."""

from importlib import resources
from pathlib import Path

from evlgen.configuration import CONFIG_FILE
from evlgen.errors import UsageError, WeightsError
from evlgen.system.hashes import sha256_of
from evlgen.weights.hub_client import PREFIX, hub_folder

WEIGHTS_FILE = "model.safetensors"
_PACKAGED_SHA256 = {
    "evlgen-mini": "3833cfe5bd2ade25ca90dbe83c0d64ea6d87f91af9f768acb35b05ad6c83d310",
    "captions": "1d04612e77f08acdd15fdb9257fab56bd0b1a94677c8f0907157777284753bd4",
}

LANGUAGE_PREFIX = "evlgen:"
"""In front of the name of a language model that ships inside the package, where a source is spelled."""


def _assets() -> Path:
    return Path(str(resources.files("evlgen"))) / "assets"


def _folders(root: Path) -> dict[str, Path]:
    return {p.name: p for p in sorted(root.glob("*")) if (p / CONFIG_FILE).is_file()} if root.is_dir() else {}


def packaged_models() -> dict[str, Path]:
    """Models that ship inside the package: name -> folder."""
    return _folders(_assets())


def packaged_language(source: str) -> Path:
    """The folder, in transformers' layout, of a language model that ships inside the package.

    Args:
        source: evlgen:NAME.

    Raises:
        UsageError: there is none of that name.
        WeightsError: its weights are not those that evlgen came with.
    """
    name, known = source.removeprefix(LANGUAGE_PREFIX), _folders(_assets() / "language")
    if name not in known:
        raise UsageError(f"no language model is called {source!r}", f"packaged: {', '.join(known)}")
    weights = known[name] / WEIGHTS_FILE
    if not weights.is_file() or sha256_of(weights) != _PACKAGED_SHA256[name]:
        raise WeightsError(f"{weights} is not the file that evlgen came with", "install evlgen again")
    return known[name]


def packaged_sha256(weights: Path) -> str | None:
    """The hash that a weight file inside the package has; None of other files, whose headers hold a checksum."""
    folder = weights.parent
    return _PACKAGED_SHA256.get(folder.name) if packaged_models().get(folder.name) == folder else None


def find_checkpoint(name_or_path: str) -> Path:
    """The folder of a packaged model, a local checkpoint, or a hub repository (owner/name[@revision]).

    Raises:
        UsageError: nothing of that name is found.
        WeightsError: it cannot be fetched from the hub.
    """
    packaged = packaged_models()
    if name_or_path in packaged:
        return packaged[name_or_path]
    path = Path(name_or_path.removeprefix(PREFIX)).expanduser()
    if (path / CONFIG_FILE).is_file():
        if (path / WEIGHTS_FILE).exists() and not (path / WEIGHTS_FILE).is_file():  # a pipe would be waited for
            raise UsageError(f"{path / WEIGHTS_FILE} is no regular file", "give the folder of a checkpoint")
        return path
    if path.is_dir():
        raise UsageError(f"{path} holds no {CONFIG_FILE}", "give the folder of a checkpoint")
    name = name_or_path.removeprefix(PREFIX).partition("@")[0]
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return hub_folder(name_or_path)
    raise UsageError(f"no model {name_or_path!r}", f"packaged: {', '.join(packaged) or 'none'}; or give a folder")
