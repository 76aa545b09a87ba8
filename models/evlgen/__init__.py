"""EVLGen: expedited training of visually conditioned language generation (Jian et al., ACL 2024, arXiv 2310.03291).

The rooms, in the order in which data walks through them: errors, system, configuration, decoding_options, annotations,
recipes, weights, video, modeling, data, training, captioning, evaluating, workflow. Importing this package imports none
of them, so that `evlgen --help` stays fast.

    >>> import evlgen
    >>> text = evlgen.caption("clips/a.mp4")
    >>> texts = evlgen.caption(["clips/a.mp4", "clips/a.mp4"], num_beams=1, max_length=12)

    >>> from evlgen import EVLGenForConditionalGeneration
    >>> mini = EVLGenForConditionalGeneration.from_pretrained("evlgen-mini")
    >>> mini.config.soft_prompt_tokens(frames=4) > 0
    True
"""

from importlib import import_module
from typing import Any

from evlgen.system.late_imports import when_imported

__version__ = "0.1.0"

_WHERE = {
    **dict.fromkeys(("EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenProcessor"), "modeling"),
    "caption": "captioning.one_line",
}

__all__ = ["EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenProcessor", "__version__", "caption"]


def __getattr__(name: str) -> Any:
    """`from evlgen import EVLGenForConditionalGeneration`, or `caption`, imported when it is first asked for."""
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'evlgen' has no attribute {name!r}")


def _tell_transformers() -> None:
    import_module(f"{__name__}.hub.auto_config").register()


when_imported(
    "transformers.models.auto.configuration_auto", _tell_transformers
)  # so that Auto classes open our folders
