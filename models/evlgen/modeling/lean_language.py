"""A frozen language model for captioning alone: a Llama decoder of our own, the tokenizers package, no transformers.

It starts in a tenth of the time that transformers' classes take to be imported, and a step costs half of theirs
(benchmarks/lean_decoder.py). It cannot be trained: adapters are part of its matrices. Models that it does not know
(`load_lean_language` gives None) run through transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from evlgen.configuration import LanguageConfig
from evlgen.errors import WeightsError
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.llama import KeyValueCache, LlamaDecoder, LlamaShape
from evlgen.system.jsons import read_json
from evlgen.system.names import printable

_FILES = ("config.json", "tokenizer.json", "model.safetensors")


class PlainTokenizer:
    """A tokenizer.json behind the two methods of transformers' tokenizers that captions need.

    Args:
        file: the tokenizer.json.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._core = Tokenizer.from_file(str(file))
        self._core.no_padding()
        self._core.no_truncation()

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._core.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        text: str = self._core.decode(ids, skip_special_tokens=skip_special_tokens)
        return text


class LeanLanguageModel(LanguageModel):
    """A language model that `LlamaDecoder` runs.

    Args:
        config: which model, and the texts around soft prompts.
        decoder: its layers, with their adapters in them.
        tokenizer: its tokenizer.
    """

    def __init__(self, config: LanguageConfig, decoder: LlamaDecoder, tokenizer: PlainTokenizer) -> None:
        super().__init__(config, tokenizer)
        self.decoder = decoder
        self._look()

    @property
    def layers(self) -> Any:
        """Its transformer layers, a ModuleList."""
        return self.decoder.layers

    @property
    def embedding_weight(self) -> Tensor:
        """Input embeddings (V, W)."""
        return self.decoder.embeddings

    @property
    def head_weight(self) -> Tensor:
        """Output embeddings (V, W)."""
        return self.decoder.head

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V), in float32, of last hidden states (..., W)."""
        return self.decoder.logits(hidden).float()

    def halve_matrices(self) -> None:
        """Keep matrices in float16; see `evlgen.modeling.half_matrices`."""
        self.decoder.halve_matrices()

    @property
    def most_positions(self) -> int:
        """The most tokens that it takes."""
        return self.decoder.shape.max_position_embeddings

    def new_cache(self) -> KeyValueCache:
        """An empty cache of keys and values for `run`."""
        return KeyValueCache(len(self.decoder.layers))

    def run(self, embeddings_BTW: Tensor, bias_B1TC: Tensor | None, positions_BT: Tensor, cache: Any = None) -> Tensor:
        """Last hidden states; see `LanguageModel.run`."""
        hidden: Tensor = self.decoder(embeddings_BTW, bias_B1TC, positions_BT, cache)
        return hidden


def load_lean_language(
    config: LanguageConfig, folder: Path, trained: Mapping[str, Tensor], dtype: torch.dtype
) -> LeanLanguageModel | None:
    """The language model of a folder, for captioning alone; None where it is none that `LlamaDecoder` knows.

    Args:
        config: of the language model.
        folder: with config.json, tokenizer.json and model.safetensors, as transformers writes them.
        trained: tensors of a checkpoint, of which those of adapters are added to the matrices that they stand beside.
        dtype: of the weights.

    Raises:
        WeightsError: a tensor is missing, or has another shape than config.json says.
    """
    if config.quantization != "none" or not all((folder / name).is_file() for name in _FILES):
        return None
    shape = LlamaShape.read(read_json(folder / _FILES[0]), config.kept_layers)
    if shape is None:
        return None
    weights = folder / _FILES[2]
    try:
        with safe_open(weights, framework="pt") as file:
            names = set(file.keys())
            adapted = _with_adapters(lambda one: file.get_tensor(one) if one in names else None, trained, config)
            decoder = LlamaDecoder.read(shape, adapted, dtype)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{printable(weights)} is not a readable weight file: {error}") from error
    except KeyError as error:
        what = f"{printable(weights)} does not fit its config.json"
        raise WeightsError(f"{what}: {error.args[0]} is missing or has another shape") from error
    return LeanLanguageModel(config, decoder, PlainTokenizer(folder / _FILES[1]))


def _with_adapters(
    read: Callable[[str], Tensor | None], trained: Mapping[str, Tensor], config: LanguageConfig
) -> Callable[[str], Tensor | None]:
    """Reads matrices with their adapters added (arXiv 2106.09685, equation 3), in float32.

    Matrices have the numbers of all layers, adapters those of the layers that are kept.
    """
    lora, kept = config.lora, config.kept_layers
    if lora is None:
        return read
    scale = lora.alpha / lora.rank

    def tensor(name: str) -> Tensor | None:
        matrix, parts = read(name), name.split(".")
        if kept is not None and parts[1] == "layers":
            parts[2] = str(kept.index(int(parts[2])))
        stem = ".".join(["language.model", *parts[:-1]])
        down, up = (trained.get(f"{stem}.lora_{letter}.default.weight") for letter in "AB")
        if matrix is None or down is None or up is None:
            return matrix
        return matrix.float() + scale * (up.float() @ down.float())

    return tensor
