"""What makes a folder open with `trust_remote_code=True`: a file that imports evlgen, and `auto_map` that names it."""

from __future__ import annotations

import json
from pathlib import Path

from evlgen.configuration import CONFIG_FILE, MODEL_TYPE
from evlgen.errors import UsageError
from evlgen.system.files import write_text
from evlgen.system.jsons import read_json

STUB_FILE = "modeling_evlgen.py"
_STUB = '''\
"""This model runs on evlgen, which has to be installed: pip install evlgen. The code is there, not here."""

import evlgen.hub.auto_classes
import evlgen.hub.auto_config

EVLGenAutoConfig = evlgen.hub.auto_config.EVLGenAutoConfig
EVLGenAutoProcessor = evlgen.hub.auto_classes.EVLGenAutoProcessor
EVLGenModel = evlgen.hub.auto_classes.EVLGenModel
'''
_AUTO_MAP = {
    "AutoConfig": "modeling_evlgen.EVLGenAutoConfig",
    "AutoProcessor": "modeling_evlgen.EVLGenAutoProcessor",
    "AutoModelForImageTextToText": "modeling_evlgen.EVLGenModel",
}


def add_stub(folder: Path) -> None:
    """Write the stub into a model's folder, and say in its config.json that it is there.

    Raises:
        UsageError: the folder's config.json is none.
        EvlgenError: it cannot be written.
    """
    for name, text in stub_files(folder).items():
        write_text(folder / name, text)


def stub_files(folder: Path) -> dict[str, str]:
    """The stub, and what config.json of a model's folder says beside it: texts by file name; nothing is written.

    Raises:
        UsageError: the folder's config.json is none.
    """
    content = read_json(folder / CONFIG_FILE)
    if not isinstance(content, dict):
        raise UsageError(f"{folder / CONFIG_FILE} is no configuration of a model: expected an object")
    said = {"model_type": MODEL_TYPE, "architectures": ["EVLGenModel"], "auto_map": _AUTO_MAP}
    config = {**said, **{k: v for k, v in content.items() if k not in said}}
    start = config.get("connector", {}).get("source") or ""
    if Path(start.partition("#")[0]).expanduser().is_absolute():
        config["connector"] = {**config["connector"], "source": None}  # where training started, on one machine
    return {CONFIG_FILE: json.dumps(config, indent=2) + "\n", STUB_FILE: _STUB}
