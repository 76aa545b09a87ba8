"""from_pretrained, save_pretrained, push_to_hub: a checkpoint is config.json and the trained tensors.

Frozen parts are not saved; the configuration names their sources with hashes, and loading fetches them. Only
safetensors is written.
"""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evlgen.configuration import CONFIG_FILE, FROZEN_PARTS, EVLGenConfig, source_at, source_beside
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling import cross_attention
from evlgen.modeling.adapters import MARK
from evlgen.modeling.connectors import start_from_bert
from evlgen.modeling.language_files import language_files
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.lean_language import load_lean_language
from evlgen.modeling.tensor_checksums import KEY as CHECKSUM
from evlgen.modeling.tensor_checksums import check_sum, checksum_of
from evlgen.modeling.transformers_opening import reason_of
from evlgen.system.files import replacing
from evlgen.system.hashes import sha256_of
from evlgen.system.jsons import parse_json
from evlgen.system.names import printable
from evlgen.system.progress import ProgressCallback
from evlgen.weights import fetch
from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint, packaged_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(path: Path, *, inside: str | None = None) -> dict[str, Tensor]:
    """Tensors by name, of a safetensors file or a torch pickle (read with weights_only: no code runs).

    Args:
        path: the file.
        inside: where in a pickle they may lie, beside an optimizer's state and the like.

    Raises:
        WeightsError: the file is damaged, refused, or holds something else than named tensors.
    """
    what = f"{printable(path)} is not a readable weight file"
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise WeightsError(f"{what}: it is no regular file")
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_file(path)
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
        else:
            loaded, metadata = _load_pickle(path), None
    except Exception as error:  # junk brings torch's readers to any error at all
        # the texts of these say nothing of a file
        junk = isinstance(error, LookupError | TypeError | AttributeError | EOFError)
        raise WeightsError(f"{what}: {'it holds no tensors' if junk else reason_of(error)}") from error
    if metadata:
        check_sum(loaded, metadata, path)
    if inside is not None and isinstance(loaded, dict):
        loaded = loaded.get(inside, loaded)
    if not (isinstance(loaded, dict) and all(isinstance(v, Tensor) for v in loaded.values())):
        raise WeightsError(f"{path} does not hold tensors by name", "expected a state dict")
    check_finite(loaded, str(path))
    return loaded


def _load_pickle(path: Path) -> Any:
    with warnings.catch_warnings():  # what torch advises about pickles is not for who captions
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """See that weights are numbers: with one that is none a model writes nonsense, and calls it a caption.

    Args:
        tensors: by name.
        what: where they come from, for errors.

    Raises:
        WeightsError: one holds NaN or infinity; it is named.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS or tensor.is_meta or not tensor.numel():
            continue
        # least and largest show what is no number, in one pass without a copy: 0.02 s for 130 million numbers
        if not all(end.isfinite() for end in torch.aminmax(tensor)):
            hint = "fetch it, or convert it, again"
            raise WeightsError(f"{printable(what)}: {printable(name)} holds NaN or infinite values", hint)


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Replace the content of `path` by named tensors; a safetensors file, or by its name's ending a torch pickle.

    Tensors that share memory (tied embeddings) are written twice.

    Args:
        tensors: what to write; in a torch pickle they stand under "model".
        path: the file.
        metadata: texts for the header of a safetensors file, beside a checksum of the tensors.

    Raises:
        EvlgenError: it cannot be written; see `evlgen.system.files.replacing`.
    """
    with replacing(path) as aside:
        if path.suffix in (".pth", ".pt"):
            with aside.open("wb") as file:
                torch.save({"model": tensors}, file)
            return
        seen: set[int] = set()
        apart: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            whole = tensor.contiguous()
            pointer = whole.untyped_storage().data_ptr()
            apart[name] = whole.clone() if pointer in seen else whole
            seen.add(pointer)
        save_file(apart, aside, metadata={"format": "pt", CHECKSUM: checksum_of(apart), **(metadata or {})})


def frozen_parts(config: EVLGenConfig) -> dict[str, str | None]:
    """The sources of the frozen parts, hashes included."""
    return {part: getattr(config, part).source for part in FROZEN_PARTS}


