"""What FLOPs are reported for: the parts of a model, as torch counts them and as a closed formula gives them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Count:
    """FLOPs of one thing.

    Attributes:
        counted: by torch's FlopCounterMode.
        formula: by a closed formula; None where there is none (towers other than ViTs and plain EfficientNets).
    """

    counted: int
    formula: int | None

    @property
    def difference(self) -> float | None:
        """How far the formula is from the count, as a share of the count."""
        if self.formula is None or not self.counted:
            return None if self.formula is None else float(self.formula)
        return abs(self.formula - self.counted) / self.counted


@dataclass(frozen=True)
class Work:
    """FLOPs of a training step, or of a caption, for one item.

    Attributes:
        vision: the tower, all frames; in training also backward where temporal modules are trained inside.
        connector: LayerNorm, projection, TomeFormer (or Q-Former), projection.
        language: the frozen language model with its head.
    """

    vision: Count
    connector: Count
    language: Count

    @property
    def counted(self) -> int:
        """Of all parts."""
        return self.vision.counted + self.connector.counted + self.language.counted

    @property
    def difference(self) -> float:
        """The largest difference between count and formula of a part that has both."""
        parts = (self.vision, self.connector, self.language)
        return max((d for part in parts if (d := part.difference) is not None), default=0.0)
