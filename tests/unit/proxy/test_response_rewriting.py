"""Rewritten redirects and cookie paths."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.proxy.response_rewriting import ResponseRewriter, without_dot_segments

PLAIN = ResponseRewriter(
    client_scheme="http",
    client_host="gw.test:8000",
    target_scheme="http",
    service_hosts=("t:1", "t:1"),
    client_request_target="/api/x/1",
    service_path="/api/x/1",
    base_path="",
    client_prefix="",
)


def rewriter(**values: Any) -> ResponseRewriter:
    return PLAIN._replace(**values)


def stripping(path: str, base: str = "") -> ResponseRewriter:
    """A rewriter for a service whose prefix /api/x is stripped."""
    return rewriter(
        client_request_target="/api/x" + path.rstrip("/"),
        service_path=base + path,
        base_path=base,
        client_prefix="/api/x",
    )


@pytest.mark.parametrize(
    ("value", "base", "prefix", "expected"),
    [
        ("http://t:1/a", "", "", "/a"),
        ("http://T:1", "", "", "/"),
        ("http://t:1?x", "", "", "/?x"),
        ("http://t:1/a?b=//c#d", "", "", "/a?b=//c#d"),
        ("//t:1/a", "", "", "/a"),
        ("http://t:1//evil", "", "", "/evil"),
        (r"http://t:1/\evil.com/", "", "", "/evil.com/"),
        (r"http://t:1\\evil.com/", "", "", "/evil.com/"),
        ("http://t:1/\t/evil.com/", "", "", "/evil.com/"),
        ("http://t:1\t//\t\\evil.com/", "", "", "/evil.com/"),
        ("http://t:12/a", "", "", "http://t:12/a"),
        ("http://t:1.evil/a", "", "", "http://t:1.evil/a"),
        ("http://t:1@evil/a", "", "", "http://t:1@evil/a"),
        ("//evil.com/a", "", "", "//evil.com/a"),
        (r"/\evil.com/a", "", "/api/x", r"/\evil.com/a"),
        ("/v2/a", "/v2", "", "/a"),
        ("/v2//evil", "/v2", "", "/evil"),
        (r"/v2/\evil", "/v2", "", "/evil"),
        ("/v2x/a", "/v2", "", "/v2x/a"),
        ("/a", "", "/api/x", "/api/x/a"),
        ("/", "", "/api/x", "/api/x/"),
        ("/../a", "", "/api/x", "/api/x/a"),
        ("http://t:1/v2/a", "/v2", "/api/x", "/api/x/a"),
        # A service that uses X-Forwarded-Prefix adds the prefix itself.
        ("/api/x/a", "", "/api/x", "/api/x/a"),
        ("/api/x", "", "/api/x", "/api/x"),
        ("/api/x/v2/a", "/v2", "/api/x", "/api/x/a"),
        ("/api/xy", "", "/api/x", "/api/x/api/xy"),
        ("mailto:a@example.com", "", "/api/x", "mailto:a@example.com"),
        ("", "", "/api/x", ""),
    ],
)
def test_only_locations_at_the_target_are_rewritten(value: str, base: str, prefix: str, expected: str) -> None:
    assert rewriter(base_path=base, client_prefix=prefix).location(value) == expected


@pytest.mark.parametrize(
    ("value", "values", "expected"),
    [
        # The URL is only made relative if its scheme is the client's or the target's. Otherwise it may be a redirect to
        # https.
        ("https://t:1/a", {}, "https://t:1/a"),
        ("https://shop.test/a", {"service_hosts": ("t:1", "shop.test")}, "https://shop.test/a"),
        ("https://shop.test/a", {"service_hosts": ("t:1", "shop.test"), "client_scheme": "https"}, "/a"),
        ("http://shop.test/a", {"service_hosts": ("t:1", "shop.test"), "client_scheme": "https"}, "/a"),
        ("https://t:1/a", {"target_scheme": "https"}, "/a"),
        # A host with the default port of its scheme is the same as without a port.
        ("http://shop.test:80/a", {"service_hosts": ("t:1", "shop.test")}, "/a"),
        ("http://SHOP.test/a", {"service_hosts": ("t:1", "Shop.Test:80")}, "/a"),
        ("http://shop.test:443/a", {"service_hosts": ("t:1", "shop.test")}, "http://shop.test:443/a"),
        ("https://shop.test/a", {"service_hosts": ("t:1", "shop.test:443"), "client_scheme": "https"}, "/a"),
        ("https://shop.test:443/a", {"service_hosts": ("t:1", "shop.test"), "client_scheme": "https"}, "/a"),
        ("http://[::1]:80/a", {"service_hosts": ("t:1", "[::1]")}, "/a"),
        # The service may use the host of its target instead of the client's Host.
        ("http://t:1/a", {"service_hosts": ("t:1", "shop.test")}, "/a"),
    ],
)
def test_a_location_is_made_relative_by_scheme_and_host(value: str, values: dict[str, Any], expected: str) -> None:
    assert rewriter(**values).location(value) == expected


def test_a_redirect_of_the_same_url_to_https_is_not_rewritten() -> None:
    same_host = rewriter(
        service_hosts=("t:1", "shop.test"),
        client_host="shop.test",
        target_scheme="https",
        client_request_target="/api/x?a",
    )
    assert same_host.location("https://shop.test/api/x?a") == "https://shop.test/api/x?a"
    assert same_host.location("https://shop.test/api/x/?a") == "/api/x/?a"
    assert same_host.location("http://shop.test/api/x?a") == "/api/x?a"


@pytest.mark.parametrize(
    ("path", "base", "value", "expected"),
    [
        ("/", "", "foo", "/api/x/foo"),
        ("/", "", "../foo?a#b", "/api/x/foo?a#b"),
        ("/", "", ".", "/api/x/"),
        ("/", "", "?q", "?q"),
        ("/", "", "#f", "#f"),
        ("/", "", "", ""),
        ("/a/b", "", "c", "/api/x/a/c"),
        ("/a/b", "", "../c", "/api/x/c"),
        ("/a/b", "", "../../../c/..", "/api/x/"),
        ("/a/b", "/v2", "../c/", "/api/x/c/"),
        # The service itself has a path that looks like the prefix.
        ("/api/x/b", "", "c", "/api/x/api/x/c"),
    ],
)
def test_relative_references_are_resolved_against_the_path_that_the_service_received(
    path: str, base: str, value: str, expected: str
) -> None:
    assert stripping(path, base).location(value) == expected


@pytest.mark.parametrize(
    ("value", "base", "prefix", "expected"),
    [
        ("a=1; Path=/", "", "/api/x", "a=1; Path=/api/x"),
        ("a=1; Path=/b/", "", "/api/x", "a=1; Path=/api/x/b/"),
        ("a=1;path = /b ;HttpOnly", "", "/api/x", "a=1;path = /api/x/b ;HttpOnly"),
        ("a=1; Path=/api/x/b", "", "/api/x", "a=1; Path=/api/x/b"),
        ("a=Path=/b; PATH=/b; Path=/c", "", "/api/x", "a=Path=/b; PATH=/api/x/b; Path=/api/x/c"),
        ("Path=/b; Secure", "", "/api/x", "Path=/b; Secure"),
        ("a=1; Path=; Pathx=/b", "", "/api/x", "a=1; Path=; Pathx=/b"),
        ('a=1; Path="/b"', "", "/api/x", 'a=1; Path="/b"'),
        ("a=1; Path=/v2/b", "/v2", "/api/x", "a=1; Path=/api/x/b"),
        ("a=1; Path=/v2", "/v2", "", "a=1; Path=/"),
        ("a=1; Path=/b", "", "", "a=1; Path=/b"),
        ("__Host-a=1; Path=/; Secure", "", "/api/x", "__Host-a=1; Path=/; Secure"),
        ("__Secure-a=1; Path=/; Secure", "", "/api/x", "__Secure-a=1; Path=/api/x; Secure"),
    ],
)
def test_the_prefix_is_restored_in_cookie_paths(value: str, base: str, prefix: str, expected: str) -> None:
    assert rewriter(base_path=base, client_prefix=prefix).cookie(value) == expected


@given(st.text("/.ab", max_size=12).map("/".__add__))
@example("/..")
@example("/a/./")
def test_dot_segments_are_removed_as_by_urljoin(path: str) -> None:
    # urljoin drops empty segments, so it can only be compared if there are none.
    if "//" not in path:
        assert urljoin("http://h/", path).removeprefix("http://h") == without_dot_segments(path)


SCHEMES = st.sampled_from(["http", "https"])
PIECES = st.sampled_from([*"/\\?#:@.\tab", "//", "t:1", "t:1", "http://", "http://t:1", "/v2", "/api/x", "..", "%2f"])


@given(
    st.lists(PIECES, max_size=8).map("".join), st.sampled_from(["", "/v2"]), st.sampled_from(["", "/api/x"]), SCHEMES
)
@example("http://t:1/\\a.b/", "", "", "http")
@example("http://t:1\t/\t/a.b/", "/v2", "", "http")
def test_a_rewritten_location_never_names_another_host(value: str, base: str, prefix: str, scheme: str) -> None:
    found = rewriter(base_path=base, client_prefix=prefix, client_scheme=scheme, service_path=base + "/1").location(
        value
    )
    if found != value:
        # Browsers ignore tabs and read a backslash as a slash (WHATWG URL 4.4).
        seen = found.replace("\t", "").replace("\\", "/")
        assert seen.startswith("/")
        assert not seen.startswith("//")
        assert seen.startswith(prefix)
