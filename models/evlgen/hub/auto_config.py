"""The configuration that transformers opens by `"model_type": "evlgen"`; opening one makes the other classes known.

Nothing but transformers' configuration class is imported here: this runs while transformers is being imported.
"""

from __future__ import annotations

from typing import Any

from transformers.configuration_utils import PreTrainedConfig


class EVLGenAutoConfig(PreTrainedConfig):  # type: ignore[misc, unused-ignore]
    """The sections of `evlgen.EVLGenConfig` as plain values, which `EVLGenConfig` checks when the model is loaded."""

    model_type = "evlgen"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from evlgen.hub.auto_classes import register

        register()


def register() -> None:
    """Make the configuration known to AutoConfig."""
    from transformers.models.auto.configuration_auto import AutoConfig

    AutoConfig.register(EVLGenAutoConfig.model_type, EVLGenAutoConfig, exist_ok=True)
