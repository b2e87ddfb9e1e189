"""From documents to batches: `write_shards`, `Shards`, `Packed`, `Batches`."""

from yuyan.corpus.batch import Batches
from yuyan.corpus.pack import Packed
from yuyan.corpus.shard import Shards, write_shards

__all__ = ["Batches", "Packed", "Shards", "write_shards"]
