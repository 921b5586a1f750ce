"""Where keys are in a cluster: a call may only touch keys of one slot, so all that a request needs is in one partition.

Outside of a cluster there is but one partition, and keys have no tag. A configured prefix comes before all of it, so
that others may share the Redis.
"""

from __future__ import annotations

from zlib import crc32

CLUSTER_PARTITIONS = 64


class HashTags:
    """A key's tag is in braces: that part alone decides about its slot (Redis Cluster's hash tags). `tags` are what
    keys begin with, `any_tag` is a pattern for all of them."""

    def __init__(self, count: int = 1, prefix: str = "") -> None:
        """`prefix` has no braces: the first ones in a key are the tag's."""
        self.tags = [f"{prefix}{{{number}}}" for number in range(count)] if count > 1 else [prefix]
        self.any_tag = f"{prefix}{{*}}" if count > 1 else prefix

    def tag_for(self, text: str) -> str:
        """The tag of the partition that belongs to `text`, evenly spread and always the same."""
        tags = self.tags
        return tags[crc32(text.encode("utf-8", "surrogatepass")) % len(tags)] if len(tags) > 1 else tags[0]
