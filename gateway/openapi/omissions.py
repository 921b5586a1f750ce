"""Records what the merged document leaves out of a service's document, and why, so that nothing is lost silently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

# Clients load the list with the document, so it is bounded.
MAX_LISTED = 100
MAX_POINTER_CHARACTERS = 500
DROPPED_PARTS = "x-gateway-dropped"

# The location of a part: the location of its container, and its key in the container; None is the document itself. A
# pair costs the same at any depth, unlike a JSON Pointer, which is made only for the few parts that are left out.
Location: TypeAlias = "tuple[Location, str] | None"

NOT_A_FIELD = "OpenAPI 3.1 has no such field here"
WRONG_TYPE = "OpenAPI 3.1 requires another type here"
NOWHERE = "the reference has no target in this document"
OTHER_SERVERS = "the gateway forwards to the targets in its configuration"
NO_SUCH_OPERATION = "the link does not lead to an operation that clients can call"


class Omissions:
    """What is left out of one service's document. Each part has one entry, with the reason that was given first."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._is_complete = True

    def add(self, location: Location, reason: str) -> None:
        if len(self._reasons) >= MAX_LISTED:
            self._is_complete = False
            return
        self._reasons.setdefault(pointer(location), reason)

    @property
    def entry(self) -> dict[str, Any]:
        """The fields for the service's entry in `x-gateway-services`; empty if nothing was left out."""
        if not self._reasons:
            return {}
        listed = [{"pointer": location, "reason": reason} for location, reason in self._reasons.items()]
        return {DROPPED_PARTS: listed} | ({} if self._is_complete else {"x-gateway-dropped-more": True})


def location_of(tokens: Sequence[str]) -> Location:
    location: Location = None
    for token in tokens:
        location = (location, token)
    return location


def pointer(location: Location) -> str:
    """The location as a JSON Pointer (RFC 6901), cut at MAX_POINTER_CHARACTERS."""
    tokens = []
    while location is not None:
        location, token = location
        tokens.append("/" + escaped(token))
    return "".join(reversed(tokens))[:MAX_POINTER_CHARACTERS]


def escaped(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
