"""EVLGen: expedited training of visually conditioned language generation (Jian et al., ACL 2024, arXiv 2310.03291).

The rooms, in the order in which data walks through them: errors, system, configuration, decoding_options, annotations,
recipes, weights, video, modeling, data, training, captioning, workflow. Importing this package imports none of them, so
that `evlgen --help` stays fast.

    >>> import evlgen
    >>> text = evlgen.caption("clips/a.mp4")
    >>> texts = evlgen.caption(["clips/a.mp4", "clips/a.mp4"], num_beams=1, max_length=12)

    >>> from evlgen import EVLGenForConditionalGeneration
    >>> mini = EVLGenForConditionalGeneration.from_pretrained("evlgen-mini")
    >>> mini.config.soft_prompt_tokens(frames=4) > 0
    True
"""

from typing import Any

__version__ = "0.1.0"

_WHERE = {
    **dict.fromkeys(("EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenProcessor"), "modeling"),
    "caption": "captioning.one_line",
}

__all__ = ["EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenProcessor", "__version__", "caption"]


def __getattr__(name: str) -> Any:
    """`from evlgen import EVLGenForConditionalGeneration`, or `caption`, imported when it is first asked for."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'evlgen' has no attribute {name!r}")
