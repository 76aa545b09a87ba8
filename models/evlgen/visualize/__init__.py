"""Pictures of merging: which patches of which frame became which soft prompt, and which words looked at it.

Read in this order: tracing.py (what a model did with a clip), word_attention.py, run.py (the whole of it: decode,
trace, write); then what is drawn: mosaic.py (colours and contours), sheet.py (PNG), movie.py (MP4), merging_page.py
(HTML).

    >>> import numpy as np
    >>> from evlgen.modeling import EVLGenForConditionalGeneration
    >>> from evlgen.visualize import trace_clip
    >>> model = EVLGenForConditionalGeneration.from_pretrained("evlgen-mini")
    >>> trace = trace_clip(model, np.zeros((2, 64, 64, 3), dtype=np.uint8))
    >>> trace.tokens == sorted(trace.tokens, reverse=True)  # every layer leaves fewer
    True
"""

from evlgen.visualize.run import Panel, VisualizeRequest, visualize
from evlgen.visualize.tracing import Trace, trace_clip

__all__ = ["Panel", "Trace", "VisualizeRequest", "trace_clip", "visualize"]
