"""CompactJWT: a token gets the same result and the same reason, whether its header is cached or not."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jwt import PyJWK
from jwt.algorithms import RSAAlgorithm

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens.issuer import Issuer
from gateway.tokens.key_source import FixedKeys
from gateway.tokens.keys import KeySet, secret_key
from gateway.tokens.signature import MAX_HEADERS, decode_segment
from tests.support.forging import HS256, rsa_key, sealed, segment, unsealed
from tests.support.tokens import SECRET, signed

CLAIMS = {"sub": "ada", "exp": 2_000_000_000, "aud": "gateway"}
GOOD = sealed(HS256, CLAIMS)
ONE: KeySet = {"HS256": secret_key(SECRET.encode(), "HS256")}
# With two algorithms, the header of a token determines the key.
TWO: KeySet = {**ONE, "HS384": secret_key(SECRET.encode() * 2, "HS384")}
LETTERS = st.sampled_from("AQgw4_-.= é\x00\ud800")

HEADERS = st.one_of(
    st.just(HS256),
    st.fixed_dictionaries(
        {},
        optional={
            "alg": st.sampled_from(["HS256", "HS384", "none", "RS256", 1, None]),
            "typ": st.sampled_from(["JWT", "at+jwt", None]),
            "kid": st.sampled_from(["one", 1, None]),
            "crit": st.sampled_from([["b64"], ["exp"], [], "b64"]),
            "b64": st.booleans(),
        },
    ),
)
BLANKS = st.sampled_from([b"", b" ", b"\r\n\t", b"\x0b", b"}", b"{", b"\x00", b"\xc2\xa0"])
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(str.encode),
    st.builds(lambda *parts: b"".join(parts), BLANKS, st.just(json.dumps(CLAIMS).encode()), BLANKS),
    st.sampled_from([b"[]", b"null", b"\xff\xfe{\x00}\x00", b'{"sub":"a","sub":"b","exp":1}', b"NaN", b"[" * 9999]),
    st.fixed_dictionaries(
        {},
        optional={
            "sub": st.sampled_from(["ada", "", 7, None]),
            "exp": st.sampled_from([2_000_000_000, "soon", True, None]),
            "aud": st.sampled_from(["gateway", "other", ["gateway"], [], 7]),
            "iss": st.sampled_from(["issuer", 7]),
            "jti": st.sampled_from(["id", 7]),
            "nbf": st.sampled_from([1, {}]),
        },
    ),
)


@st.composite
def mutilated(draw: st.DrawFn) -> str:
    """A valid token with some characters replaced, inserted or deleted."""
    token = GOOD
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(token)))
        token = token[:at] + draw(st.one_of(st.just(""), LETTERS)) + token[at + draw(st.integers(0, 2)) :]
    return token


TOKENS = st.one_of(
    st.builds(sealed, HEADERS, PAYLOADS),
    st.builds(sealed, HEADERS, PAYLOADS, st.just(SECRET[::-1])),
    st.builds(unsealed, HEADERS, PAYLOADS, st.binary(max_size=33)),
    mutilated(),
    # Segments of valid tokens, in any order and number.
    st.lists(st.sampled_from([*GOOD.split("."), "", segment({})]), max_size=5).map(".".join),
)


def outcome(issuer: Issuer, token: str) -> Any:
    """The claims as JSON, or the type, the reason and the detail of the error."""
    try:
        return json.dumps(issuer.claims(token))
    except InvalidToken as refused:
        return type(refused), refused.reason, str(refused)


def issuer_with(keys: KeySet, token_type: str | None = None) -> Issuer:
    settings = JwtSettings(secret=None, audience="gateway", token_type=token_type)
    return Issuer(settings, FixedKeys(keys), settings.required_claims)


@pytest.mark.parametrize("token_type", [None, "JWT"])
@pytest.mark.parametrize("keys", [ONE, TWO], ids=["one key", "two keys"])
def test_a_cached_header_does_not_change_the_result(keys: KeySet, token_type: str | None) -> None:
    @given(st.lists(TOKENS, min_size=1, max_size=4))
    @example([GOOD[:-1], GOOD + "=", GOOD + ".", GOOD.rpartition(".")[0], GOOD.partition(".")[0], ""])
    @example([sealed({**HS256, "crit": ["b64"], "b64": True}, CLAIMS)] * 2)
    @example([sealed({**HS256, "crit": ["b64"], "b64": False}, CLAIMS)] * 2)
    def check(tokens: list[str]) -> None:
        caching_issuer = issuer_with(keys, token_type)
        assert outcome(caching_issuer, GOOD) == json.dumps(CLAIMS)
        for token in tokens:
            assert outcome(caching_issuer, token) == outcome(issuer_with(keys, token_type), token)
        assert outcome(caching_issuer, GOOD) == json.dumps(CLAIMS)

    check()


def is_strict(token: str) -> bool:
    """Whether a token that PyJWT accepts is also acceptable to the gateway: it has no other spelling, and no name
    occurs twice in an object."""
    header, payload, _ = token.split(".")
    for part in (header, payload):
        try:
            text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
            names: list[list[str]] = []
            json.loads(text, object_pairs_hook=lambda pairs: names.append([name for name, _ in pairs]))  # noqa: B023
        except ValueError:
            return False
        if any(len(set(one)) < len(one) for one in names) or "NaN" in text or "Infinity" in text:
            return False
    return "=" not in token


@given(TOKENS)
@example(sealed(HS256, CLAIMS | {"exp": float("nan")}))
@example(sealed(HS256, b'{"sub":"ada","exp":2,"aud":"gateway","x":\xff}'))
@example(sealed(HS256, b'{"sub":"ada","exp":2,"aud":"gateway","exp":3}'))
@example(sealed(HS256, b'{"sub":"ada","exp":2,"aud":"gateway","x":[{"a":1,"a":1}]}'))
@example(sealed(b'{"alg":"HS256","alg":"HS256"}', CLAIMS))
@example(sealed('{"alg":"HS256"}'.encode("utf-16"), CLAIMS))
@example(sealed(b'\xef\xbb\xbf{"alg":"HS256"}', CLAIMS))
@example(GOOD + "=")
def test_results_equal_those_of_pyjwt_for_strict_tokens(token: str) -> None:
    theirs = jwt.PyJWT({"require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False})
    try:
        wanted = json.dumps(theirs.decode(token, ONE["HS256"], algorithms=["HS256"], audience="gateway"))
    except (jwt.PyJWTError, ValueError, RecursionError):
        wanted = None
    for issuer in (issuer_with(ONE), caching_issuer := issuer_with(ONE)):
        if issuer is caching_issuer:
            assert outcome(issuer, GOOD) == json.dumps(CLAIMS)
        found = outcome(issuer, token)
        assert (found if isinstance(found, str) else None) == (wanted if wanted and is_strict(token) else None)


def test_a_cached_header_is_used_for_its_key_only() -> None:
    keys = {
        number: PyJWK(RSAAlgorithm.to_jwk(rsa_key(number).public_key(), as_dict=True), "RS256") for number in (0, 1)
    }
    source = FixedKeys({"RS256": keys[0]})
    settings = JwtSettings(secret=None)
    issuer = Issuer(settings, source, settings.required_claims)
    tokens = {number: signed(key=rsa_key(number), algorithm="RS256") for number in keys}
    assert tokens[0].partition(".")[0] == tokens[1].partition(".")[0]
    for number in (0, 1, 0):
        source.only_key = keys[number]
        for _ in range(2):
            assert issuer.claims(tokens[number])["user_id"] == 42
            assert outcome(issuer, tokens[1 - number])[1] == "signature"
    # The key is the same, but is for another algorithm now. So the algorithm in the header is refused, whether the
    # signature is valid or not.
    source.only_key = PyJWK(RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True), "PS256")
    assert outcome(issuer, tokens[0])[1] == "algorithm"
    signing_input = tokens[0].rpartition(".")[0]
    octets = source.only_key.Algorithm.sign(signing_input.encode(), rsa_key())
    assert outcome(issuer, f"{signing_input}.{segment(octets)}")[1] == "algorithm"


def test_the_header_cache_is_bounded() -> None:
    issuer = issuer_with(ONE)
    for number in range(3 * MAX_HEADERS):
        assert issuer.claims(sealed({**HS256, "number": number}, CLAIMS)) == CLAIMS
        assert outcome(issuer, sealed({**HS256, "refused": number}, CLAIMS, SECRET[::-1]))[1] == "signature"
        assert 0 < len(issuer._jwt._verified) <= MAX_HEADERS


@given(
    st.text("ABQgwkaz059-_", max_size=9),
    st.sampled_from(["", "=", "==", "===", "+", "/", "\n", " ", "é"]),
    st.booleans(),
)
def test_a_segment_has_one_spelling(plain: str, odd: str, is_in_front: bool) -> None:
    segment_text = (odd + plain if is_in_front else plain + odd).encode()
    try:
        octets: bytes | None = decode_segment(segment_text)
    except jwt.DecodeError:
        octets = None
    # Encoding the decoded bytes gives the same text, so there is no other spelling.
    assert octets is None or segment(octets).encode() == segment_text
    # PyJWT may accept more than the gateway: it also accepts padding.
    try:
        theirs: bytes | None = jwt.PyJWS._decode_base64url_segment(segment_text, "payload")
    except jwt.DecodeError:
        theirs = None
    assert octets == (None if b"=" in segment_text else theirs)
