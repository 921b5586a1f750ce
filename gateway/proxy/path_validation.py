"""Which request targets are safe: the decision and the forwarded bytes come from the same raw path.

A path is decoded once to decide on it, and forwarded as the client wrote it. An encoded slash or backslash stays
encoded in what is decided on, so that it is never part of a prefix or of a route. Whatever could read differently
further on (dot segments, encoded slashes, a second layer of escapes) is refused here, unless the service wants encoded
slashes.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from gateway.errors import BadPath

PCHAR = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")  # RFC 3986 3.3
# A path that all servers read alike: no escape, capital letter, parameter or empty segment, no dot around a segment.
PLAIN = re.compile(r"(?:/[a-z0-9\-_~]++(?:\.++[a-z0-9\-_~]++)*+)++/?")
# The same with capital letters, which some servers don't tell from small ones.
PLAIN_BUT_FOR_CASE = re.compile(PLAIN.pattern, re.IGNORECASE | re.ASCII)
QUERY = re.compile(r"[\x21-\x7e]*")
# Beyond the grammar: browsers and clients send these unescaped in paths, and they mean nothing to anyone.
TOLERATED = str.maketrans("", "", '"[]^`{|}')
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ENCODED_SLASH = re.compile(r"%(2f|5c)", re.IGNORECASE)
# What becomes a dot, a slash, a backslash or NUL where it is decoded again and again.
RESIDUAL = re.compile(r"%(?:25)*(?:2e|2f|5c|00)", re.IGNORECASE)
RESIDUAL_BUT_SLASHES = re.compile(r"%(?:25)*(?:2e|00)", re.IGNORECASE)
# A character below 128 in more bytes than it needs, which UTF-8 forbids and some decoders take (RFC 3629 10).
OVERLONG = re.compile(rb"(?:(?:\xf0\x80|\xe0)([\x80\x81])|([\xc0\xc1]))([\x80-\xbf])")
PARAMETERS = re.compile(";[^/]*")
SLASHES = re.compile("//+")
ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)
MAX_READINGS = 64


class RequestTarget(NamedTuple):
    """`raw_path` and `raw_query` (None without "?") are the client's bytes. `path` is decoded once, but for encoded
    slashes and backslashes. `doubtful` tells that other servers could read the path differently."""

    raw_path: str
    raw_query: str | None
    path: str
    is_ambiguous: bool


def parse_request_target(raw_target: str, *, encoded_slashes: bool = False) -> RequestTarget:
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


def decode_once(raw_path: str) -> bytes:
    """The path without its escapes, but for those of slashes and backslashes, which separate nothing."""
    return unquote_to_bytes(ENCODED_SLASH.sub(r"%25\1", raw_path) if ENCODED_SLASH.search(raw_path) else raw_path)


def check_path(raw_path: str, *, encoded_slashes: bool = False) -> tuple[str, bool]:
    """(the path that is decided on, whether it is ambiguous). Raises BadPath. With `encoded_slashes` also what is not
    UTF-8 and slashes that are escaped twice are taken, and are doubtful."""
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
        # A service may take what follows for a host (RFC 3986 4.2), and routing would overlook it.
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
        # A segment's parameters (";…") are cut off by some servers before they look for dots.
        refuse_dot_segments(PARAMETERS.sub("", ENCODED_SLASH.sub("/", path)))
    is_doubtful = "%" in path or "//" in path or ";" in path or not is_utf8 or is_read_otherwise(path)
    return path, is_doubtful


def is_read_otherwise(path: str) -> bool:
    """Whether servers that know no case, trim segments or normalize letters read another path."""
    return caseless(path) != path or trimmed(path) != path or (not path.isascii() and normalize("NFKC", path) != path)


def refuse_dot_segments(path: str) -> None:
    """Raises BadPath where a segment is `.` or `..`, with or without blanks, which some servers cut off."""
    if "." in path and any(
        not segment.strip(". ") and (len(segment) <= 2 or " " in segment) and "." in segment
        for segment in path.split("/")
    ):
        raise BadPath("the path has a dot segment")


def caseless(path: str) -> str:
    """The path to servers that know no case."""
    # First to capitals: U+0131, an i without its dot, becomes I only in this direction.
    return path.casefold() if path.isascii() else path.upper().casefold()


def trimmed(path: str) -> str:
    """The path to servers that cut dots and blanks off the ends of segments, and what is behind `::$` (file systems of
    Windows)."""
    if " " in path or "./" in path or "::$" in path or path.endswith("."):
        return "/".join(segment.partition("::$")[0].strip(" ").rstrip(" .") for segment in path.split("/"))
    return path


def alternative_readings(raw_path: str) -> list[str]:
    """How servers read a doubtful path that decode again, take what is not UTF-8, turn backslashes, cut off parameters,
    trim segments, merge slashes or normalize letters, each alone and all together.

    Raises BadPath where there are more readings than anyone has a use for, and where one has a dot segment."""
    readings = list(dict.fromkeys(texts_of(unquote_to_bytes(raw_path))))
    # It grows meanwhile.
    for reading in readings:
        refuse_dot_segments(reading)
        others = [
            reading.replace("\\", "/"),
            PARAMETERS.sub("", reading),
            SLASHES.sub("/", reading),
            trimmed(reading),
            normalize("NFKC", reading),
            *(texts_of(unquote_to_bytes(reading)) if "%" in reading else ()),
        ]
        readings += [other for other in dict.fromkeys(others) if other not in readings]
        if len(readings) > MAX_READINGS:
            raise BadPath("the path can be read in too many ways")
    return readings


def texts_of(octets: bytes) -> list[str]:
    """The text that is UTF-8; of what is not, all that decoders make of it."""
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
    """The character that an overlong sequence stands for."""
    return bytes([((found[1] or found[2])[0] & 1) << 6 | found[3][0] & 0x3F])
