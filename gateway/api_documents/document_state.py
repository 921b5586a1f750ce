"""The state of one service's document: its version, its validators, its last refresh and failure."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace

# What a validator (ETag, Last-Modified) must be like to be sent to the service. With an invalid or very long one,
# the service would refuse all further requests for the document.
VALIDATOR = re.compile(r"[!-~][ -~]{0,511}")
TEXTS = ("version", "etag", "last_modified", "failure")
MAX_TIME = 1e11  # seconds since 1970; later times are not valid dates


@dataclass(frozen=True, slots=True)
class DocumentState:
    """What is known of the document; times are seconds since 1970."""

    # SHA-256 of the document; empty if it was never fetched.
    version: str = ""
    # The validators that the service sent with the document.
    etag: str = ""
    last_modified: str = ""
    checked_at: float = 0.0
    # The time of the first failed refresh since the last successful one; None if the last refresh succeeded.
    stale_since: float | None = None
    failure: str = ""

    def after_failure(self, reason: str, now: float) -> DocumentState:
        """The state after a failed attempt to fetch the document, whose last version stays in use. The validators are
        removed, because the service may have failed on them."""
        return replace(
            self, etag="", last_modified="", checked_at=now, stale_since=self.stale_since or now, failure=reason
        )

    @property
    def validators(self) -> dict[str, str]:
        """The request headers that ask for the document only if it has changed (RFC 9110 13.1)."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": "" if self.etag else self.last_modified}
        return {name: value for name, value in headers.items() if self.version and VALIDATOR.fullmatch(value)}

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> DocumentState:
        """The state that `to_json` wrote as this text. Raises ValueError or TypeError if the text is not one of
        `to_json`."""
        try:
            state = cls(**json.loads(text))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        times = [state.checked_at, *([] if state.stale_since is None else [state.stale_since])]
        if not all(isinstance(getattr(state, name), str) for name in TEXTS) or not all(map(is_time, times)):
            raise ValueError("not the state of a document")
        return state


def is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < MAX_TIME
