"""Where the files of a language model lie: a folder, evlgen's package, a hub repository, or a GGUF file.

A GGUF file is converted once: it becomes safetensors in the cache, since reading one takes many seconds. Nothing here
imports transformers unless there is something to convert.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch

from evlgen.configuration import LanguageConfig
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling.gguf_header import check_gguf
from evlgen.modeling.transformers_opening import quiet_transformers, reason_of, with_all_weights
from evlgen.system.hashes import sha256_of
from evlgen.weights import FileSource, derived, fetch
from evlgen.weights.named_models import LANGUAGE_PREFIX, packaged_language

CONVERSION = 1
"""Raise when converted files change meaning."""


def language_files(config: LanguageConfig, report: Any = None) -> dict[str, Any]:
    """Where the files of a language model are, as arguments of transformers' from_pretrained.

    Args:
        config: its `source` is a GGUF file, an evlgen: name, an hf: repository or a folder.
        report: progress callback of `evlgen.weights.fetch`.

    Raises:
        WeightsError: the source cannot be had, or converted.
        UsageError: it is not there.
    """
    source = config.source
    assert source is not None
    if ".gguf" in source:
        return {"pretrained_model_name_or_path": str(_converted(fetch(source, report=report), source))}
    if source.startswith(LANGUAGE_PREFIX):
        return {"pretrained_model_name_or_path": str(packaged_language(source))}
    if source.startswith("hf:"):
        name, _, revision = source.removeprefix("hf:").partition("@")
        return {"pretrained_model_name_or_path": name, "revision": revision or None}
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UsageError(f"language.source {source} is not a folder", "for a hub repository write hf:owner/name")
    return {"pretrained_model_name_or_path": str(folder)}


def _converted(gguf: Path, source: str) -> Path:
    """A folder with the same model as safetensors in bfloat16; a Q4 file's values fit it to 3 digits."""

    def build(folder: Path) -> None:
        import transformers

        options: dict[str, Any] = {}
        if hasattr(transformers, "GgufConfig"):  # newer releases keep the weights packed unless told otherwise
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        where["trust_remote_code"] = False
        check_gguf(gguf)
        with quiet_transformers(), redirect_stderr(io.StringIO()):  # the converter draws a bar of its own
            try:
                options |= {"dtype": torch.bfloat16, "output_loading_info": True}
                opened = transformers.AutoModelForCausalLM.from_pretrained(**where, **options)
                model, tokenizer = (
                    with_all_weights(opened, str(gguf)),
                    transformers.AutoTokenizer.from_pretrained(**where),
                )
            except WeightsError:
                raise
            except Exception as error:  # a stranger's file may bring its readers to any error at all
                raise WeightsError(f"{gguf} cannot be read as a GGUF model: {reason_of(error)}") from error
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    digest = (FileSource.parse(source).sha256 or sha256_of(gguf))[:16]
    return derived(f"gguf-{CONVERSION}-{digest}", build)
