"""Pictures of merging: which patches of which frame became which soft prompt, and which words looked at it.

Read in this order: tracing.py (what a model did with a clip), word_attention.py, run.py (the whole of it: decode,
trace, write); then what is drawn: mosaic.py (colours and contours), sheet.py (PNG), movie.py (MP4), merging_page.py
(HTML).
"""

from evlgen.visualize.run import Panel, VisualizeRequest, visualize
from evlgen.visualize.tracing import Trace, trace_clip

__all__ = ["Panel", "Trace", "VisualizeRequest", "trace_clip", "visualize"]
