"""Loading a model of transformers: what may run, what fits, where it goes; every refusal is one line."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from evlgen.captioners.evlgen_captioner import cap_threads
from evlgen.captioners.hub_models import FoundModel
from evlgen.captioners.protocol import LoadOptions
from evlgen.errors import EvlgenError, UsageError, WeightsError, first_line
from evlgen.modeling.hardware import pick_device, pick_dtype

_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.0, "4bit": 0.6}
"""A weight takes so many; of 4 bit with its share of the scales and of what stays in 16 bit."""


def load(found: FoundModel, options: LoadOptions) -> tuple[Any, Any]:
    """The model, ready to generate, and its processor.

    Raises:
        UsageError: it is of a kind that cannot caption, wants to run code, or something on this machine is missing.
        WeightsError: its weights are missing or cannot be fetched.
        EvlgenError: it does not fit into memory.
    """
    device = torch.device(pick_device(options.device))
    dtype = pick_dtype(options.dtype, device)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cap_threads()
    check_code(found, options.trust_remote_code)
    where = {"trust_remote_code": options.trust_remote_code, "revision": found.revision}
    placed = _placement(device, dtype, options)
    check_memory(found, device, options)
    try:
        processor = transformers.AutoProcessor.from_pretrained(found.source, **where)
        model, told = transformers.AutoModelForImageTextToText.from_pretrained(
            found.source, dtype=dtype, output_loading_info=True, **placed, **where
        )
    except Exception as error:
        raise _explained(error, found) from error
    if missing := sorted(told["missing_keys"]):  # transformers would go on with random numbers in their place
        raise WeightsError(
            f"{found.source} lacks {len(missing)} of its weights, such as {missing[0]}", "fetch or save it again"
        )
    spilled = {str(place) for place in getattr(model, "hf_device_map", {}).values()} & {"cpu", "disk"}
    if spilled and device.type != "cpu":
        raise _too_large(found, f"a part of it would have to stay on {min(spilled)}")
    if "device_map" not in placed:
        model.to(device)
    return model.eval(), processor


def check_code(found: FoundModel, trusted: bool) -> None:
    """Raise a UsageError if a model cannot caption, or only with code of its own that may not run."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = found.model_type
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    if "auto_map" in found.config:
        if not trusted:
            raise UsageError(
                f"{found.source} is of no kind that transformers {transformers.__version__} has, and brings Python "
                "code that would run on this machine with all your rights",
                f"read it{f' at revision {found.revision}' if found.revision else ''}, then give --trust-remote-code",
            )
        return
    if kind in CONFIG_MAPPING_NAMES:
        raise UsageError(f"{found.source} ({kind}) does not go from pictures to text", "give another --model")
    what = f"of a kind ({kind}) that transformers {transformers.__version__} does not know" if kind else "of no kind"
    raise UsageError(f"{found.source} is {what}", "upgrade transformers, or give another --model")


def _placement(device: torch.device, dtype: torch.dtype, options: LoadOptions) -> dict[str, Any]:
    """Where weights go: over all GPUs where none is named."""
    if options.load_in is not None:
        return _quantized(device, dtype, options.load_in)
    if device.type != "cuda":
        return {}
    return {"device_map": "auto" if options.device == "auto" else {"": device}}


def _quantized(device: torch.device, dtype: torch.dtype, load_in: str) -> dict[str, Any]:
    if device.type != "cuda":
        raise UsageError(f"--load-in {load_in} needs a GPU", "leave it away, or run on a machine with one")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"--load-in {load_in} needs the package bitsandbytes", "pip install 'evlgen[quantize]'")
    from evlgen.modeling.quantization import loading_options

    return loading_options("int8" if load_in == "8bit" else "nf4", dtype, device)


def check_memory(found: FoundModel, device: torch.device, options: LoadOptions) -> None:
    """Raise an `EvlgenError` if the weights alone are larger than the memory that is free."""
    stored = sum(path.stat().st_size for path in found.weight_files) or _remote_bytes(found)
    kept = str(found.config.get("dtype") or found.config.get("torch_dtype") or "float32").removeprefix("torch.")
    needed = stored * _BYTES[options.load_in or options.dtype] / _BYTES.get(kept, 4.0)
    free = free_bytes(device, every=options.device == "auto")
    if free is not None and needed > free:
        raise _too_large(found, f"its weights take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")


def _remote_bytes(found: FoundModel) -> int:
    """Bytes of weights that are at the hub; 0 where it does not tell."""
    from huggingface_hub import HfApi

    if found.revision is None:
        return 0
    try:
        files = HfApi().model_info(found.source, revision=found.revision, files_metadata=True).siblings or []
    except Exception:  # what is wrong is told when the weights are fetched
        return 0
    sizes = {one.rfilename: one.size or 0 for one in files}
    for ending in (".safetensors", ".bin"):
        if total := sum(size for name, size in sizes.items() if name.endswith(ending) and "/" not in name):
            return total
    return 0


def free_bytes(device: torch.device, *, every: bool) -> int | None:
    """Memory that is free on a device, or on all GPUs; None where the system does not tell."""
    if device.type == "cuda":
        devices = range(torch.cuda.device_count()) if every else [device]
        return sum(torch.cuda.mem_get_info(one)[0] for one in devices)
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no file of a user's
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _too_large(found: FoundModel, why: str) -> EvlgenError:
    return EvlgenError(
        f"{found.source} does not fit into memory: {why}",
        "a smaller model, --load-in 4bit on a GPU, or a server: docs/models.md has what each needs",
    )


def _explained(error: Exception, found: FoundModel) -> EvlgenError:
    first = first_line(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return _too_large(found, first)
    if isinstance(error, ImportError) or "to be installed" in first:  # of torchvision it is a ValueError
        return UsageError(f"{found.source} needs a package that is missing: {first}", "pip install 'evlgen[hub]'")
    return WeightsError(f"{found.source} cannot be loaded: {first}", "check the model, the network and transformers")
