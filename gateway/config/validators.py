"""Validators of values that a pattern does not describe. Each returns the value as it is used, or raises ValueError
with what was expected."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from pydantic import SecretStr

from gateway.http_fields import may_hold_a_claim
from gateway.url_redaction import quoted_url

# RFC 3986 3.3, without escapes, dot segments and wildcards.
NO_DOT_SEGMENT = r"(?!\.{1,2}(?:/|$))"
SEGMENT = NO_DOT_SEGMENT + r"[A-Za-z0-9._~!$&'()+,;=:@-]+"
PATH = re.compile(rf"(?:/{NO_DOT_SEGMENT}[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
PATH_PATTERN = re.compile(r"/[!-~]*")
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
MIN_SECRET_BYTES = 32
# Stands in for an invalid secret while other settings are validated.
SUBSTITUTE_SECRET = "substitute" * 4
# CONNECT requests a tunnel. TRACE would return the identity headers that the gateway adds.
REFUSED_METHODS = frozenset(["CONNECT", "TRACE"])
# The kinds of drift: how the document of a service and the configuration can disagree. `openapi.drift` finds them.
DRIFT_KINDS = ("protected_but_open", "open_but_protected", "route_without_operation", "unreachable_operation")


def check_route_method(method: str) -> str:
    if method == "*":
        raise ValueError("leave methods out where a route is for all of them")
    if method in REFUSED_METHODS:
        raise ValueError(f"{method} is never forwarded")
    return method


def check_placeholders(path: str) -> str:
    names = PLACEHOLDER.findall(path)
    if len(set(names)) < len(names):
        raise ValueError(f"has two placeholders of one name, got {path!r}")
    if "path" in names and path.endswith("/**"):
        raise ValueError(f"{{path}} is the name of what /** matches: choose another name, got {path!r}")
    return path


def check_service_path(text: str) -> str:
    """A path, perhaps with a query, that the gateway itself requests from a service."""
    path, _, query = text.partition("?")
    if not PATH.fullmatch(path) or not re.fullmatch(r"[!\"$-~]*", query):
        raise ValueError(f"must be like /openapi.json, got {quoted_url(text)}")
    return text


def check_document_path(text: str) -> str:
    return check_service_path(text) if text else text


def check_drift_rule(text: str) -> str:
    """A kind of drift, and optionally a pattern of paths: `unreachable_operation /health`."""
    kind, space, pattern = text.partition(" ")
    if kind not in DRIFT_KINDS:
        near = get_close_matches(kind, DRIFT_KINDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"must begin with one of {', '.join(DRIFT_KINDS)}, got {text!r}{hint}")
    if space:
        check_path_pattern(pattern)
    return text


def check_path_pattern(text: str) -> str:
    if not PATH_PATTERN.fullmatch(text):
        raise ValueError(f"must be like /api/devices/internal/** or /api/*/debug, got {text!r}")
    return text


def check_identity_header(name: str) -> str:
    if not may_hold_a_claim(name):
        raise ValueError(f"{name!r} is reserved by the gateway or by HTTP")
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ValueError(f"must have only letters, digits and -: services may read others as -, got {name!r}")
    return name


def check_header_value(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value.get_secret_value()):
        raise ValueError("must be the value of a header: printable ASCII without blanks around it")
    return value


def check_audience(given: object) -> str | tuple[str, ...]:
    audiences = [given] if isinstance(given, str) else given
    if not isinstance(audiences, list | tuple) or not audiences:
        raise ValueError("must be a string, or a list of strings")
    if not all(isinstance(one, str) and one for one in audiences):
        raise ValueError("must be a string, or a list of strings, none of them empty")
    return given if isinstance(given, str) else tuple(audiences)


def check_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes (RFC 7518 3.2)")
    return secret


def check_file(path: Path) -> Path:
    # The value is not quoted: it may be a private key, pasted instead of a path.
    if str(path) == "." or "\n" in str(path) or "-----BEGIN" in str(path):
        raise ValueError("must be the path of a file")
    return path


def check_new_file(path: Path) -> Path:
    """The path of a file that exists or can be created."""
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder")
    return path


def check_worker(text: str) -> str:
    if text != "gevent":
        # With threads, slow clients would occupy all of them, and half of the time limits could not be enforced.
        raise ValueError(f"must be gevent, which is the only kind of worker, got {text!r}")
    return text
