"""Clips of several videos put together: a batch holds clips of one frame count, since frames are stacked."""

from evlgen.captioning.delivery import Decoded


class Batcher:
    """Collects clips by frame count.

    Args:
        batch_size: clips that make a batch full.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._groups: dict[int, list[Decoded]] = {}

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def add(self, item: Decoded) -> list[Decoded] | None:
        """Take a clip in; a batch that is now due, if any.

        Due is a full batch, and the largest one when odd frame counts have piled up to two batches: that bounds memory.
        """
        group = self._groups.setdefault(len(item.clip.frames), [])
        group.append(item)
        if len(group) >= self._batch_size:
            return self._groups.pop(len(item.clip.frames))
        if len(self) >= 2 * self._batch_size:
            return self.pop_largest()
        return None

    def pop_largest(self) -> list[Decoded]:
        """The largest batch there is, full or not; empty when nothing is held."""
        if not self._groups:
            return []
        return self._groups.pop(max(self._groups, key=lambda frames: len(self._groups[frames])))
