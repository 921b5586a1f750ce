"""Request targets: which are safe, and what is decided on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadPath
from gateway.proxy import paths
from gateway.proxy.paths import RequestTarget, other_readings, read_target


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/a/b", RequestTarget("/a/b", None, "/a/b", doubtful=False)),
        ("/a?", RequestTarget("/a", "", "/a", doubtful=False)),
        ("/a?b?c=/../%2e", RequestTarget("/a", "b?c=/../%2e", "/a", doubtful=False)),
        ("/caf%C3%A9", RequestTarget("/caf%C3%A9", None, "/café", doubtful=False)),
        ("/100%25", RequestTarget("/100%25", None, "/100%", doubtful=True)),
        ("/a//b", RequestTarget("/a//b", None, "/a//b", doubtful=True)),
        ("http://host:80/a?b", RequestTarget("/a", "b", "/a", doubtful=False)),
        ("HTTPS://host?b", RequestTarget("/", "b", "/", doubtful=False)),
        ("/...", RequestTarget("/...", None, "/...", doubtful=False)),
        ("/.well-known/x", RequestTarget("/.well-known/x", None, "/.well-known/x", doubtful=False)),
    ],
)
def test_a_safe_target_is_taken_apart(raw: str, target: RequestTarget) -> None:
    assert read_target(raw) == target


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
        read_target(raw)


def test_encoded_slashes_are_taken_where_they_are_allowed_but_no_dot_segment_behind_them() -> None:
    assert read_target("/a%2Fb%5cc", encoded_slashes=True).path == "/a/b\\c"
    for raw in ("/a%2f..%2fb", "/a%5c..%5cb", "/..%2fb", "/a%2f%2e%2e"):
        with pytest.raises(BadPath):
            read_target(raw, encoded_slashes=True)


def test_a_path_wrapped_in_many_layers_is_refused_and_not_unwrapped_for_ever() -> None:
    assert "/admin" in other_readings("/%61dmin")
    with pytest.raises(BadPath):
        other_readings("/%" + "25" * 4000 + "41")


@given(st.text(max_size=60))
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    try:
        target = read_target("/" + text)
    except BadPath:
        return
    assert target.raw_path + ("" if target.raw_query is None else "?" + target.raw_query) == "/" + text
    assert ".." not in target.path.split("/")


@given(st.text("/.-~_aZ0%;\\: é", max_size=14).map("/".__add__))
def test_a_plain_path_is_what_a_closer_look_finds_plain(raw: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        at_once = reading(raw)
        patched.setattr(paths, "PLAIN", re.compile("(?!)"))
        assert at_once == reading(raw)


def reading(raw: str) -> RequestTarget | str:
    try:
        return read_target(raw)
    except BadPath as refused:
        return str(refused)
