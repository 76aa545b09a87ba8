"""A thread that drains an iterator into a bounded queue, so that decoding goes on while the model works.

The reader can wait for a limited time, which is what lets a stop request or a half-full batch be noticed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Exhausted(Exception):  # noqa: N818 (an end, as StopIteration is, not an error)
    """The iterator has ended."""


class Prefetch(Generic[T]):
    """Reads ahead of its user; a context manager.

    Args:
        items: iterated in a thread of its own.
        depth: most items held ready.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[T | BaseException] = queue.Queue(depth)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._drain, name="evlgen-prefetch", daemon=True)

    def get(self, timeout_seconds: float) -> T:
        """The next item.

        Raises:
            Exhausted: there is none.
            queue.Empty: none came in time.
            Exception: whatever the iterator raised.
        """
        item = self._queue.get(timeout=timeout_seconds)
        if isinstance(item, BaseException):
            self._queue.put(item)  # stays the answer; nothing else is put after it
            raise item
        return item

    def __enter__(self) -> Prefetch[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading ahead. The thread is not waited for: the iterator may be deep in a decode that hangs."""
        self._closing.set()

    def _drain(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(Exhausted())
        except BaseException as error:
            self._put(error)

    def _put(self, item: T | BaseException) -> bool:
        while not self._closing.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
