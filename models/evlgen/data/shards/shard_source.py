"""Shards as a source of training batches: captions and pixels of a sample are read when it is drawn.

A draw whose sample is broken gives another sample of the same window, by the seed and the draw's number. What is wrong
with captions and files every process finds alike, before a step is planned; a picture that cannot be decoded is found
by the process that needs it. The step is then still divided by the tokens of the caption drawn first: the same in every
process, and off by a few of the thousands of tokens of a step.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from evlgen.data.caption_sources import clean_caption
from evlgen.data.decoding import broken_picture, decode_picture
from evlgen.data.findings import SHOWN, BrokenItemError, check_share
from evlgen.data.shards.counting import FoundShards
from evlgen.data.shards.shard_order import Key, ShardOrder
from evlgen.data.shards.tar_index import META, MOST_TEXT_BYTES, PICTURE, TEXT
from evlgen.data.views import draw_crops, make_view
from evlgen.errors import EvlgenError, Failure, UsageError
from evlgen.system.jsons import parse_json

KEPT_CAPTIONS = 16_384
"""Tokenized captions in memory: those of the steps that are planned and not yet made."""

MOST_ATTEMPTS = 100
JUDGED_SAMPLES = 1_000_000
"""The share of broken samples is that of so many at least, or of the whole source: damage comes in bursts, shard by
shard."""


class Submit(Protocol):
    """Begins work in another thread."""

    def __call__(self, work: Callable[[], NDArray[np.uint8]], /) -> Future[NDArray[np.uint8]]:
        """Begin."""
        ...


class ShardSource:
    """Samples of shards; a `TrainingSource` for BatchMaker, and its own `AheadSource` of uint8 pixels (F, 3, S, S).

    Args:
        found: the shards.
        encode: token ids of a caption.
        submit: begins to decode a picture.
        side: S, in pixels.
        lower_case: see `clean_caption`.
        max_broken_share: so many of the samples (0 to 1) may be of no use.

    Attributes:
        name, weight, ratio, cache, frames, views: see `CaptionSource` and `VisualSource`.
        caption_probabilities: None: a sample has one caption.
        lost: samples found to be broken by this process.
    """

    caption_probabilities = None

    def __init__(
        self,
        found: FoundShards,
        encode: Callable[[str], list[int]],
        submit: Submit,
        *,
        side: int,
        lower_case: bool = False,
        max_broken_share: float = 0.0,
    ) -> None:
        self.name, self.reader, self._samples = found.name, found.reader, found.samples
        self.weight, self.ratio = found.config.weight, found.config.ratio
        self._encode, self._lower_case, self._share = encode, lower_case, max_broken_share
        self._order = ShardOrder(found.samples, found.config.shard_window)
        self._load = lru_cache(maxsize=KEPT_CAPTIONS)(self._read_caption)
        self._recent: deque[tuple[Key, tuple[int, int]]] = deque(maxlen=2)
        self._lock = threading.Lock()
        self._drawn: tuple[int, int] | None = None
        self._first_lost: list[Failure] = []
        self._news = found.truncated
        self.lost: set[int] = set()
        self.submit, self.side, self.views = submit, side, found.config.views
        self.frames = cast("Sequence[int]", np.broadcast_to(1, len(self)))  # one each, in no memory

    def __len__(self) -> int:
        return self._order.total

    @property
    def cache(self) -> ShardSource:
        """Where pixels come from: itself."""
        return self

    def captions_of(self, item: int) -> list[list[int]]:
        """Token ids of a sample's caption, in a list; read and tokenized when asked for.

        Raises:
            BrokenItemError: it has none.
            EvlgenError: the shard cannot be fetched or read.
        """
        loaded = self._load(item)
        if isinstance(loaded, Failure):
            raise BrokenItemError(loaded)
        return loaded

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.uint8]:
        """Pixels (F, 3, S, S), not normalised: the picture as often as frames are asked for.

        Raises:
            BrokenItemError: it cannot be decoded.
            EvlgenError: that is so of more samples than may be, or the shard cannot be fetched or read.
        """
        return self.ask(item, frames, view)()

    def ask(self, item: int, frames: list[int], view: int) -> Callable[[], NDArray[np.uint8]]:
        """Begin to read and decode; what `get` gives, or raises, comes when the result is called."""
        return self.submit(lambda: self.decode(item, len(frames), view)).result

    def order(self, key: Key, draw: int, broken: Collection[int] = ()) -> int:
        """The sample of the n-th draw.

        Args:
            key: seed of the order.
            draw: n.
            broken: samples that this draw gave before and that turned out to be of no use.

        Raises:
            EvlgenError: a shard cannot be fetched or read, or too many samples are broken.
        """
        window, here, after = self._order.windows(key, draw)
        if (key, window) not in self._recent:
            self._recent.append((key, window))
            self.reader.expect(here, after)
        low, high = self._drawn or (draw, draw)
        self._drawn = (min(low, draw), max(high, draw))
        for attempt in range(MOST_ATTEMPTS):
            sample = self._order.sample(key, draw, attempt)
            loaded = self._load(sample)
            if isinstance(loaded, Failure):
                self.lose(sample, loaded)
            elif sample not in broken:
                return sample
        reasons = "; ".join(f"{b.name}: {b.message}" for b in self._first_lost)
        raise EvlgenError(
            f"{self.name}: {MOST_ATTEMPTS} samples of one window of shards, and none can be used: {reasons}",
            "evlgen data check --decode says what is wrong with them",
        )

    def lose(self, sample: int, broken: Failure) -> None:
        """Count a broken sample.

        Raises:
            EvlgenError: it is one too many.
        """
        with self._lock:
            if sample not in self.lost:
                self.lost.add(sample)
                self._news.append(broken)
                self._first_lost += [broken] if len(self._first_lost) < SHOWN else []
            low, high = self._drawn or (0, 0)
            judged = min(len(self), max(high - low + 1, JUDGED_SAMPLES))
            check_share(self.name, self._first_lost, judged, self._share, count=len(self.lost))

    def news(self) -> list[Failure]:
        """Samples that turned out to be broken since this was last asked."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def picture(self, sample: int) -> tuple[str, bytes]:
        """A name for crops, and the file of a picture that `order` gave."""
        shard, number = self._order.locate(sample)
        offset, size = self.reader.index(shard).rows[number, PICTURE : PICTURE + 2].tolist()
        return f"{self.reader.files.shards[shard].name}/{number}", self.reader.read(shard, offset, size)

    def decode(self, sample: int, frames: int, view: int) -> NDArray[np.uint8]:
        """What `get` gives, in this thread."""
        name, content = self.picture(sample)
        try:
            shown = make_view(decode_picture(content), draw_crops(name, self.views)[view], self.side)
        except Exception as error:  # Pillow raises whatever it likes on bad input
            broken = broken_picture(self.called(sample), error)
            self.lose(sample, broken)
            raise BrokenItemError(broken) from None
        return np.repeat(shown.transpose(2, 0, 1)[None], frames, axis=0)

    def called(self, sample: int) -> str:
        """Shard and WebDataset key."""
        shard, number = self._order.locate(sample)
        rows = self.reader.index(shard).rows
        offsets = rows[number, [PICTURE, TEXT, META]].tolist() if number < len(rows) else []
        key = next((k for at in offsets if (k := self.reader.key(shard, at))), f"number {number}")
        return f"{self.reader.files.shards[shard].name}/{key}"

    def close(self) -> None:
        """Close the shards and end what is fetched ahead."""
        self.reader.close()

    def _read_caption(self, sample: int) -> list[list[int]] | Failure:
        shard, number = self._order.locate(sample)
        index = self.reader.index(shard)
        if number >= len(index.rows):
            name = self.reader.files.shards[shard].name
            why = "the file is cut off" if index.truncated else "sizes.json or its stats say more"
            return Failure("missing", f"{name} holds {len(index.rows)} samples: {why}", f"{name}/number {number}")
        row = index.rows[number].tolist()
        if row[PICTURE] < 0:
            why = ": the file is cut off" if index.truncated and number + 1 == len(index.rows) else ""
            return Failure("no-picture", f"the sample has no picture{why}", self.called(sample))
        column = TEXT if row[TEXT] >= 0 else META
        if row[column + 1] > MOST_TEXT_BYTES:
            return Failure("no-captions", f"its text has {row[column + 1]:,} bytes, no caption", self.called(sample))
        content = self.reader.read(shard, row[column], row[column + 1]) if row[column] >= 0 else b""
        caption = clean_caption(text := caption_text(content, column), lower_case=self._lower_case)
        caption = caption or clean_caption(text, lower_case=False)
        if not caption:
            return Failure("no-captions", "the sample has no caption", self.called(sample))
        return [self._encode(caption)]


def caption_text(content: bytes, column: int) -> str:
    """The caption in the .txt or the .json of a sample; "" if there is none."""
    text = content.decode("utf-8", "replace")
    if column == TEXT:
        return text
    try:
        said = parse_json(text, "")
    except UsageError:
        return ""
    caption = said.get("caption") if isinstance(said, dict) else None
    return caption if isinstance(caption, str) else ""
