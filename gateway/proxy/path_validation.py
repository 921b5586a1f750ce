"""Parses and validates request targets. The raw path that is checked is the one that is forwarded.

A path is decoded once for the checks, routing and policies, and forwarded as the client wrote it. An encoded slash or
backslash stays encoded in the decoded path, so it never separates segments of a prefix or route. Everything that a
server could interpret differently (dot segments, encoded slashes, escapes of escapes) is refused. A service can allow
encoded slashes.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from gateway.errors import BadPath

PCHAR = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")  # RFC 3986 3.3
# A path that all servers read alike: no escape, capital letter, parameter or empty segment, no dot at the start or end
# of a segment.
PLAIN = re.compile(r"(?:/[a-z0-9\-_~]++(?:\.++[a-z0-9\-_~]++)*+)++/?")
# The same with capital letters, which some servers treat as lower case.
PLAIN_BUT_FOR_CASE = re.compile(PLAIN.pattern, re.IGNORECASE | re.ASCII)
# Browsers and other clients send these characters unescaped, against the grammar. They have no special meaning.
TOLERATED = str.maketrans("", "", '"[]^`{|}')
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ENCODED_SLASH = re.compile(r"%(2f|5c)", re.IGNORECASE)
# Escapes that repeated decoding turns into a dot, a slash, a backslash or NUL.
RESIDUAL = re.compile(r"%(?:25)*(?:2e|2f|5c|00)", re.IGNORECASE)
RESIDUAL_BUT_SLASHES = re.compile(r"%(?:25)*(?:2e|00)", re.IGNORECASE)
# An ASCII character in more bytes than it needs. UTF-8 forbids it, but some decoders accept it (RFC 3629 10).
OVERLONG = re.compile(rb"(?:(?:\xf0\x80|\xe0)([\x80\x81])|([\xc0\xc1]))([\x80-\xbf])")
PARAMETERS = re.compile(";[^/]*")
SLASHES = re.compile("//+")
ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)
MAX_READINGS = 64


class RequestTarget(NamedTuple):
    """`raw_path` and `raw_query` (None without "?") are the client's bytes. `path` is decoded once, except for encoded
    slashes and backslashes. `is_ambiguous` is whether some servers could read `raw_path` as another path."""

    raw_path: str
    raw_query: str | None
    path: str
    is_ambiguous: bool


def parse_request_target(raw_target: str, *, encoded_slashes: bool = False) -> RequestTarget:
    """Parses the target of a request line (RFC 9112 3.2). `encoded_slashes` allows %2F and %5C. Raises BadPath."""
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


def decode_once(raw_path: str) -> bytes:
    """The path with its escapes decoded, except those of slashes and backslashes."""
    return unquote_to_bytes(ENCODED_SLASH.sub(r"%25\1", raw_path) if ENCODED_SLASH.search(raw_path) else raw_path)


def check_path(raw_path: str, *, encoded_slashes: bool = False) -> tuple[str, bool]:
    """Returns the decoded path, and whether it is ambiguous. Raises BadPath for paths that are refused. A path that is
    not UTF-8, or has a doubly encoded slash, is refused without `encoded_slashes` and ambiguous with it."""
    if PLAIN.fullmatch(raw_path):
        return raw_path, False
    if PLAIN_BUT_FOR_CASE.fullmatch(raw_path):
        return raw_path, True
    octets = decode_once(raw_path)
    try:
        path, is_utf8 = octets.decode("utf-8"), True
    except UnicodeDecodeError:
        if not encoded_slashes:
            raise BadPath("the path's escapes are not UTF-8") from None
        path, is_utf8 = octets.decode("utf-8", "replace"), False
    if not PCHAR.fullmatch(raw_path.translate(TOLERATED)):
        raise BadPath("the path has a backslash, a stray % or another byte that must be escaped")
    if raw_path.startswith("//"):
        # A service could read a host after the slashes (RFC 3986 4.2), and routing would ignore the empty segment.
        raise BadPath("the path starts with two slashes")
    if CONTROL.search(path):
        raise BadPath("the path has a control byte")
    if not encoded_slashes and ENCODED_SLASH.search(raw_path):
        raise BadPath(
            'the path has an encoded slash or backslash, which needs encoded_slashes = "forward" for its service'
        )
    if "%" in path and (RESIDUAL_BUT_SLASHES if encoded_slashes else RESIDUAL).search(path):
        raise BadPath("the path is escaped twice")
    if "." in path:
        # Some servers remove a segment's parameters (";…") before they look for dot segments.
        refuse_dot_segments(PARAMETERS.sub("", ENCODED_SLASH.sub("/", path)))
    is_ambiguous = "%" in path or "//" in path or ";" in path or not is_utf8
    return path, is_ambiguous or any(reading(path) != path for reading in (caseless, trimmed, compatible))


def refuse_dot_segments(path: str) -> None:
    """Raises BadPath if a segment is `.` or `..`, or would be after removing spaces, as some servers do."""
    if "." in path and any(
        not segment.strip(". ") and (len(segment) <= 2 or " " in segment) and "." in segment
        for segment in path.split("/")
    ):
        raise BadPath("the path has a dot segment")


def caseless(path: str) -> str:
    """The path as read by servers that ignore case."""
    # Upper case comes first: U+0131, an i without its dot, maps to I only in this direction.
    return path.casefold() if path.isascii() else path.upper().casefold()


def trimmed(path: str) -> str:
    """The path as read by file systems of Windows. In each segment they ignore dots and spaces at the end, spaces at
    the start, and everything from `::$` on."""
    if " " in path or "./" in path or "::$" in path or path.endswith("."):
        return "/".join(segment.partition("::$")[0].strip(" ").rstrip(" .") for segment in path.split("/"))
    return path


def compatible(path: str) -> str:
    """The path as read by servers that replace look-alike characters (Unicode NFKC)."""
    return path if path.isascii() else normalize("NFKC", path)


def alternative_readings(raw_path: str) -> list[str]:
    """All the ways in which servers could read an ambiguous path. A server may decode it again, accept bytes that are
    not UTF-8, turn backslashes into slashes, remove parameters, trim segments, merge slashes or normalize characters,
    in any combination.

    Raises BadPath if a reading has a dot segment, or if there are more than MAX_READINGS readings."""
    readings = list(dict.fromkeys(decodings(unquote_to_bytes(raw_path))))
    # The loop appends to the list that it iterates over.
    for reading in readings:
        refuse_dot_segments(reading)
        others = [
            reading.replace("\\", "/"),
            PARAMETERS.sub("", reading),
            SLASHES.sub("/", reading),
            trimmed(reading),
            compatible(reading),
            *(decodings(unquote_to_bytes(reading)) if "%" in reading else ()),
        ]
        readings += [other for other in dict.fromkeys(others) if other not in readings]
        if len(readings) > MAX_READINGS:
            raise BadPath("the path can be read in too many ways")
    return readings


def decodings(octets: bytes) -> list[str]:
    """The text that the bytes encode in UTF-8. If they are not UTF-8, the texts that lenient decoders would produce."""
    try:
        return [octets.decode("utf-8")]
    except UnicodeDecodeError:
        lenient = OVERLONG.sub(shortened, octets)
        return [
            octets.decode("utf-8", "replace"),
            octets.decode("utf-8", "ignore"),
            octets.decode("latin-1"),
            lenient.decode("utf-8", "replace"),
        ]


def shortened(found: re.Match[bytes]) -> bytes:
    """The character that an overlong sequence encodes."""
    return bytes([((found[1] or found[2])[0] & 1) << 6 | found[3][0] & 0x3F])
