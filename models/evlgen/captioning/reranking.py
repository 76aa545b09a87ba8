"""The caption that says what most of a clip's captions say, in the place of the most likely one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evlgen.captioners.protocol import Caption


def by_consensus(captions: Sequence[Caption]) -> list[Caption]:
    """The same captions and alternatives, those first that agree most with the others of their clip.

    Agreement is the mean CIDEr-D against the others (`evlgen.metrics.consensus`), every n-gram weighted alike, so that
    a clip's caption does not depend on the clips beside it. Captions that agree alike keep their order.
    """
    from evlgen.metrics.cider import FACTOR
    from evlgen.metrics.consensus import ALL_ALIKE, consensus

    pools = [[replace(best, alternatives=()), *best.alternatives] for best in captions]
    scores = consensus([[one.text for one in pool] for pool in pools], ALL_ALIKE)
    found = []
    for best, pool, own in zip(captions, pools, scores, strict=True):
        order = sorted(range(len(pool)), key=lambda place: -own[place])
        first, *others = (replace(pool[place], agreement=float(own[place]) / FACTOR, tags=()) for place in order)
        found.append(replace(first, alternatives=tuple(others), tags=best.tags))
    return found
