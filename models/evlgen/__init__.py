"""EVLGen: expedited training of visually conditioned language generation (Jian et al., ACL 2024, arXiv 2310.03291).

The rooms, in the order in which data walks through them: errors, system, configuration, decoding_options, annotations,
recipes, weights, video, modeling, data, training, captioning, workflow. Importing this package imports none of them, so
that `evlgen --help` stays fast.

    >>> from evlgen import EVLGenForConditionalGeneration
    >>> mini = EVLGenForConditionalGeneration.from_pretrained("evlgen-mini")
    >>> mini.config.soft_prompt_tokens(frames=4) > 0
    True
"""

from typing import Any

__version__ = "0.1.0"

__all__ = ["EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenProcessor", "__version__"]


def __getattr__(name: str) -> Any:
    """`from evlgen import EVLGenForConditionalGeneration`, imported when it is first asked for."""
    if name in __all__:
        from evlgen import modeling

        return getattr(modeling, name)
    raise AttributeError(f"module 'evlgen' has no attribute {name!r}")
