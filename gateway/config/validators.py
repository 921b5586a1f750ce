"""Checks of single values. Each returns the value as it is used, or raises ValueError with what was expected."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from pydantic import SecretStr

from gateway.http_fields import may_hold_a_claim
from gateway.url_redaction import quoted_address

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
SEGMENTS = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")  # RFC 3986 3.3, without escapes
ROUTE_SEGMENT = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z0-9._~!$&'()+,;=:@-]+")
PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Two underscores in a row, or one at the end, could not be told from what separates names in the environment.
SERVICE_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 3.3
MIN_SECRET_BYTES = 32
# In the place of a wrong one, while the other settings are looked at.
STAND_IN_SECRET = "stand-in" * 8
REFUSED_METHODS = ("CONNECT", "TRACE")
# What services' documents and the configuration can disagree about; `openapi.drift` finds it.
DRIFT_KINDS = ("protected_but_open", "open_but_protected", "route_without_operation", "unreachable_operation")


def check_method(text: str) -> str:
    if not TOKEN.fullmatch(text):
        raise ValueError(f"must be a method such as GET, got {text!r}")
    return text.upper()


def check_route_method(text: str) -> str:
    if text == "*":
        raise ValueError("leave methods out where a route is for all of them")
    method = check_method(text)
    if method in REFUSED_METHODS:
        raise ValueError(f"{method} is never forwarded")
    return method


def check_field_name(text: str) -> str:
    if not TOKEN.fullmatch(text):
        raise ValueError(f"must be a header name (RFC 9110 5.1), got {text!r}")
    return text


def check_field_value(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", value.get_secret_value()):
        raise ValueError("must be a header's value: printable ASCII, no blanks around it")
    return value


def check_header_name(text: str) -> str:
    check_field_name(text)
    if not may_hold_a_claim(text):
        raise ValueError(f"{text!r} is a field that the gateway or HTTP itself owns")
    if not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError(f"must have letters, digits and - alone, as services read other characters as -, got {text!r}")
    return text


def check_service_name(text: str) -> str:
    if not SERVICE_NAME.fullmatch(text):
        raise ValueError(f"a service's name is lower case letters, digits and single _ between them, got {text!r}")
    return text


def check_scope(text: str) -> str:
    if not SCOPE.fullmatch(text):
        raise ValueError(f"must be one scope, without blanks (RFC 6749 3.3), got {text!r}")
    return text


def check_audience(given: object) -> str | tuple[str, ...]:
    audiences = [given] if isinstance(given, str) else given
    if not isinstance(audiences, list | tuple) or not audiences:
        raise ValueError("must be a text, or a list of texts")
    if not all(isinstance(one, str) and one for one in audiences):
        raise ValueError("must be a text, or a list of texts, none of them empty")
    return given if isinstance(given, str) else tuple(audiences)


def check_cookie_name(text: str) -> str:
    if not TOKEN.fullmatch(text):
        raise ValueError(f"must be a cookie's name (RFC 6265 4.1.1), got {text!r}")
    return text


def check_prefix(text: str) -> str:
    if text == "/":
        return text
    if not SEGMENTS.fullmatch(text) or has_dot_segment(text) or "*" in text:
        raise ValueError(
            f"must be like /api/devices: no trailing slash, no escapes, no dot segments, no wildcards, got {text!r}"
        )
    return text


def check_route_path(text: str) -> str:
    path = text.removesuffix("/**")
    segments = path.split("/")[1:]
    good = path.startswith("/") and all(ROUTE_SEGMENT.fullmatch(one) for one in segments if one or path != "/")
    if (not good and text != "/**") or has_dot_segment(path):
        raise ValueError(
            f"must be like /api/devices/{{id}} or /api/devices/admin/**: no trailing slash, no escapes, got {text!r}"
        )
    names = PLACEHOLDER.findall(path)
    if len(set(names)) < len(names):
        raise ValueError(f"has two placeholders of one name, got {text!r}")
    if "path" in names and text != path:
        raise ValueError(f"{{path}} is the name of what /** stands for: choose another one, got {text!r}")
    return text


def check_own_path(text: str) -> str:
    """A path of a service's own, as the gateway asks for it."""
    path, _, query = text.partition("?")
    if not SEGMENTS.fullmatch(path) or has_dot_segment(path) or not re.fullmatch(r"[!\"$-~]*", query):
        raise ValueError(f"must be like /openapi.json, got {quoted_address(text)}")
    return text


def check_document_path(text: str) -> str:
    """Where a service has its API document; empty where it has none."""
    return check_own_path(text) if text else text


def check_drift_rule(text: str) -> str:
    """A kind of drift, also for some paths only: `unreachable_operation /health`."""
    kind, _, pattern = text.partition(" ")
    if kind not in DRIFT_KINDS:
        near = get_close_matches(kind, DRIFT_KINDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"must begin with one of {', '.join(DRIFT_KINDS)}, got {text!r}{hint}")
    if " " in text:
        check_hidden_path(pattern)
    return text


def check_hidden_path(text: str) -> str:
    if not text.startswith("/") or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"must be like /api/devices/internal/** or /api/*/debug, got {text!r}")
    return text


def has_dot_segment(path: str) -> bool:
    return any(segment in (".", "..") for segment in path.split("/"))


def check_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes (RFC 7518 3.2)")
    return secret


def check_file(path: Path) -> Path:
    # Neither is repeated: who pastes a key's text here may paste a private one.
    if str(path) == "." or "\n" in str(path) or "-----BEGIN" in str(path):
        raise ValueError("must be the path of a file")
    return path


def check_worker(text: str) -> str:
    if text != "gevent":
        # Threads would be occupied by slow clients, and half of the time limits could not hold.
        raise ValueError(f"must be gevent, which is the only kind of worker, got {text!r}")
    return text


def check_folder_of(path: Path) -> Path:
    """The path of a file that can be made."""
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder")
    return path
