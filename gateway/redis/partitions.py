"""Where keys are in a cluster: a call may only touch keys of one slot, so all that a request needs is in one partition.

Outside of a cluster there is but one partition, and keys have no tag.
"""

from __future__ import annotations

from zlib import crc32

CLUSTER_PARTITIONS = 64


class Partitions:
    """A key's tag is in braces: that part alone decides about its slot (Redis Cluster's hash tags)."""

    def __init__(self, count: int = 1) -> None:
        self.tags = [f"{{{number}}}" for number in range(count)] if count > 1 else [""]

    def tag_for(self, text: str) -> str:
        """The tag of the partition that belongs to `text`, evenly spread and always the same."""
        return self.tags[crc32(text.encode("utf-8", "surrogatepass")) % len(self.tags)] if len(self.tags) > 1 else ""
