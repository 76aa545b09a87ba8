"""Tags that are exchanged together with the word that they stand for, so that the language model learns to copy them.

Training pictures show few kinds of things: where every animal is a dog, no tag is needed to say `dog`, and one that
says `tiger` is not believed. Here a part of the captions with the word get another class in its place, in the tag and
in the caption alike. Only tokens change; pictures stay. Off by default, a departure from the paper for small data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.packing import PromptedIds
from evlgen.modeling.tags import Tag, class_names
from evlgen.recipes.schema import TagSwap

_VOWELS = "aeiou"


def _within(number: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= number <= last for first, last in ranges)


class TagSwapper:
    """Exchanges tags and words of items, by chance (torch's own generator).

    Args:
        swaps: what may be exchanged for what.
        language: whose tokens captions are.
        classes: of the tower's classifier.
    """

    def __init__(self, swaps: Sequence[TagSwap], language: LanguageModel, classes: int) -> None:
        self.swaps, self._language = swaps, language
        self._names = class_names(classes)
        self._number = {name: number for number, name in enumerate(self._names)}

    def swap_all(
        self, tags: Sequence[Sequence[Tag]], captions: Sequence[Sequence[list[int]]]
    ) -> tuple[list[list[Tag]], list[list[list[int]]]]:
        """Tags and captions of a batch; items with several captions, or with prompts in front of them, stay."""
        found_tags, found_captions = [], []
        for own, given in zip(tags, captions, strict=True):
            if len(given) == 1 and not isinstance(given[0], PromptedIds):
                new_tags, caption = self.swap(own, given[0])
                found_tags.append(new_tags)
                found_captions.append([caption])
            else:
                found_tags.append(list(own))
                found_captions.append(list(given))
        return found_tags, found_captions

    def swap(self, tags: Sequence[Tag], caption: list[int]) -> tuple[list[Tag], list[int]]:
        """Tags and caption of one item, exchanged or as they are.

        The tags of the swap's classes become one, with the probability of the first. "a" in front of the word becomes
        "an" where the new name wants it.
        """
        for swap in self.swaps:
            mine = [tag for tag in tags if _within(self._number[tag.name], swap.classes)]
            if not mine or float(torch.rand(())) >= swap.share:
                continue
            others = [number for number in range(len(self._names)) if _within(number, swap.others)]
            name = self._names[others[int(torch.randint(len(others), ()))]]
            changed = self._exchange(caption, swap.words, name)
            if changed is not None:
                kept = [tag for tag in tags if tag not in mine]
                return [replace(mine[0], name=name), *kept], changed
        return list(tags), caption

    def _exchange(self, caption: list[int], words: Sequence[str], name: str) -> list[int] | None:
        """The caption with the first of the words that it holds as another name; None where it holds none."""
        plain = self._language.tokenizer.decode(caption[:-1], skip_special_tokens=True)
        for word in words:
            before, found, after = f" {plain} ".partition(f" {word} ")
            if not found:
                continue
            new = f"{name}s" if word.endswith("s") else name
            new = new.lower() if plain.islower() else new
            if before.endswith(" a") and new[0].lower() in _VOWELS:
                before += "n"
            return self._language.encode_caption(f"{before.strip()} {new} {after.strip()}".strip())
        return None
