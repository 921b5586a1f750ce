"""What is known of one service's document."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, slots=True)
class Kept:
    """`version` is a hash of the bytes, empty where no document was ever had. `etag` and `last_modified` are what the
    service said of them. Times are seconds since 1970; `stale_since` is set while the document can't be renewed."""

    version: str = ""
    etag: str = ""
    last_modified: str = ""
    checked_at: float = 0.0
    stale_since: float | None = None
    failure: str = ""

    def failed(self, reason: str, now: float) -> Kept:
        """What is known after another attempt failed: the document stays, and since when it is old."""
        return replace(self, checked_at=now, stale_since=self.stale_since or now, failure=reason)

    @property
    def validators(self) -> dict[str, str]:
        """The fields that ask for the document only if it has changed (RFC 9110 13.1)."""
        fields = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.last_modified}
        return {name: value for name, value in fields.items() if value and self.version}

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Kept:
        """Raises ValueError or TypeError for what `to_json` has not written."""
        return cls(**json.loads(text))
