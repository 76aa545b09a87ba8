"""Everything that changes a caption, and its hash.

What only changes the speed (batch size, workers, deadline, device) is left out, so that a run may be resumed on another
machine.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


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

    @property
    def hash(self) -> str:
        """64 bits, hexadecimal: the same for equal settings on every machine."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, str | int]:
        """The settings as they stand in a row."""
        return asdict(self)


def describe_difference(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """What changed, as `name old -> new, ...`; names that either side does not know are left out."""
    changed = [f"{key} {old[key]} -> {new[key]}" for key in new if key in old and old[key] != new[key]]
    return ", ".join(changed) or "of another version of evlgen"
