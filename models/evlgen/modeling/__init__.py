"""The model library: merging, TomeFormer, temporal contextualization, towers, and the EVLGen model that joins them."""

from evlgen.configuration import EVLGenConfig
from evlgen.modeling import imports  # noqa: F401 - before anything imports transformers or timm
from evlgen.modeling.generation import CaptionOutput
from evlgen.modeling.model import EVLGenForConditionalGeneration, EVLGenOutput
from evlgen.modeling.processing import EVLGenProcessor

__all__ = ["CaptionOutput", "EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenOutput", "EVLGenProcessor"]
