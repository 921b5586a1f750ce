"""What is known of one service's document."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace

# What a service may be sent back: an odd or endless one would make it refuse each further request.
VALIDATOR = re.compile(r"[!-~][ -~]{0,511}")
TEXTS = ("version", "etag", "last_modified", "failure")
LAST_MOMENT = 1e11  # seconds since 1970; later ones are no dates


@dataclass(frozen=True, slots=True)
class DocumentState:
    """`version` is a hash of the bytes, empty where no document was ever had. `etag` and `last_modified` are what the
    service said of them. Times are seconds since 1970; `stale_since` is set while the document can't be renewed."""

    version: str = ""
    etag: str = ""
    last_modified: str = ""
    checked_at: float = 0.0
    stale_since: float | None = None
    failure: str = ""

    def failed(self, reason: str, now: float) -> DocumentState:
        """What is known after another attempt failed: the document stays, and since when it is old. The next attempt
        asks for it whole, as it may have been what was said of it that the service stumbled over."""
        return replace(
            self, etag="", last_modified="", checked_at=now, stale_since=self.stale_since or now, failure=reason
        )

    @property
    def validators(self) -> dict[str, str]:
        """The fields that ask for the document only if it has changed (RFC 9110 13.1)."""
        fields = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.last_modified}
        return {name: value for name, value in fields.items() if self.version and VALIDATOR.fullmatch(value)}

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> DocumentState:
        """Raises ValueError or TypeError for what `to_json` has not written."""
        try:
            kept = cls(**json.loads(text))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        times = [kept.checked_at, *([] if kept.stale_since is None else [kept.stale_since])]
        if not all(isinstance(getattr(kept, name), str) for name in TEXTS) or not all(map(is_moment, times)):
            raise ValueError("not what is kept of a document")
        return kept


def is_moment(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < LAST_MOMENT
