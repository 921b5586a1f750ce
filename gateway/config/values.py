"""Checks of single values. Each returns the value as it is used, or raises ValueError with what was expected."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from limits import parse as parse_limit
from pydantic import SecretStr

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
SEGMENTS = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")  # RFC 3986 3.3, without escapes
ROUTE_SEGMENT = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z0-9._~!$&'()+,;=:@-]+")
SERVICE_NAME = re.compile(r"[a-z][a-z0-9_]*")
ORIGIN = re.compile(r"https?://(?:\*\.)?[A-Za-z0-9.-]+(?::(?:\d{1,5}|\*))?|https?://\[[0-9A-Fa-f:.]+\](?::(?:\d{1,5}|\*))?")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
MIN_SECRET_BYTES = 32
REDIS_SCHEMES = ("redis", "rediss", "unix")

# The gateway makes or removes these by itself: a claim must not be written into them.
FORBIDDEN_IDENTITY_HEADERS = frozenset(
    "host connection content-length transfer-encoding te trailer upgrade keep-alive expect via forwarded "
    "authorization cookie x-request-id x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)


def check_limit(text: str) -> str:
    try:
        parse_limit(text)
    except ValueError:
        raise ValueError(f'must be like "300/minute" or "10 per 5 second", got {text!r}') from None
    return text


def check_method(text: str) -> str:
    if not TOKEN.fullmatch(text):
        raise ValueError(f"must be a method such as GET, got {text!r}")
    return text.upper()


def check_header_name(text: str) -> str:
    if not TOKEN.fullmatch(text):
        raise ValueError(f"must be a header name (RFC 9110 5.1), got {text!r}")
    if text.lower() in FORBIDDEN_IDENTITY_HEADERS:
        raise ValueError(f"{text!r} is a field that the gateway or HTTP itself owns")
    if "_" in text:
        raise ValueError(f"{text!r} has an underscore: many services can't tell it from a hyphen")
    return text


def check_service_name(text: str) -> str:
    if not SERVICE_NAME.fullmatch(text):
        raise ValueError(f"a service's name is lower case letters, digits and _, got {text!r}")
    return text


def check_prefix(text: str) -> str:
    if text == "/":
        return text
    if not SEGMENTS.fullmatch(text) or has_dot_segment(text):
        raise ValueError(f"must be like /api/devices: no trailing slash, no escapes, no dot segments, got {text!r}")
    return text


def check_route_path(text: str) -> str:
    path = text.removesuffix("/**")
    segments = path.split("/")[1:]
    good = path.startswith("/") and all(ROUTE_SEGMENT.fullmatch(one) for one in segments if one or path != "/")
    if (not good and text != "/**") or has_dot_segment(path):
        raise ValueError(
            f"must be like /api/devices/{{id}} or /api/devices/admin/**: no trailing slash, no escapes, got {text!r}"
        )
    return text


def has_dot_segment(path: str) -> bool:
    return any(segment in (".", "..") for segment in path.split("/"))


def check_target(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"scheme must be http or https, got {parts.scheme!r}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"the port of {text!r} is not a number from 1 to 65535") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not have a user or password in it")
    if not parts.hostname or port == 0 or not is_host(parts.hostname):
        raise ValueError(f"must be like http://host:port, got {text!r}")
    if parts.query or parts.fragment or (parts.path not in ("", "/") and not SEGMENTS.fullmatch(parts.path)):
        raise ValueError(f"must be a scheme, a host and perhaps a port and a path, got {text!r}")
    return text.rstrip("/")


def is_host(text: str) -> bool:
    if ":" in text:
        try:
            IPv6Address(text)
        except ValueError:
            return False
        return True
    return HOST_NAME.fullmatch(text) is not None


def check_origin(text: str) -> str:
    if text in ("*", "null") or ORIGIN.fullmatch(text):
        return text
    raise ValueError(
        f"must be like https://app.example.com, https://*.example.com, http://localhost:* or *, got {text!r}"
    )


def check_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes (RFC 7518 3.2)")
    return secret


def check_redis_url(url: SecretStr) -> SecretStr:
    # The URL may hold a password, so no part of it but the scheme is repeated.
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(REDIS_SCHEMES)}, got {parts.scheme!r}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("must be like unix:///path/to/socket")
    if parts.scheme != "unix":
        try:
            port = parts.port
        except ValueError:
            port = 0
        if not parts.hostname or port == 0:
            raise ValueError("must be like redis://host:6379/0")
    return url
