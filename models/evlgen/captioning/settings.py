"""Everything that changes a caption, and its hash.

What only changes the speed (batch size, workers, deadline, device) is left out, so that a run may be resumed on another
machine.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

_UNSAID: Mapping[str, str | float] = {
    "prompt": "",
    "length_penalty": 1.0,
    "no_repeat_ngram": 0,
    "repetition_penalty": 1.0,
    "num_captions": 1,
}
"""Settings that came later: at these values they are left out, so that rows from before still count as done."""


@dataclass(frozen=True)
class CaptionSettings:
    """What a caption depends on, besides the video.

    Attributes:
        model: id of the model.
        model_hash: hash of its trained weights.
        config_hash: hash of its configuration, frozen parts included.
        frames: frames taken from each video.
        sampler: rule that picks them.
        backend: decoder that reads them.
        strict: a damaged file is an error, not a caption of what can be decoded.
        num_beams: beams of the search; one is greedy.
        max_length: most tokens of a caption.
        min_length: fewest tokens of a caption.
        dtype: arithmetic of the model.
        prompt: text that captions go on from.
        length_penalty: exponent of the length that beam scores are divided by.
        no_repeat_ngram: no so many tokens in a row stand twice in a caption; 0: they may.
        repetition_penalty: what tokens that the caption holds already pay; 1 is nothing.
        num_captions: captions of every video.
    """

    model: str
    model_hash: str
    config_hash: str
    frames: int
    sampler: str
    backend: str
    strict: bool
    num_beams: int
    max_length: int
    min_length: int
    dtype: str
    prompt: str = ""
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    num_captions: int = 1

    @property
    def hash(self) -> str:
        """64 bits, hexadecimal: the same for equal settings on every machine."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, str | int | float]:
        """The settings as they stand in a row."""
        return {key: value for key, value in asdict(self).items() if _UNSAID.get(key) != value}


def describe_difference(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """What changed, as `name old -> new, ...`; names that either side does not know are left out."""
    old, new = {**_UNSAID, **old}, {**_UNSAID, **new}
    changed = [f"{key} {_shown(old[key])} -> {_shown(new[key])}" for key in new if key in old and old[key] != new[key]]
    return ", ".join(changed) or "of another version of evlgen"


def _shown(value: object) -> str:
    """A text with blanks, or without anything, in quotes: where it ends must be seen."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and value.split() != [value] else str(value)
