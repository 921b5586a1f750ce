"""Redacts URLs and paths for log lines, messages and the status page: no user, password, query or fragment."""

from __future__ import annotations

MASK = "**********"


def redact_url(text: str) -> str:
    """Masks the secret parts of a URL or path: `redis://**********@10.0.0.7:6379/0?**********`."""
    start, query_mark, query = text.partition("?")
    scheme, separator, rest = start.partition("://")
    if not separator:
        scheme, rest = "", start
    # Split at the last @: a password may contain further ones, and Redis URLs may name several hosts.
    _, at, place = rest.rpartition("@")
    shown, fragment_mark, fragment = place.partition("#")
    hidden = fragment_mark + (MASK if fragment else "") + query_mark + (MASK if query else "")
    return scheme + separator + (MASK + at if at else "") + shown + hidden


def quoted_url(text: str) -> str:
    """The redacted URL in quotation marks, for a message about a setting."""
    return repr(redact_url(text))