def write_model(config: EVLGenConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write config.json and model.safetensors, whose header has the sources of the frozen parts.

    Args:
        config: of the model.
        tensors: the trained ones.
        folder: made if needed.
    """
    frozen = {part: source_beside(source, folder) for part, source in frozen_parts(config).items()}
    config.save_pretrained(folder)
    write_tensors(tensors, folder / WEIGHTS_FILE, {"frozen": json.dumps(frozen)})


class PretrainedMixin:
    """Saving and loading of `EVLGenForConditionalGeneration`."""

    config: EVLGenConfig
    model_id: str = "unsaved"
    model_hash: str = ""

    @classmethod
    def from_config(
        cls,
        config: EVLGenConfig,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        initialise: bool = True,
        language: LanguageModel | None = None,
        report: ProgressCallback | None = None,
    ) -> Self:
        """A model with its frozen parts loaded and its connector at the start of training.

        Args:
            config: the model.
            dtype: precision of the frozen parts.
            device: where a quantized language model is loaded; the rest is on the CPU.
            initialise: load `connector.source` (not needed when a checkpoint follows).
            language: the language model, where it is loaded already.
            report: progress of downloads.
        """
        if language is None:
            from evlgen.modeling.language import load_language_model  # transformers, which takes a second or two

            language = load_language_model(config.language, dtype=dtype, device=device, report=report)
        check_finite(dict(language.named_parameters()), f"language.source {config.language.source}")
        model: Any = cls(config, language)  # type: ignore[call-arg]
        if config.vision.source is not None:
            model.vision.load_weights(read_tensors(fetch(config.vision.source, report=report)))
        model.vision.freeze(dtype)
        start = getattr(config.connector, "source", None)  # some kinds have none
        if initialise and start is not None:
            matrices = start_from_bert(model.connector, read_tensors(fetch(start, report=report)))
            if matrices:
                raise WeightsError(
                    f"connector.source does not fit: {len(matrices)} matrices of the connector are missing in it or of "
                    f"another shape, first {matrices[0]!r}",
                    "a BERT of the same width is expected; or set connector.source to null",
                )
        done: Self = model
        return done

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "evlgen-mini",
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        captions_only: bool = False,
        report: ProgressCallback | None = None,
    ) -> Self:
        """Load a model for use.

        Args:
            name_or_path: a packaged model, a folder that `save_pretrained` wrote, or a hub repository.
            device: where to put it.
            dtype: precision of everything.
            captions_only: for captioning and nothing else: where the language model is a Llama it starts and runs
                faster (`evlgen.modeling.lean_language`), but can be neither trained nor saved.
            report: progress of downloads.

        Raises:
            UsageError: no such model.
            WeightsError: a file is missing, damaged, or not the pinned one.
        """
        folder = find_checkpoint(str(name_or_path))
        config = EVLGenConfig.from_pretrained(folder)
        tensors = read_tensors(folder / WEIGHTS_FILE)
        language = None
        if captions_only and config.language.source is not None:
            where = language_files(config.language, report).get("pretrained_model_name_or_path", "")
            language = load_lean_language(config.language, Path(where), tensors, dtype)
        if language is not None:  # its adapters are in its matrices
            tensors = {name: tensor for name, tensor in tensors.items() if MARK not in name}
        model: Any = cls.from_config(
            config, dtype=dtype, device=device, initialise=False, language=language, report=report
        )
        model.load_trained(folder / WEIGHTS_FILE, tensors=tensors)
        model.model_id = Path(str(name_or_path)).name or folder.resolve().name
        rotary = {name: buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq")}
        model.to(device=device, dtype=dtype)
        for name, buffer in rotary.items():  # as in training: rounded, positions would be a tenth of a radian off
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, buffer.to(device))
        model.eval().requires_grad_(False)
        done: Self = model
        return done

    def load_trained(self, path: Path, *, start: bool = False, tensors: dict[str, Tensor] | None = None) -> None:
        """Fill the trained tensors from a safetensors file.

        Prompt texts that are not learned may be missing in it: they are the language model's own embeddings.

        Args:
            path: the file.
            start: a start for further training: an image model fits a video model, whose temporal modules stay new,
                and one without LoRA or cross-attention a model with it; learned prompts are left behind where the model
                learns none.
            tensors: those of the file that are wanted, where they are read already.

        Raises:
            WeightsError: the file is damaged, lacks or adds a tensor (the names are given), or was trained against
                other frozen parts.
        """
        tensors = read_tensors(path) if tensors is None else tensors
        own: dict[str, Tensor] = dict(self.named_parameters())  # type: ignore[attr-defined]
        names: list[str] = self.trainable_names()  # type: ignore[attr-defined]
        if start:
            names = [
                n
                for n in names
                if n in tensors or not (n.startswith("vision.") or MARK in n or cross_attention.MARK in n)
            ]
            if not self.config.language.learned_prompt:
                tensors = {n: tensor for n, tensor in tensors.items() if not n.startswith("prompt_")}
        if not self.config.language.learned_prompt:
            names = [n for n in names if n in tensors or not n.startswith("prompt_")]
        missing, extra = sorted(set(names) - set(tensors)), sorted(set(tensors) - set(names))
        wrong = [n for n in names if n in tensors and tensors[n].shape != own[n].shape]
        if missing or extra or wrong:
            what = "the model that starts from it" if start else f"its {CONFIG_FILE}"
            raise WeightsError(
                f"{path} does not fit {what}: missing {missing[:3]}, unexpected {extra[:3]}, "
                f"of another shape {wrong[:3]}"
            )
        against = frozen_sources(path)
        for part, source in frozen_parts(self.config).items():
            if part in against and not _same(against[part], source):
                raise WeightsError(f"{path} was trained against another {part}: {against[part]}, not {source}")
        with torch.no_grad():
            for name in names:
                own[name].copy_(tensors[name])
        whole = sha256_of(path)
        if packaged_sha256(path) not in (None, whole):
            raise WeightsError(f"{printable(path)} is not the file that evlgen came with", "install evlgen again")
        self.model_hash = whole[:16]

    def trained_tensors(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Copies of the trained tensors on the CPU, in `dtype` or as they are.

        Raises:
            UsageError: the model was loaded for captions only, and its adapters are in its matrices.
        """
        if self.config.language.lora is not None and not self.language.adapters():  # type: ignore[attr-defined]
            raise UsageError(
                "a model that is loaded for captions only cannot be saved", "load it without captions_only"
            )
        own = dict(self.named_parameters())  # type: ignore[attr-defined]
        names: list[str] = self.trainable_names()  # type: ignore[attr-defined]
        return {n: own[n].detach().to("cpu", dtype or own[n].dtype).contiguous().clone() for n in names}

    def save_pretrained(
        self, folder: str | Path, *, dtype: torch.dtype | None = None, tensors: dict[str, Tensor] | None = None
    ) -> None:
        """Write config.json and model.safetensors (trained tensors only).

        Args:
            folder: made if needed.
            dtype: precision on disk; as in memory by default, which makes save and load exact.
            tensors: values of the trained tensors to write instead of the model's own: averaged ones, or those that
                were gathered from several processes.
        """
        write_model(self.config, self.trained_tensors(dtype) if tensors is None else tensors, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        license: str | None = None,
        commit_message: str = "",
        token: str | None = None,
    ) -> str:
        """Upload the model with a card, as `evlgen models push` does; returns the commit's address.

        Args:
            repo_id: OWNER/NAME.
            private: see `evlgen.hub.publishing.push`.
            revision: a branch; None: the main one.
            license: as the hub spells it, such as "apache-2.0".
            commit_message: of the commit.
            token: of the hub; None: that of `hf auth login` or HF_TOKEN.

        Raises:
            EvlgenError: as of `plan_push` and `push` there.
        """
        from evlgen.hub.publishing import client, plan_push, push

        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / Path(repo_id).name  # the card is called after it
            self.save_pretrained(folder)
            plan = plan_push(folder, f"hf:{repo_id}" + (f"@{revision}" if revision else ""), licence=license)
            return push(plan, private=private, message=commit_message, api=client(token)).address


def _same(one: str | None, other: str | None) -> bool:
    """Whether two sources are the same file: spelled alike, or of one hash in different places."""
    hashes = [(source or "").partition("#sha256=")[2] for source in (one, other)]
    return one == other or (hashes[0] == hashes[1] != "")


def numbers_in(path: Path) -> int:
    """How many numbers a safetensors file holds; reads its header alone."""
    with safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no dict


def frozen_sources(path: Path) -> dict[str, str | None]:
    """The sources (with hashes) of the frozen parts that a checkpoint was trained against.

    Raises:
        WeightsError: the file says something else than sources.
    """
    with safe_open(path, framework="pt") as file:
        sources = parse_json((file.metadata() or {}).get("frozen", "{}"), f"frozen in the header of {path}")
    if not isinstance(sources, dict) or not all(isinstance(one, str | None) for one in sources.values()):
        raise WeightsError(f"{path}: frozen in its header is no object of sources", "convert or train it again")
    return {part: source_at(source, path.parent) for part, source in sources.items()}
