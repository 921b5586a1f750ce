"""Validators of URLs, origins, hosts, networks and listening addresses. Each returns the value as it is used, or raises
ValueError with what was expected. The messages never contain a password that is part of a URL."""

from __future__ import annotations

import json
import re
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from gateway.config.validators import PATH
from gateway.hosts import read_host, read_host_pattern
from gateway.url_redaction import quoted_url

ORIGIN = re.compile(
    r"https?://(?:\*\.)?[A-Za-z0-9.-]+(?::(?P<port>[0-9]{1,5}|\*))?|"
    r"https?://\[[0-9A-Fa-f:.]+\](?::(?P<port6>[0-9]{1,5}|\*))?"
)
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 2.5.5.2
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?")


def check_target(text: str) -> str:
    if "@" in text:
        raise ValueError("must not have a user, a password or any other @ in it")
    parts = split_http_url(text, "http://host:port")
    path = parts.path.removesuffix("/")
    if "?" in text or "#" in text or (path and not PATH.fullmatch(path)):
        raise ValueError(f"must be a scheme, a host and perhaps a port and a path, got {quoted_url(text)}")
    # The scheme decides whether TLS is used, so it is always stored in lower case.
    return parts.scheme + text[len(parts.scheme) :].removesuffix("/")


def check_document_url(text: str) -> str:
    """A URL that the gateway fetches a document from; http is for trusted networks."""
    parts = split_http_url(text, "https://id.example.com/.well-known/jwks.json")
    if parts.username is not None:
        raise ValueError(f"{quoted_url(text)} has a user or a password, which are not sent")
    if "#" in text:
        raise ValueError(f"{quoted_url(text)} has a fragment (#), which is never sent")
    return text


def split_http_url(text: str, example: str) -> SplitResult:
    """The parts of a URL of http or https. Raises ValueError."""
    parts = split_url(text)
    if parts is None or "://" not in text:
        raise ValueError(f"must be like {example}, got {quoted_url(text)}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"scheme must be http or https, got {parts.scheme!r}")
    if not is_port(parts):
        raise ValueError(f"the port of {quoted_url(text)} is not a number from 1 to 65535")
    if not parts.hostname or not is_host(parts.hostname):
        raise ValueError(f"must be like {example}, got {quoted_url(text)}")
    return parts


def check_collector(text: str) -> str:
    """The base URL of a trace collector, without `/v1/traces`, as in OpenTelemetry's own settings."""
    url = check_target(text)
    if url.endswith("/v1/traces"):
        raise ValueError("must be the URL without /v1/traces, like http://127.0.0.1:4318")
    return url


def check_origin(text: str) -> str:
    if text in ("*", "null"):
        return text
    if found := ORIGIN.fullmatch(text):
        port = found["port"] or found["port6"] or "*"
        if port != "*" and not 1 <= int(port) <= 65535:
            raise ValueError(f"the port of {text!r} is not a number from 1 to 65535")
        return text
    example = "https://app.example.com, https://*.example.com, http://localhost:* or *"
    raise ValueError(f"must be like {example}, got {quoted_url(text)}")


def check_bind(given: object) -> str | tuple[str, ...]:
    """One address to listen on, or a list of them."""
    addresses = [given] if isinstance(given, str) else given
    if not isinstance(addresses, list | tuple) or not all(isinstance(one, str) for one in addresses) or not addresses:
        raise ValueError('must be an address, or a list of addresses such as ["127.0.0.1:8000", "[::1]:8000"]')
    for address in addresses:
        check_listening_address(address)
    if len(set(addresses)) < len(addresses):
        raise ValueError("must not have an address twice")
    if len({address.startswith("fd://") for address in addresses}) > 1:
        # Beside an fd:// address, gunicorn would ignore all other addresses.
        raise ValueError("must not have fd:// addresses and others in one list")
    return given if isinstance(given, str) else tuple(addresses)


def check_listening_address(text: str) -> None:
    if re.fullmatch(r"unix:.+|fd://[0-9]+", text):
        return
    several = [one.strip() for one in text.split(",")]
    if len(several) > 1 and all(several):
        raise ValueError(f"must be a list if there are several addresses: {json.dumps(several)}, got {text!r}")
    host = read_host(text)
    if host is None or not host.name or not host.port:
        raise ValueError(f"must be like 127.0.0.1:8000, [::1]:8000 or unix:/path/to/socket, got {text!r}")


def check_host_pattern(text: str) -> str:
    if read_host_pattern(text) is None:
        raise ValueError(f"must be like api.example.com, *.example.com, 10.0.0.7 or [::1]:8000, got {text!r}")
    return text


def check_authority(text: str) -> str:
    """A host with an optional port, as in the header `Host` (RFC 9110 7.2)."""
    host = read_host(text)
    if host is None or not host.name or host.port == "0" or text.endswith(":"):
        example = "devices.example.com or [::1]:8000"
        raise ValueError(f"must be a host and perhaps a port, like {example}, got {quoted_url(text)}")
    return text


def check_network(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"must be an address or a network like 10.0.0.0/8, got {text!r}") from None
    if network.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} has host bits set: write {str(network)!r}, or the address alone")
    # Clients with IPv4-mapped addresses are treated as IPv4 clients.
    if isinstance(network, IPv6Network) and network.subnet_of(IPV4_MAPPED):
        network = ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return str(network)


def split_url(text: str) -> SplitResult | None:
    """The parts of a URL; None if it is malformed. The message of urlsplit's own error is not used: it may contain a
    password that is part of the URL."""
    # urlsplit removes blanks and control characters silently, but the URL that the gateway uses would still contain
    # them.
    if not re.fullmatch(r"[!-~]+", text):
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None


def is_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        return False


def is_host(text: str) -> bool:
    if ":" in text:
        try:
            return IPv6Address(text).scope_id is None
        except ValueError:
            return False
    return HOST_NAME.fullmatch(text) is not None
