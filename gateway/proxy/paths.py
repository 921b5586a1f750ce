"""Which request targets are safe: the decision and the forwarded bytes come from the same raw path.

A path is decoded once to decide on it, and forwarded as the client wrote it. Whatever could read differently further
on (dot segments, encoded slashes, a second layer of escapes) is refused here.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.errors import BadPath

PCHAR = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")  # RFC 3986 3.3
# A path in which there is nothing to look for: no escape, parameter or empty segment, none that begins with a dot.
PLAIN = re.compile(r"(?:/[A-Za-z0-9\-_~][A-Za-z0-9\-._~]*+)++/?")
QUERY = re.compile(r"[\x21-\x7e]*")
# Beyond the grammar: browsers and clients send these unescaped in paths, and they mean nothing to anyone.
TOLERATED = str.maketrans("", "", '"[]^`{|}')
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
RESIDUAL = re.compile(r"%(?:2e|2f|5c|00|25(?:25)*(?:2e|2f|5c))", re.IGNORECASE)
MAX_LAYERS = 4
PARAMETERS = re.compile(";[^/]*")
SLASHES = re.compile("//+")
ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)


class RequestTarget(NamedTuple):
    """`raw_path` and `raw_query` (None without "?") are the client's bytes; `path` is decoded once, as UTF-8 where it
    is, else byte by byte. `doubtful` tells that other servers could read the path differently."""

    raw_path: str
    raw_query: str | None
    path: str
    doubtful: bool


def read_target(raw_target: str, *, encoded_slashes: bool = False) -> RequestTarget:
    """The target of a request line (RFC 9112 3.2), checked. Raises BadPath. `encoded_slashes` allows %2F and %5C."""
    location, _, query = raw_target.partition("?")
    raw_query = query if len(location) < len(raw_target) else None
    if not location.startswith("/"):
        match = ABSOLUTE_FORM.fullmatch(location)
        if match is None:
            raise BadPath("the request target must start with a slash")
        if "@" in match[1] or not match[1]:
            raise BadPath("the request target's authority is not accepted")
        location = match[2] or "/"
    return RequestTarget(location, raw_query, *check_path(location, encoded_slashes=encoded_slashes))


def check_path(raw_path: str, *, encoded_slashes: bool = False) -> tuple[str, bool]:
    """(the decoded path, whether it is doubtful). Raises BadPath."""
    if PLAIN.fullmatch(raw_path):
        return raw_path, False
    if "%" not in raw_path:
        path = raw_path
    else:
        octets = unquote_to_bytes(raw_path)
        try:
            path = octets.decode("utf-8")
        except UnicodeDecodeError:
            raise BadPath("the path's escapes are not UTF-8") from None
    if not PCHAR.fullmatch(raw_path.translate(TOLERATED)):
        raise BadPath("the path has a backslash, a stray % or another byte that must be escaped")
    if raw_path.startswith("//"):
        # A service may take what follows for a host (RFC 3986 4.2), and routing would overlook it.
        raise BadPath("the path starts with two slashes")
    if CONTROL.search(path):
        raise BadPath("the path has a control byte")
    lower = raw_path.lower()
    if "%2f" in lower or "%5c" in lower:
        if not encoded_slashes:
            raise BadPath(
                'the path has an encoded slash or backslash, which needs encoded_slashes = "forward" for its service'
            )
        decided_on = path.replace("\\", "/")
    else:
        decided_on = path
    if RESIDUAL.search(path):
        raise BadPath("the path is escaped twice")
    # A segment's parameters (";…") are cut off by some servers before they look for dots.
    if "." in decided_on and any(
        segment.partition(";")[0].strip(" ") in (".", "..") for segment in decided_on.split("/")
    ):
        raise BadPath("the path has a dot segment")
    return path, "%" in path or "//" in path or ";" in path or "%2f" in lower or "%5c" in lower


def other_readings(path: str) -> set[str]:
    """How servers that decode again, turn backslashes, cut off parameters or merge slashes read a doubtful path.

    Raises BadPath where it is wrapped in more layers of escapes than anyone has a use for."""
    decoded = {path}
    while (again := unquote_to_bytes(path).decode("utf-8", "replace")) != path:
        if len(decoded) > MAX_LAYERS:
            raise BadPath("the path is escaped many times")
        decoded.add(again)
        path = again
    turned = {reading.replace("\\", "/") for reading in decoded} | decoded
    cut = {PARAMETERS.sub("", reading) for reading in turned} | turned
    return {SLASHES.sub("/", reading) for reading in cut} | cut
