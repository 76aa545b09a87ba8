"""Shards: tar files of captioned pictures as training sources, streamed from disks or object stores.

Data walk through `patterns` (names), `files` (what is there), `tar` (where a shard's members lie), `reading` (bytes of
a member), `counting` (samples of every shard), `finding` (all of these together), `order` (which sample at which draw),
`source` (what batches are drawn from).
"""

from evlgen.data.shards.finding import FoundShards, count_shards, open_reader
from evlgen.data.shards.source import ShardSource

__all__ = ["FoundShards", "ShardSource", "count_shards", "open_reader"]
