"""Checks of addresses: targets, origins, where to listen. As in `values`, each returns the value or raises
ValueError."""

from __future__ import annotations

import json
import re
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from gateway.config.validators import SEGMENTS, has_dot_segment
from gateway.hosts import read_host, read_host_pattern
from gateway.url_redaction import masked_address, quoted_address

ORIGIN = re.compile(
    r"https?://(?:\*\.)?[A-Za-z0-9.-]+(?::(?P<port>[0-9]{1,5}|\*))?|"
    r"https?://\[[0-9A-Fa-f:.]+\](?::(?P<port6>[0-9]{1,5}|\*))?"
)
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291 2.5.5.2
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?")


def check_target(text: str) -> str:
    # A password may be in it, so no part of it is repeated then.
    if "@" in text:
        raise ValueError("must not have a user, a password or any other @ in it")
    parts = split_url(text)
    if parts is None or "://" not in text:
        raise ValueError(f"must be like http://host:port, got {quoted_address(text)}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"scheme must be http or https, got {parts.scheme!r}")
    if not is_port(parts):
        raise ValueError(f"the port of {quoted_address(text)} is not a number from 1 to 65535")
    if not parts.hostname or not is_host(parts.hostname):
        raise ValueError(f"must be like http://host:port, got {quoted_address(text)}")
    path = parts.path.removesuffix("/")
    if "?" in text or "#" in text or has_dot_segment(path) or (path and not SEGMENTS.fullmatch(path)):
        raise ValueError(f"must be a scheme, a host and perhaps a port and a path, got {quoted_address(text)}")
    # The scheme decides about TLS, so it has one spelling.
    return parts.scheme + text[len(parts.scheme) :].removesuffix("/")


def check_collector(text: str) -> str:
    """The base of a collector's URLs, as OpenTelemetry's own settings have it."""
    url = check_target(text)
    if url.endswith("/v1/traces"):
        raise ValueError("must be what comes before /v1/traces, like http://127.0.0.1:4318")
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
    raise ValueError(f"must be like {example}, got {quoted_address(text)}")


def check_bind(given: object) -> str | tuple[str, ...]:
    """One address to listen on, or a list of them."""
    addresses = [given] if isinstance(given, str) else given
    if not isinstance(addresses, list | tuple) or not all(isinstance(one, str) for one in addresses) or not addresses:
        raise ValueError('must be an address, or a list of addresses such as ["127.0.0.1:8000", "[::1]:8000"]')
    for address in addresses:
        check_listening_address(address)
    if len(set(addresses)) < len(addresses):
        raise ValueError("has an address twice")
    if len({address.startswith("fd://") for address in addresses}) > 1:
        # gunicorn would silently leave out all the others.
        raise ValueError("must not have fd:// addresses and others in one list")
    return given if isinstance(given, str) else tuple(addresses)


def check_listening_address(text: str) -> None:
    if re.fullmatch(r"unix:.+|fd://[0-9]+", text):
        return
    several = [one.strip() for one in text.split(",")]
    if len(several) > 1 and all(several):
        raise ValueError(f"must be a list where there are several addresses: {json.dumps(several)}, got {text!r}")
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if is_bracketed else host
    is_name = is_host(name) and is_bracketed == (":" in name)
    if not is_name or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"must be like 127.0.0.1:8000, [::1]:8000 or unix:/path/to/socket, got {text!r}")


def check_host_pattern(text: str) -> str:
    if read_host_pattern(text) is None:
        raise ValueError(f"must be like api.example.com, *.example.com, 10.0.0.7 or [::1]:8000, got {text!r}")
    return text


def check_authority(text: str) -> str:
    """A host as it is written in a Host field (RFC 9110 7.2)."""
    host = read_host(text)
    if host is None or not host.name or host.port == "0" or text.endswith(":"):
        example = "devices.example.com or [::1]:8000"
        raise ValueError(f"must be a host and perhaps a port, like {example}, got {quoted_address(text)}")
    return text


def check_network(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"must be an address or a network like 10.0.0.0/8, got {text!r}") from None
    if network.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} has bits beside the network's: write {str(network)!r}, or the address alone")
    # Clients with IPv4-mapped addresses are seen as IPv4 clients.
    if isinstance(network, IPv6Network) and network.subnet_of(IPV4_MAPPED):
        network = ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return str(network)


def split_url(text: str) -> SplitResult | None:
    """The parts of a URL; None where it has none. urlsplit's own errors would repeat a password."""
    # It silently drops blanks and control characters, which then would be in what is used.
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


def check_document_url(text: str) -> str:
    """A URL that the gateway fetches a document from: https, or http where the network is trusted."""
    parts = split_url(text)
    # Not quoted before it is known where a password could be in it.
    if parts is None or parts.scheme not in ("http", "https"):
        raise ValueError("must be a URL of http or https, like https://id.example.com/.well-known/jwks.json")
    shown = masked_address(text)
    if not parts.hostname or not is_host(parts.hostname):
        raise ValueError(f"{shown!r} has no host, or none that there can be")
    if parts.username is not None:
        raise ValueError(f"{shown!r} has a user or a password, which are not sent")
    if "#" in text:
        raise ValueError(f"{shown!r} has a fragment (#), which is never sent")
    if not is_port(parts):
        raise ValueError(f"the port of {shown!r} is not a number from 1 to 65535")
    return text
