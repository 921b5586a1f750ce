"""Identity headers: each claim is one valid header field, and two callers never have the same value."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.tokens.principal import granted_scopes, header_value, identity_headers

# There is no deadline, because the duration of an example means nothing on a busy machine.
EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_TEXT = st.text(st.characters(codec=None, categories=None))
# Texts that combine encodings, separators and blanks.
TRICKY_TEXT = st.text(st.sampled_from(" %2053,;\"'\\\r\n\t\0\x7f\x80é€\ud83d\ude00😀aA"), max_size=12)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | TRICKY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=15,
)


def is_one_field_value(value: str) -> bool:
    """Whether a value is printable ASCII that no parser trims or splits (RFC 9110 5.5)."""
    return all(0x20 <= ord(char) <= 0x7E for char in value) and value == value.strip()


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("ada@example.com", "ada@example.com"),
        ("Ada Lovelace", "Ada Lovelace"),
        ('a,b;c="d"\\\'', 'a,b;c="d"\\\''),
        ("", ""),
        ("100%", "100%25"),
        ("%41", "%2541"),
        ("%0d%0a", "%250d%250a"),
        ("a\r\nX-User-Id: 1", "a%0D%0AX-User-Id: 1"),
        ("a\nb", "a%0Ab"),
        ("a\rb", "a%0Db"),
        ("a\tb", "a%09b"),
        ("\0\x1f\x7f", "%00%1F%7F"),
        ("é", "%C3%A9"),
        ("\x80\x85\xa0", "%C2%80%C2%85%C2%A0"),
        ("\u2028\ufeff", "%E2%80%A8%EF%BB%BF"),
        ("嘊嘍", "%E5%98%8A%E5%98%8D"),  # These would become LF and CR if code points were truncated to bytes.
        ("😀", "%F0%9F%98%80"),
        ("\ud83d", "%ED%A0%BD"),
        (" a", "%20a"),
        ("a ", "a%20"),
        ("  a b  ", "%20%20a b%20%20"),
        (" ", "%20"),
        ("   ", "%20%20%20"),
        ("\ta\t", "%09a%09"),
        (42, "42"),
        (0, "0"),
        (-1, "-1"),
        (10**40, "1" + "0" * 40),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (True, "true"),
        (False, "false"),
        ([], ""),
        (["admin"], "admin"),
        (["admin", "user"], "admin,user"),
        (["a,b", "c"], "a%2Cb,c"),
        (["a%2Cb", "c"], "a%252Cb,c"),
        ([1, True, None, 2.5], "1,true,null,2.5"),
        (["a\r\nb", " c "], "a%0D%0Ab,%20c%20"),
        ([["a", "b"], ["c"]], "a%2Cb,c"),
        ({}, "{}"),
        ({"a": [1, "b"]}, '{"a":[1,"b"]}'),
        ({"a": None, "b": True}, '{"a":null,"b":true}'),
        ({"é\n": "100%"}, '{"\\u00e9\\n":"100%25"}'),
        ([{"a": 1, "b": 2}], '{"a":1%2C"b":2}'),
    ],
)
def test_a_claim_as_a_header_value(claim: object, value: str) -> None:
    assert header_value(claim) == value
    assert is_one_field_value(value)


@EXAMPLES
@given(JSON_VALUES)
def test_any_claim_is_one_printable_line(claim: Any) -> None:
    assert is_one_field_value(header_value(claim))


@EXAMPLES
@given(ANY_TEXT | TRICKY_TEXT)
@example("%20")
@example(" ")
def test_a_text_can_be_decoded(text: str) -> None:
    """Each value can be decoded to its text, so distinct texts have distinct values."""
    assert unquote(header_value(text), errors="surrogatepass") == text


@EXAMPLES
@given(TRICKY_TEXT, TRICKY_TEXT)
@example(" ", "%20")
@example("%", "%25")
@example("\ud83d\ude00", "😀")
@example("a", "a ")
def test_two_callers_never_have_the_same_value(one: str, other: str) -> None:
    assert (header_value(one) == header_value(other)) == (one == other)


@EXAMPLES
@given(st.lists(TRICKY_TEXT | ANY_TEXT, min_size=1, max_size=5))
def test_a_list_of_texts_can_be_split_at_its_commas(items: list[str]) -> None:
    assert [unquote(one, errors="surrogatepass") for one in header_value(items).split(",")] == items


@EXAMPLES
@given(st.dictionaries(ANY_TEXT, JSON_VALUES, max_size=4))
def test_an_object_is_its_json(table: dict[str, Any]) -> None:
    assert unquote(header_value(table)) == json.dumps(table, separators=(",", ":"))


def test_each_mapped_claim_gives_one_header_and_a_missing_one_none() -> None:
    names = {"sub": "X-User-Subject", "user_id": "X-User-Id", "tenant": "X-Tenant", "admin": "X-Admin", "n": "X-N"}
    claims = {"n": 0, "sub": "ada", "admin": False, "tenant": None, "other": "secret"}
    assert identity_headers(claims, names) == (("X-User-Subject", "ada"), ("X-Admin", "false"), ("X-N", "0"))
    assert identity_headers({}, names) == ()
    assert identity_headers(claims, {}) == ()


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, set()),
        ({"scope": ""}, set()),
        ({"scope": "read"}, {"read"}),
        ({"scope": "read write"}, {"read", "write"}),
        ({"scope": "  read   write "}, {"read", "write"}),
        ({"scope": "read read"}, {"read"}),
        ({"scope": "Read"}, {"Read"}),
        ({"scope": "read,write"}, {"read,write"}),
        ({"scope": "read\u00a0admin"}, {"read\u00a0admin"}),
        ({"scope": "read\nadmin\tuser"}, {"read\nadmin\tuser"}),
        ({"scope": ["read", "write"]}, {"read", "write"}),
        ({"scope": ["read write"]}, {"read write"}),
        ({"scope": ["read", 1, None, True, ["admin"], {"admin": 1}]}, {"read"}),
        ({"scp": "read write"}, {"read", "write"}),
        ({"scp": ["read", "write"]}, {"read", "write"}),
        ({"scope": "read", "scp": "admin"}, {"read"}),
        ({"scope": "", "scp": "admin"}, set()),
        ({"scope": None, "scp": "admin"}, set()),
        ({"scope": 1}, set()),
        ({"scope": True}, set()),
        ({"scope": {"admin": True}}, set()),
        ({"scopes": ["admin"], "roles": ["admin"]}, set()),
    ],
)
def test_granted_scopes(claims: dict[str, Any], scopes: set[str]) -> None:
    assert granted_scopes(claims) == scopes


@EXAMPLES
@given(JSON_VALUES, JSON_VALUES)
def test_granted_scopes_of_any_claims_are_texts(scope: Any, scp: Any) -> None:
    for claims in ({"scope": scope}, {"scp": scp}, {"scope": scope, "scp": scp}):
        granted = granted_scopes(claims)
        assert all(isinstance(one, str) for one in granted)
        assert "" not in granted or isinstance(scope, list) or isinstance(scp, list)
