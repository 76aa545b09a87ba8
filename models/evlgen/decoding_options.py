"""How captions are searched for, or drawn: the one set of options that model, recipes, command line and journal share.

No torch here. Their names are those of transformers' `generate`, where it has them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from evlgen.errors import UsageError

BOUNDS: Mapping[str, tuple[float, float]] = {
    "num_beams": (1, 1000),
    "num_captions": (1, 1000),
    "num_samples": (0, 1000),
    "temperature": (0.01, 100),
    "max_new_tokens": (1, 10_000),
    "min_new_tokens": (0, 10_000),
    "length_penalty": (-100, 100),
    "no_repeat_ngram": (0, 10_000),
    "repetition_penalty": (0.01, 100),
}
"""What no machine does, or no caption needs, is refused: it would end in a hang or without memory."""

OTHER_NAMES: Mapping[str, str] = {
    "max_length": "max_new_tokens",
    "min_length": "min_new_tokens",
    "num_return_sequences": "num_captions",
    "no_repeat_ngram_size": "no_repeat_ngram",
}
"""What transformers' `generate` calls some of the options. A caption holds no prompt, so its length is what is new."""

RERANKINGS = ("none", "consensus")
LEAST_FOR_CONSENSUS = 3


@dataclass(frozen=True)
class DecodingOptions:
    """Options of beam search (num_beams above 1), greedy decoding (1) or sampling.

    Attributes:
        num_beams: beams of the search; 1 is greedy.
        max_new_tokens: most tokens of a caption, end token included.
        min_new_tokens: fewest tokens of a caption.
        length_penalty: exponent of the length that beam scores are divided by; below 0 favours short captions.
        no_repeat_ngram: no so many tokens in a row stand twice in a caption; 0: they may.
        repetition_penalty: logits of tokens that the caption holds already are divided by this where positive, and
            multiplied where negative (arXiv 1909.05858, section 4.1); 1 changes nothing.
        num_captions: captions of every item, best first: of beams, or so many samples.
        do_sample: draw tokens instead of searching.
        temperature: divides the logits that samples are drawn from.
        top_p: samples are drawn from the likeliest tokens that have this probability together (arXiv 1904.09751).
        seed: makes sampling repeatable: one number for the same batch, or one an item, which then does not depend on
            the batch that it is in.
        num_samples: samples of every item beside the captions of the search, for captioners (`do_sample` replaces it).
        rerank: "none": the most likely caption is the best; "consensus": the one nearest to the others by CIDEr is.
    """

    num_beams: int = 3
    max_new_tokens: int = 30
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    num_captions: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | Sequence[int] | None = None
    num_samples: int = 0
    rerank: Literal["none", "consensus"] = "none"

    @classmethod
    def named(cls, **options: Any) -> DecodingOptions:
        """Options by their own names or by those of `OTHER_NAMES`.

        Raises:
            UsageError: one is unknown, or is given by both names with different values.
        """
        own: dict[str, Any] = {}
        known = [field.name for field in fields(cls)]
        for name, value in options.items():
            key = OTHER_NAMES.get(name, name)
            if key not in known:
                near = difflib.get_close_matches(name, [*known, *OTHER_NAMES], n=1)
                hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"
                raise UsageError(f"generate knows no option {name}", hint)
            if own.setdefault(key, value) != value:
                both = [one for one in options if OTHER_NAMES.get(one, one) == key]
                said = " and ".join(f"{one}={options[one]!r}" for one in both)
                raise UsageError(f"{said} contradict each other: they mean the same", "leave one away")
        return cls(**own)

    def with_given(self, **options: Any) -> DecodingOptions:
        """The same with those of `options` that are not None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    def problems(self) -> Iterator[str]:
        """What is out of bounds or contradicts itself, a line each, with options spelled as on the command line."""
        yield from out_of_bounds(self, BOUNDS)
        if self.min_new_tokens > self.max_new_tokens:
            yield f"--min-new-tokens {self.min_new_tokens} is more than --max-new-tokens {self.max_new_tokens}"
        if self.num_captions > max(self.num_beams, 1) and not self.do_sample:
            yield f"--num-captions {self.num_captions} is more than --num-beams {self.num_beams}"
        if self.rerank not in RERANKINGS:
            yield f"--rerank {self.rerank} is unknown: there is {', '.join(RERANKINGS)}"
        if self.rerank == "consensus" and self.num_captions + self.num_samples < LEAST_FOR_CONSENSUS:
            yield (
                f"--rerank consensus needs {LEAST_FOR_CONSENSUS} captions or more to compare: --num-samples "
                f"{LEAST_FOR_CONSENSUS - 1} or more, or --num-captions"
            )


def out_of_bounds(values: object, bounds: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """A line for each attribute of `values` that is neither None nor within its bounds."""
    for name, (least, most) in bounds.items():
        value = getattr(values, name)
        if value is not None and not least <= value <= most:
            yield f"--{name.replace('_', '-')} {value} is not {least} to {most}"
