"""From documents to batches: `write_shards`, `Shards`, `Packed`, `Stream`, `Batches`."""

from yuyan.corpus.batch import Batches
from yuyan.corpus.pack import Packed, Stream
from yuyan.corpus.shard import Shards, write_shards

__all__ = ["Batches", "Packed", "Shards", "Stream", "write_shards"]
