"""Shards: tar files of captioned pictures as training sources, streamed from disks or object stores.

Data walk through `shard_names` (ranges and lists), `listing` (what is there), `tar_index` (where a shard's members
lie), `fetched` and `reader` (bytes of a member), `counting` (samples of every shard), `shard_order` (which sample at
which draw), `shard_source` (what batches are drawn from).
"""

from evlgen.data.shards.counting import FoundShards, count_shards
from evlgen.data.shards.reader import open_reader
from evlgen.data.shards.shard_source import ShardSource

__all__ = ["FoundShards", "ShardSource", "count_shards", "open_reader"]
