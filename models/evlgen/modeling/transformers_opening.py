"""Opening what others made with transformers: no code of theirs runs, nothing hangs, and what is wrong is one line.

Sizes are looked at in the plain configuration, before any class is built of it: a number of layers that nobody has
would otherwise be counted up to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, WeightsError
from evlgen.system.jsons import read_json
from evlgen.system.names import printable

MOST_PARAMETERS = 4e12
"""No language model has more; the largest that are published have a quarter of it."""

_MOST_LETTERS = 300
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers", "block_count")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embedding_length")
_MOST = {
    **dict.fromkeys(_LAYERS, 2_000),
    **dict.fromkeys(_WIDTHS, 200_000),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "feed_forward_length"), 2_000_000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "head_dim", "head_count"), 20_000),
    "vocab_size": 20_000_000,
    "max_position_embeddings": 100_000_000,
}


def open_pretrained(factory: Any, source: str, **where: Any) -> Any:
    """What one of transformers' Auto classes makes of a source.

    Args:
        factory: the class.
        source: what the user called it, for errors.
        where: what to hand to `from_pretrained`.

    Raises:
        WeightsError: it is damaged, asks for impossible sizes, brings code of its own, or leads to other sources.
        EvlgenError: it is not there.
    """
    hint = "check the name, or the network" if source.startswith("hf:") else "check the files that it is made of"
    try:
        with quiet_transformers():
            check_sizes(_plain_config(**where), source)
            _check_leads(Path(where["pretrained_model_name_or_path"]), source)
            return factory.from_pretrained(**where, trust_remote_code=False)
    except EvlgenError:
        raise
    except Exception as error:  # a stranger's file may bring transformers to any error at all
        raise WeightsError(f"language.source {source}: {reason_of(error)}", hint) from error


def with_all_weights(opened: tuple[Any, Mapping[str, Any]], what: str) -> Any:
    """The model out of what from_pretrained returns with `output_loading_info`, if its file had all of its weights.

    transformers fills what is missing with random numbers, and says so in a log that nobody sees: such a model writes
    nonsense, and calls it a caption.

    Raises:
        WeightsError: some are missing; one is named.
    """
    model, info = opened
    if missing := sorted(info["missing_keys"]):
        raise WeightsError(
            f"{what}: {len(missing)} of its weights are missing, among them {printable(missing[0])}",
            "fetch or convert it again; a model of another kind does not go here",
        )
    return model


def _check_leads(folder: Path, source: str) -> None:
    """See that a folder holds its weights itself: the files in it could name others that nobody has declared.

    Raises:
        WeightsError: it is an adapter of another model, or its index names files elsewhere.
    """
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"language.source {source}: it is an adapter (adapter_config.json), whose own model is elsewhere",
            "merge it into that model with peft (merge_and_unload), and name the result",
        )
    for index in sorted(folder.glob("*.index.json")):
        names = read_json(index)
        files = names.get("weight_map") if isinstance(names, Mapping) else None
        for file in files.values() if isinstance(files, Mapping) else ():
            if not isinstance(file, str) or file != Path(file).name:
                raise WeightsError(
                    f"language.source {source}: {index.name} names {printable(repr(file)[:80])}, which is not beside it"
                )


def _plain_config(pretrained_model_name_or_path: str, revision: str | None = None, **other: Any) -> Any:
    file = Path(pretrained_model_name_or_path) / "config.json"
    if file.is_file():
        return read_json(file)
    import transformers

    return transformers.PretrainedConfig.get_config_dict(pretrained_model_name_or_path, revision=revision)[0]


def check_sizes(settings: Any, source: str) -> None:
    """See that a configuration asks for sizes that a model can have.

    Args:
        settings: keys and values as they stand in config.json.
        source: what it belongs to, for errors.

    Raises:
        WeightsError: it is no object, or a size is none; the key is named.
    """
    if not isinstance(settings, Mapping):
        raise WeightsError(f"language.source {source}: its configuration is no object", "expected keys and values")
    for key, most in _MOST.items():
        value = settings.get(key)
        if value is not None and not (type(value) is int and 0 < value <= most):
            said = printable(repr(value)[:40])
            raise WeightsError(f"language.source {source}: {key} is {said}, expected a whole number up to {most}")
    for key in ("attn_implementation", "_attn_implementation"):
        if "/" in str(settings.get(key)):  # the name of a repository of compiled code, which would be fetched and run
            raise WeightsError(
                f"language.source {source}: {key} {printable(repr(settings[key])[:80])} is code from elsewhere"
            )
    layers = max((settings.get(key) or 0 for key in _LAYERS), default=0)
    width = max((settings.get(key) or 0 for key in _WIDTHS), default=0)
    if (count := 12.0 * layers * width**2 + (settings.get("vocab_size") or 0) * width) > MOST_PARAMETERS:
        raise WeightsError(f"language.source {source}: a model of its sizes has about {count:.0e} parameters")


def reason_of(error: Exception) -> str:
    """The first line of a library's error. Its advice to trust a file, or to run code out of it, is not passed on."""
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return "it needs code of its own (auto_map), and evlgen runs no code that comes with a model"
    if "weights_only" in text or "Weights only load failed" in text:
        return "it holds something else than tensors, or is damaged; it was not opened further"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    first = first if len(first) <= _MOST_LETTERS else f"{first[:_MOST_LETTERS]} …"  # some list all that they know
    return printable(first if isinstance(error, OSError | ValueError) and first else f"{type(error).__name__}: {first}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and advice while something is loaded."""
    import transformers

    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
