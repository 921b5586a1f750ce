"""URLs and paths as they may be shown to operators: without what is, or may be, a secret in them."""

from __future__ import annotations

MASK = "**********"


def masked_address(text: str) -> str:
    """A URL or a path without user, password and query: `redis://**********@10.0.0.7:6379/0?**********`."""
    start, query_mark, query = text.partition("?")
    scheme, separator, rest = start.partition("://")
    if not separator:
        scheme, rest = "", start
    # Several hosts may be named, and a password may hold anything: whatever comes before the last @.
    _, at, place = rest.rpartition("@")
    shown, fragment_mark, fragment = place.partition("#")
    hidden = fragment_mark + (MASK if fragment else "") + query_mark + (MASK if query else "")
    return scheme + separator + (MASK + at if at else "") + shown + hidden


def quoted_address(text: str) -> str:
    """The same between quotation marks, for a message about what somebody has written."""
    return repr(masked_address(text))
