"""Redacted segments of a path are never shown, however a client spells the path."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from gateway.context import Exchange
from gateway.proxy.path_validation import RequestTarget
from gateway.route_policy import policies_of
from gateway.telemetry.path_redaction import PathRedaction
from tests.support.configuration import loaded

TREE: dict[str, Any] = {
    "services": {
        "ws": {
            "prefix": "/ws",
            "targets": ["http://10.0.0.1:1"],
            "routes": [{"path": "/ws/{kind}/x/{token}/**", "redact": ["token"]}],
        }
    }
}
POLICIES = {policy.name: policy for policy in policies_of(loaded(TREE))}
REDACTION = PathRedaction(POLICIES.values())
SECRET = "s3cr3t-0123456789"


def exchange(path: str, policy: str | None) -> Exchange:
    target = RequestTarget(path, None, path, False) if policy else None
    found = SimpleNamespace(raw_target=path, policy=POLICIES[policy] if policy else None, target=target)
    return cast(Exchange, found)


def redacted(path: str, policy: str | None = None) -> str:
    return REDACTION.path_of(exchange(path, policy))


def spelled(draw: st.DrawFn, text: str) -> str:
    """Another spelling of the text: some letters are percent-encoded once or twice, or in upper case."""
    forms: list[Callable[[str], str]] = [
        str,
        str.upper,
        lambda one: f"%{ord(one):02x}",
        lambda one: f"%25{ord(one):02X}",
    ]
    return "".join(draw(st.sampled_from(forms))(one) for one in text)


@st.composite
def paths(draw: st.DrawFn) -> str:
    separators = ["/", "//", "/./", "%2f", "%2F", "%5c", "%252f", "/y/../", "/ ", "\\", "/;a=1/"]
    parts = [*(spelled(draw, word) for word in ("ws", "kind", "x")), SECRET, "more"]
    return "/" + "".join(part + draw(st.sampled_from(separators)) for part in parts)


@given(paths(), st.sampled_from([None, "ws"]), st.booleans())
def test_no_spelling_shows_the_secret_without_a_matched_route(path: str, policy: str | None, is_absolute: bool) -> None:
    assert SECRET not in redacted(("http://gateway.test" if is_absolute else "") + path, policy)


def test_segments_that_are_not_redacted_are_redacted() -> None:
    own = next(name for name in POLICIES if name.startswith("ws."))
    path = f"/ws/a/x/{quote(SECRET)}/b/c"
    assert redacted(path, own) == "/ws/a/x/{token}/b/c"
    assert REDACTION.upstream_url(exchange(path, own), f"http://10.0.0.1:1/a/x/{SECRET}/b/c") == (
        "http://10.0.0.1:1/a/x/{token}/b/c"
    )
    assert REDACTION.upstream_url(exchange(path, "ws"), f"http://10.0.0.1:1/a/x/{SECRET}/b/c") == "http://10.0.0.1:1/…"
    assert redacted("/ws/a/y/z") == "/ws/a/y/z"
    assert redacted("/other/a/x/token") == "/other/a/x/token"
