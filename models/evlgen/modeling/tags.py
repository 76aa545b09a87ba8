"""Tags: names of what the vision tower's own classifier sees, as text that the language model reads.

The classifier costs nothing at run time, and it knows a thousand things of which the training captions name few. Names
stand behind the prefix: "pickup, jeep" and a line break. In training some are left out, and many are wrong, so that the
language model learns to use them and not to rely on them. Class names are timm's.

Shapes: B items, F frames, N tokens, D width, V classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evlgen.configuration import TagsConfig
from evlgen.errors import UsageError

if TYPE_CHECKING:
    from evlgen.modeling.language_model import LanguageModel
    from evlgen.modeling.vision import VisionTower


@dataclass(frozen=True)
class Tag:
    """A class that the tower sees.

    Attributes:
        name: of the class.
        probability: averaged over frames.
    """

    name: str
    probability: float


@cache
def class_names(count: int) -> tuple[str, ...]:
    """Short names of a classifier's classes, in its order.

    Raises:
        UsageError: timm knows no names for so many classes.
    """
    from timm.data import ImageNetInfo

    subsets = {1000: "imagenet-1k", 11821: "imagenet-12k", 21841: "imagenet-21k"}
    if count not in subsets:
        raise UsageError(f"tags.classes is {count}, and class names are known for {', '.join(map(str, subsets))}")
    info = ImageNetInfo(subsets[count])
    return tuple(info.index_to_description(index).partition(",")[0] for index in range(count))


class Tagger:
    """Reads tags off a tower's output tokens.

    Args:
        config: how sure the classifier must be, and how many tags there are at most.
        vision: with its classifier.
        language: whose tokens tags become.
    """

    def __init__(self, config: TagsConfig, vision: VisionTower, language: LanguageModel) -> None:
        self.config, self.vision, self.language = config, vision, language
        self.names = class_names(config.classes)

    @torch.no_grad()
    def tags(self, tokens_BFND: Tensor) -> list[list[Tag]]:
        """Tags of every item, the most probable first."""
        probabilities = self.vision.class_probabilities(tokens_BFND)
        best, index = probabilities.topk(min(self.config.most, probabilities.shape[1]))
        rows = zip(best.tolist(), index.tolist(), strict=True)
        return [
            [Tag(self.names[i], p) for p, i in zip(values, classes, strict=True) if p >= self.config.threshold]
            for values, classes in rows
        ]

    def prompt(self, tags: Sequence[Tag]) -> list[int]:
        """What the language model reads of the tags of an item: nothing where there are none."""
        return self.language.encode(", ".join(tag.name for tag in tags) + "\n") if tags else []

    def dropped(self, tags: Sequence[Tag]) -> list[Tag]:
        """Tags that are left where each is dropped by chance (torch's own generator)."""
        kept = torch.rand(len(tags)) >= self.config.drop
        return [tag for tag, keep in zip(tags, kept.tolist(), strict=True) if keep]
