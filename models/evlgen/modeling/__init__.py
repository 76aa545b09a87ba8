"""The model library: merging, TomeFormer, temporal contextualization, towers, and the EVLGen model that joins them.

A model captions lists of RGB frames (F, H, W, 3); see `evlgen.video` for where they come from.

    >>> import numpy as np
    >>> from evlgen.modeling import EVLGenForConditionalGeneration
    >>> model = EVLGenForConditionalGeneration.from_pretrained("evlgen-mini")
    >>> frames = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    >>> output = model.generate(model.processor([frames]), num_beams=2, max_new_tokens=5)
    >>> len(output.texts), tuple(output.log_probabilities.shape)
    (1, (1,))
"""

from evlgen.configuration import EVLGenConfig
from evlgen.modeling import imports  # noqa: F401 - before anything imports transformers or timm
from evlgen.modeling.generation import CaptionOutput
from evlgen.modeling.model import EVLGenForConditionalGeneration, EVLGenOutput
from evlgen.modeling.processing import EVLGenProcessor

__all__ = ["CaptionOutput", "EVLGenConfig", "EVLGenForConditionalGeneration", "EVLGenOutput", "EVLGenProcessor"]
