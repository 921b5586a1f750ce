"""The regular expressions of path templates match the same paths as simpler expressions, but without their
backtracking."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.api_documents.operation_index import PLACEHOLDER, expression_of

PIECES = st.lists(st.sampled_from(["a", "b", "-", "/", "{x}", "ab", "."]), max_size=9).map("".join)


@given(PIECES, st.text("ab-/.", max_size=12))
def test_placeholder_matches_one_character_or_more(template: str, path: str) -> None:
    simple = "[^/]+".join(re.escape(piece) for piece in PLACEHOLDER.split(template))
    assert (expression_of(template).fullmatch(path) is None) == (re.fullmatch(simple, path) is None)


@given(PIECES, st.text("ab-.", min_size=1, max_size=4))
def test_expression_matches_the_filled_in_template(template: str, value: str) -> None:
    assert expression_of(template).fullmatch(template.replace("{x}", value))
