"""Models of other makers by name: a folder, or a repository of the hub at a revision, and what is known without torch.

`hf:ID`, `hf:ID@REVISION` and `hf:./folder` are understood. What the hub's client has in its cache is used without a
network, and HF_HUB_OFFLINE=1 keeps it from asking for one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.system.hashes import checksum
from evlgen.system.jsons import read_json
from evlgen.weights.hub_client import PREFIX, hub_file

FIXED_FRAMES = {"instructblipvideo": 4}
"""Frames of models that take no other number, where their configuration does not say it."""
_WEIGHTS = ("*.safetensors", "*.bin")
_SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class FoundModel:
    """A model that is there.

    Attributes:
        source: folder or repository, as `from_pretrained` takes it.
        revision: the commit of a repository; None of a folder.
        folder: where its configuration lies.
        config: that configuration.
    """

    source: str
    revision: str | None
    folder: Path
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        """What transformers calls its architecture; empty where its configuration names none."""
        return str(self.config.get("model_type", ""))

    @property
    def is_evlgen(self) -> bool:
        """Whether it is one of our own."""
        return self.model_type in ("", "evlgen") and {"vision", "connector"} <= set(self.config)

    @property
    def weight_files(self) -> list[Path]:
        """Those that are on this machine: safetensors, or where there are none, others."""
        return next((found for name in _WEIGHTS if (found := sorted(self.folder.glob(name)))), [])

    def hashes(self) -> tuple[str, str]:
        """What changes with the weights, and what with anything else; of a repository its commit says both."""
        if self.revision is not None:
            return self.revision[:16], self.revision[:16]
        settings = sorted(path for name in _SETTINGS for path in self.folder.glob(name))
        return _hash_of([checksum(path).encode() for path in self.weight_files]), _hash_of(
            [path.name.encode() + b"\0" + path.read_bytes() for path in settings]
        )

    def licence(self) -> str | None:
        """What its card states, such as "apache-2.0"; None where there is no card, or it says nothing."""
        from huggingface_hub import ModelCard

        try:
            card = self.folder / "README.md"
            if self.revision is not None and not card.is_file():
                card = _fetched(self.source, "README.md", self.revision, self.source)
            data = ModelCard(card.read_text(encoding="utf-8", errors="replace")).data
        except Exception:  # whatever is wrong with a card, the model captions
            return None
        named = data.get("license_name") if data.get("license") == "other" else data.get("license")
        return None if named is None else str(named)


def find_model(text: str) -> FoundModel:
    """The model that a `--model hf:...` names.

    Raises:
        UsageError: there is no such model, or none that could be loaded.
        WeightsError: it cannot be fetched: no network, no permission.
    """
    name = text.removeprefix(PREFIX)
    path = Path(name).expanduser()
    if path.is_dir() or name.startswith((".", "/", "~")) or not name:
        if not path.is_dir() or not name:
            raise UsageError(f"no folder {name!r} for --model {text}", "give hf:OWNER/NAME[@REVISION], or hf:FOLDER")
        return FoundModel(str(path), None, path, _config(path / "config.json", text))
    repository, _, revision = name.partition("@")
    file = _fetched(repository, "config.json", revision or None, text)
    return FoundModel(repository, file.parent.name, file.parent, _config(file, text))


_fetched = cache(hub_file)  # asked for once in a process


def _config(file: Path, text: str) -> dict[str, Any]:
    if not file.is_file():
        raise UsageError(f"--model {text}: {file.parent} holds no {file.name}", "give the folder of a model")
    config = read_json(file)
    if not isinstance(config, dict):
        raise UsageError(f"{file} is no configuration of a model: expected an object")
    return config


def _hash_of(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
