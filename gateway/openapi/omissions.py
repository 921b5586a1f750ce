"""Which parts of a service's document the merged one leaves out, and why: listed, so that nothing vanishes silently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

# Each entry has a pointer and a reason: clients read them, and logs name the first ones.
MAX_LISTED = 100
DROPPED_PARTS = "x-gateway-dropped"
MAX_POINTER_CHARACTERS = 500

# Where a part stands in the document: the place around it and its key there; None is the document itself. A pair per
# step costs the same at any depth, and almost no place is ever written out.
Where: TypeAlias = "tuple[Where, str] | None"

NOT_A_FIELD = "OpenAPI 3.1 has no such field here"
WRONG_TYPE = "not of the type that OpenAPI 3.1 says"
NOWHERE = "it leads nowhere in this document"
OTHER_SERVERS = "the gateway forwards to the targets that it is configured with"
NO_SUCH_OPERATION = "it leads to no operation that clients can call"
TOO_MUCH = "too much would have to be written out again"


class Omissions:
    """Collects what is left out of one service's document. Each part counts once, under the reason given first."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._is_complete = True

    def add(self, where: Where, reason: str) -> None:
        if len(self._reasons) >= MAX_LISTED:
            # Pointers are made for those alone that are listed.
            self._is_complete = False
            return
        self._reasons.setdefault(pointer(where), reason)

    @property
    def entry(self) -> dict[str, Any]:
        """The fields for the service's entry in `x-gateway-services`; empty where nothing was left out."""
        if not self._reasons:
            return {}
        listed = [{"pointer": where, "reason": reason} for where, reason in self._reasons.items()]
        return {DROPPED_PARTS: listed} | ({} if self._is_complete else {"x-gateway-dropped-more": True})


def where_of(tokens: Sequence[str]) -> Where:
    where: Where = None
    for token in tokens:
        where = (where, token)
    return where


def pointer(where: Where) -> str:
    """The JSON Pointer (RFC 6901), cut where it is very long."""
    tokens = []
    while where is not None:
        where, token = where
        tokens.append("/" + escaped(token))
    return "".join(reversed(tokens))[:MAX_POINTER_CHARACTERS]


def escaped(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
