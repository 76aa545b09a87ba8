"""Finding a trained model by name: packaged with evlgen, a folder, or a hub repository."""

from importlib import resources
from pathlib import Path

from evlgen.configuration import CONFIG_FILE
from evlgen.errors import UsageError
from evlgen.weights.hub_client import PREFIX, hub_folder

WEIGHTS_FILE = "model.safetensors"
_PACKAGED_SHA256 = {
    "evlgen-mini": "dfcab77c10abb23cb82dc0823e79b063ce986515984cf2120f4e30c20cd612f6",
}


def packaged_models() -> dict[str, Path]:
    """Models that ship inside the package: name -> folder."""
    root = Path(str(resources.files("evlgen"))) / "assets"
    return {p.name: p for p in sorted(root.glob("*")) if (p / CONFIG_FILE).is_file()} if root.is_dir() else {}


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
