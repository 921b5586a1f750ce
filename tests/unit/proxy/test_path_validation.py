"""Which request targets are accepted, and to which path each is decoded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadPath
from gateway.proxy import path_validation
from gateway.proxy.path_validation import RequestTarget, alternative_readings, caseless, parse_request_target, trimmed


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/a/b", RequestTarget("/a/b", None, "/a/b", is_ambiguous=False)),
        ("/a?", RequestTarget("/a", "", "/a", is_ambiguous=False)),
        ("/a?b?c=/../%2e", RequestTarget("/a", "b?c=/../%2e", "/a", is_ambiguous=False)),
        ("/caf%C3%A9", RequestTarget("/caf%C3%A9", None, "/café", is_ambiguous=False)),
        ("/100%25", RequestTarget("/100%25", None, "/100%", is_ambiguous=True)),
        ("/a//b", RequestTarget("/a//b", None, "/a//b", is_ambiguous=True)),
        ("http://host:80/a?b", RequestTarget("/a", "b", "/a", is_ambiguous=False)),
        ("HTTPS://host?b", RequestTarget("/", "b", "/", is_ambiguous=False)),
        ("/...", RequestTarget("/...", None, "/...", is_ambiguous=True)),
        ("/A/b", RequestTarget("/A/b", None, "/A/b", is_ambiguous=True)),
        ("/a.b/c", RequestTarget("/a.b/c", None, "/a.b/c", is_ambiguous=False)),
        ("/a./b", RequestTarget("/a./b", None, "/a./b", is_ambiguous=True)),
        ("/a%20/b", RequestTarget("/a%20/b", None, "/a /b", is_ambiguous=True)),
        ("/a%20b", RequestTarget("/a%20b", None, "/a b", is_ambiguous=False)),
        ("/%EF%BD%81", RequestTarget("/%EF%BD%81", None, "/\uff41", is_ambiguous=True)),
        ("/.well-known/x", RequestTarget("/.well-known/x", None, "/.well-known/x", is_ambiguous=False)),
    ],
)
def test_a_safe_target_is_parsed(raw: str, target: RequestTarget) -> None:
    assert parse_request_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        "/.", "/..", "/a/../b", "/a/./b", "/a/..", "/%2e", "/%2E%2e/b", "/.%2e",
        "/..;x/b", "/.;/b", "/.. /b", "/..%20/b",
        "/a%2fb", "/a%5cb", "/a%5Cb", "/a\\b", "/a%00", "/a%0a", "/a%7f", "/a%1f",
        "/%252e", "/%25252e", "/a%252fb", "/a%255cb", "/%2500",
        "/%c0%ae", "/%ff", "/%e0%80%af", "/%ed%a0%80", "/%", "/%2", "/%zz", "/a#b", "/a b", "/é",
        "", "a", "*", "//host/a", "http://", "http:///a", "http://user@host/a", "ftp://host/a", "host:80",
    ],
)  # fmt: skip
def test_an_unsafe_target_is_refused(raw: str) -> None:
    with pytest.raises(BadPath):
        parse_request_target(raw)


def test_encoded_slashes_can_be_allowed_but_never_with_dot_segments() -> None:
    assert parse_request_target("/a%2Fb%5cc", encoded_slashes=True).path == "/a%2Fb%5cc"
    for raw in ("/a%2f..%2fb", "/a%5c..%5cb", "/..%2fb", "/a%2f%2e%2e"):
        with pytest.raises(BadPath):
            parse_request_target(raw, encoded_slashes=True)


def test_other_encodings_are_allowed_together_with_encoded_slashes() -> None:
    for raw, path in [("/%FF%fe", "/\ufffd\ufffd"), ("/a%252Fb", "/a%2Fb"), ("/%255c", "/%5c"), ("/%E9", "/\ufffd")]:
        assert parse_request_target(raw, encoded_slashes=True) == RequestTarget(raw, None, path, is_ambiguous=True)
    for raw in ("/a%252F..%252Fb", "/%252e", "/%252500", "/%25252e", "/%FF%2F..", "/a%20%2F.%20./"):
        with pytest.raises(BadPath):
            parse_request_target(raw, encoded_slashes=True)


@pytest.mark.parametrize(
    ("raw", "reading"),
    [
        ("/a%252Fb", "/a/b"),
        ("/a%5Cb", "/a/b"),
        ("/a;x/b", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a/.../b", "/a/b"),
        ("/a%2F;x%2525/b", "/a/b"),
        ("/%EF%BD%81", "/a"),
        ("/b%EF%BC%8F%EF%BD%81", "/b/a"),
        ("/%EF%BC%85%36%31", "/a"),
        ("/a%FF", "/a"),
        ("/%AA", "/a"),
        ("/%C1%A1", "/a"),
        ("/b%C0%AFa", "/b/a"),
        ("/%E0%81%A1", "/a"),
        ("/%F0%80%81%A1", "/a"),
        ("/%25C1%25A1", "/a"),
    ],
)
def test_alternative_readings_of_an_ambiguous_path(raw: str, reading: str) -> None:
    assert reading in alternative_readings(raw)


@pytest.mark.parametrize(
    "raw", ["/a%EF%BC%8F%EF%BC%8E%EF%BC%8E", "/%E2%80%A5/b", "/%C0%AE%C0%AE/b", "/a%FF/.%FF./b", "/%C0%AF%E2%80%A5/b"]
)
def test_a_dot_segment_in_any_reading_is_refused(raw: str) -> None:
    with pytest.raises(BadPath):
        alternative_readings(raw)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a./b.. /c%", "/a/b/c%"),
        ("/a. ", "/a"),
        ("/ a", "/a"),
        ("/a::$DATA/b", "/a/b"),
        ("/.a", "/.a"),
        ("/a.b", "/a.b"),
        ("/.../a", "//a"),
    ],
)
def test_segments_are_trimmed_as_by_windows(path: str, found: str) -> None:
    assert trimmed(path) == found


@pytest.mark.parametrize(("path", "found"), [("/A/bC", "/a/bc"), ("/\u212a", "/k"), ("/\u017f\u0131", "/si")])
def test_caseless_paths(path: str, found: str) -> None:
    assert caseless(path) == found


def test_a_path_with_thousands_of_escape_layers_is_refused() -> None:
    assert "/admin" in alternative_readings("/%61dmin")
    with pytest.raises(BadPath):
        alternative_readings("/%" + "25" * 4000 + "41")


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        target = parse_request_target("/" + text)
    except BadPath:
        return
    assert target.raw_path + ("" if target.raw_query is None else "?" + target.raw_query) == "/" + text
    assert ".." not in target.path.split("/")


@given(st.text("/.-~_aZ0%;\\: é", max_size=14).map("/".__add__))
def test_the_fast_path_agrees_with_the_full_check(raw: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        at_once = reading(raw)
        patched.setattr(path_validation, "PLAIN", re.compile("(?!)"))
        patched.setattr(path_validation, "PLAIN_BUT_FOR_CASE", re.compile("(?!)"))
        assert at_once == reading(raw)


def reading(raw: str) -> RequestTarget | str:
    try:
        return parse_request_target(raw)
    except BadPath as refused:
        return str(refused)
