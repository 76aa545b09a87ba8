"""Reading captions, references and answers in the layouts that people have; the layout is found from the content.

The readers are in `evlgen.metrics.files`, one module for each side. Plain Python: a file is read once, nothing is
kept, and what is odd but can be scored is said in `notes`, never mended in silence.
"""

from evlgen.metrics.files.answers import looks_like_answers, read_answers
from evlgen.metrics.files.contents import Answers, Predictions, References
from evlgen.metrics.files.predictions import read_predictions
from evlgen.metrics.files.references import read_references

__all__ = [
    "Answers",
    "Predictions",
    "References",
    "looks_like_answers",
    "read_answers",
    "read_predictions",
    "read_references",
]
