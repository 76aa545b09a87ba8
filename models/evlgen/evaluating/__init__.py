"""Data sets captioned, or their questions answered, to be scored: one model, several in a table, or a calibration.

`predict` (prediction.py) is one run of captioning over a set; metrics score what it wrote.

    >>> from pathlib import Path
    >>> from evlgen.evaluating.evaluation_sets import find_captioned_set
    >>> find_captioned_set(Path("captions.csv"), media=Path("clips")).media.name
    'clips'
"""
