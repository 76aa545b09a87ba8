"""How the library says how far a long step is; what draws it lies above."""

from typing import Protocol


class ProgressCallback(Protocol):
    """Told how far a step is: in bytes, as downloads are, unless another unit is given."""

    def __call__(self, name: str, done: int, total: int | None, unit: str = "bytes", /) -> None:
        """Say that `done` of `total` units of the step `name` are done; the total may not be known."""
        ...
