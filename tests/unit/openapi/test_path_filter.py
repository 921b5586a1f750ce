"""Patterns of paths match the same paths as simple regular expressions, but without their backtracking."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openapi.inputs import ServiceDocument
from gateway.openapi.path_filter import path_matcher
from gateway.openapi.path_mapping import MAX_CHARACTERS, PathMapping


@given(
    st.text("ab*-", min_size=1, max_size=8).filter(lambda text: text != "**"),
    st.text("ab-", max_size=8),
    st.sampled_from(["", "/x", "/a"]),
)
def test_stars_match_within_a_segment(segment: str, value: str, rest: str) -> None:
    plain = "/" + re.sub(r"(\\\*)+", "[^/]*", re.escape(segment)) + "/x"
    assert path_matcher([f"/{segment}/x"])(f"/{value}{rest}") == (re.fullmatch(plain, f"/{value}{rest}") is not None)


@pytest.mark.timeout(10)
def test_many_stars_in_one_segment_match_in_linear_time() -> None:
    assert not path_matcher(["/api/*a*b*a*b*a*b*/x"])("/api/" + "ab" * 500)


def test_path_that_clients_can_not_call_is_none() -> None:
    placing = PathMapping(ServiceDocument("devices", "/api", ()))
    assert placing.client_path("/api/" + "a" * (MAX_CHARACTERS - 5)) is not None
    assert placing.client_path("/api/" + "a" * (MAX_CHARACTERS - 4)) is None
