"""Verifier: which tokens are accepted, and at what time. All other tokens are refused with InvalidToken, and with no
other exception."""

from __future__ import annotations

import gc
import itertools
import json
import re
import string
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens.keys import load_keys
from gateway.tokens.principal import Principal
from gateway.tokens.verifier import Verifier
from tests.support.forging import HS256, public_pem, rsa_key, sealed, segment, unsealed, verifier_with
from tests.support.tokens import SECRET, signed

# This time is long ago by the machine's clock, so the tests only pass if the given clock is used.
NOW = 1_000_000_000.0
LEEWAY = 5.0
LONG_SECRET = SECRET * 2
OTHER_SECRET = "another-secret-0123456789abcdef-0123456789"
CLAIMS = {"sub": "ada@example.com", "user_id": 42, "exp": NOW + 3600}


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def verifier(clock: Clock | None = None, *, max_token_bytes: int = 8192, **settings: Any) -> Verifier:
    jwt_settings = JwtSettings.model_validate({"secret": SECRET, "leeway_seconds": LEEWAY, **settings})
    # Tests may set a longer limit than the settings allow: the code behind the limit must not depend on it.
    jwt_settings = jwt_settings.model_copy(update={"max_token_bytes": max_token_bytes})
    return verifier_with(jwt_settings, load_keys(jwt_settings), clock or Clock())


def claims(**changed: Any) -> dict[str, Any]:
    """Valid claims with these changes; None removes a claim."""
    return {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}


def token(**changed: Any) -> str:
    return sealed(HS256, claims(**changed))


def reason(refused: str, by: Verifier | None = None) -> str:
    """The reason why a token is refused. Fails if it is accepted."""
    with pytest.raises(InvalidToken) as caught:
        (by or verifier()).principal(refused)
    return caught.value.reason


def test_a_valid_token_gives_a_principal() -> None:
    principal = verifier().principal(token(scope="read write"))
    assert principal.subject == "ada@example.com"
    assert principal.scopes == {"read", "write"}
    assert principal.expires_at == NOW + 3600
    assert principal.claims["user_id"] == 42
    assert principal.identity_headers == (("X-User-Subject", "ada@example.com"), ("X-User-Id", "42"))


def test_a_token_of_pyjwt_is_accepted() -> None:
    assert verifier().principal(signed("bob", exp=int(NOW) + 1)).subject == "bob"


def test_each_configured_algorithm_is_accepted_and_no_other() -> None:
    by = verifier(secret=LONG_SECRET, algorithms=("HS256", "HS512"))
    assert by.principal(sealed({"alg": "HS256"}, CLAIMS, LONG_SECRET)).subject == "ada@example.com"
    assert by.principal(sealed({"alg": "HS512"}, CLAIMS, LONG_SECRET, "sha512")).subject == "ada@example.com"
    assert reason(sealed({"alg": "HS384"}, CLAIMS, LONG_SECRET, "sha384"), by) == "algorithm"
    assert reason(sealed({"alg": "HS512"}, CLAIMS, LONG_SECRET, "sha256"), by) == "signature"


# --- time


@pytest.mark.parametrize(
    ("name", "offset", "leeway", "refused_as"),
    [
        ("exp", 0.001, 0, None),
        ("exp", 0, 0, "expired"),
        ("exp", 0.25, 0, None),
        ("exp", -4.999, 5, None),
        ("exp", -5, 5, "expired"),
        ("exp", -3600, 5, "expired"),
        ("exp", -3600, 0, "expired"),
        ("nbf", 0, 0, None),
        ("nbf", 0.25, 0, "not_yet_valid"),
        ("nbf", 5, 5, None),
        ("nbf", 5.001, 5, "not_yet_valid"),
        ("nbf", 3600, 5, "not_yet_valid"),
        ("nbf", -3600, 5, None),
        ("iat", 0, 0, None),
        ("iat", 5, 5, None),
        ("iat", 5.001, 5, "not_yet_valid"),
        ("iat", 3600, 5, "not_yet_valid"),
        ("iat", -3600, 0, None),
    ],
)
def test_times_are_compared_with_the_given_clock(
    name: str, offset: float, leeway: float, refused_as: str | None
) -> None:
    by = verifier(leeway_seconds=leeway)
    if refused_as is None:
        assert by.principal(token(**{name: NOW + offset})).subject == "ada@example.com"
    else:
        assert reason(token(**{name: NOW + offset}), by) == refused_as


def test_a_token_valid_only_by_the_machines_clock_is_refused() -> None:
    assert reason(signed(), verifier(Clock(NOW * 100))) == "expired"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        '"1000003600"', '"NaN"', '""', "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e15", "1" + "0" * 400,
        "-1" + "0" * 400, "1" * 5000, "true", "false", "[]", "[1000003600]", "{}", '{"$numberLong":"1000003600"}',
    ],
)  # fmt: skip
def test_a_time_that_is_not_a_finite_number_is_refused(name: str, value: str) -> None:
    payload = '{"sub":"ada","exp":1000003600,"%s":%s}' % (name, value)  # noqa: UP031 - braces are JSON's here
    assert reason(sealed(HS256, payload.encode())) in ("claims", "malformed")


@pytest.mark.parametrize("exp", [-1, -NOW, 0, -0.0, 1e-300])
def test_an_exp_long_ago_is_expired(exp: float) -> None:
    assert reason(token(exp=exp)) == "expired"


def test_null_times() -> None:
    assert reason(sealed(HS256, {**CLAIMS, "exp": None})) == "missing_claim"
    for name in ("nbf", "iat"):
        assert reason(sealed(HS256, {**CLAIMS, name: None})) == "claims"


# --- signature and algorithm


@pytest.mark.parametrize("spelling", ["".join(case) for case in itertools.product(*zip("none", "NONE", strict=True))])
@pytest.mark.parametrize("algorithms", [("HS256",), ("HS256", "HS384")])
def test_an_unsigned_token_is_refused_in_every_spelling_of_none(spelling: str, algorithms: tuple[str, ...]) -> None:
    by = verifier(secret=LONG_SECRET, algorithms=algorithms)
    header = {"alg": spelling, "typ": "JWT"}
    for forged in (
        unsealed(header, CLAIMS),
        unsealed(header, CLAIMS, b"\0"),
        sealed(header, CLAIMS, LONG_SECRET),
        sealed(header, CLAIMS, b""),
        f"{segment(header)}.{segment(CLAIMS)}",
    ):
        assert reason(forged, by) in ("algorithm", "malformed")


@pytest.mark.parametrize(
    "alg",
    [
        "", " ", " none", "none ", "none\0", "HS256 ", " HS256", "hs256", "Hs256", "HS256\0", "HS2560", "HS384",
        "HS512", "RS256", "ES256", "ES256K", "PS256", "EdDSA", "dir", None, True, False, 0, 1, [], ["HS256"], ["none"],
        {}, {"HS256": 1}, "\ud800", "х" * 50,  # noqa: RUF001 - a Cyrillic letter, on purpose
    ],
)  # fmt: skip
@pytest.mark.parametrize("algorithms", [("HS256",), ("HS256", "HS384")])
def test_algorithms_that_are_not_configured_are_refused(alg: object, algorithms: tuple[str, ...]) -> None:
    by = verifier(secret=LONG_SECRET, algorithms=algorithms)
    assert reason(sealed({"alg": alg}, CLAIMS, LONG_SECRET, "sha256"), by) in ("algorithm", "signature", "malformed")
    assert reason(unsealed({"alg": alg}, CLAIMS), by) in ("algorithm", "signature", "malformed")


@pytest.mark.parametrize("algorithms", [("HS256",), ("HS256", "HS384")])
def test_a_header_without_algorithm_is_refused(algorithms: tuple[str, ...]) -> None:
    by = verifier(secret=LONG_SECRET, algorithms=algorithms)
    assert reason(sealed({"typ": "JWT"}, CLAIMS, LONG_SECRET), by) == "algorithm"


@pytest.mark.parametrize("key", [OTHER_SECRET, SECRET + " ", SECRET[:-1], SECRET.upper(), ""])
def test_a_token_signed_with_another_key_is_refused(key: str) -> None:
    assert reason(sealed(HS256, CLAIMS, key)) == "signature"


def rsa_verifier(*algorithms: str) -> Verifier:
    jwk = RSAAlgorithm.to_jwk(rsa_key().public_key(), as_dict=True)
    return verifier_with(JwtSettings(), {name: PyJWK(jwk, name) for name in algorithms}, Clock())


@pytest.mark.parametrize("algorithms", [("RS256",), ("RS256", "PS256")])
def test_a_token_signed_with_the_public_key_as_secret_is_refused(algorithms: tuple[str, ...]) -> None:
    by = rsa_verifier(*algorithms)
    assert by.principal(jwt.encode(CLAIMS, rsa_key(), "RS256")).subject == "ada@example.com"
    pem = public_pem(rsa_key())
    spellings = [pem, pem.strip(), pem.replace(b"\n", b"\r\n"), b"".join(pem.splitlines()[1:-1])]
    jwk = RSAAlgorithm.to_jwk(rsa_key().public_key()).encode()
    modulus = rsa_key().public_key().public_numbers().n.to_bytes(256, "big")
    for secret in (*spellings, jwk, modulus):
        assert reason(sealed(HS256, CLAIMS, secret), by) == "algorithm"
        # The header names the right algorithm, but the signature is made with another one.
        assert reason(sealed({"alg": "RS256"}, CLAIMS, secret), by) == "signature"


def test_a_key_is_bound_to_its_algorithm() -> None:
    assert reason(jwt.encode(CLAIMS, rsa_key(), "PS256"), rsa_verifier("RS256")) == "algorithm"
    assert reason(jwt.encode(CLAIMS, rsa_key(), "RS512"), rsa_verifier("RS256", "PS256")) == "algorithm"
    assert reason(jwt.encode(CLAIMS, rsa_key(1), "RS256"), rsa_verifier("RS256")) == "signature"
    assert rsa_verifier("RS256", "PS256").principal(jwt.encode(CLAIMS, rsa_key(), "PS256")).subject == "ada@example.com"


@pytest.mark.parametrize(
    "signature", [b"", b"\0" * 64, b"\0" * 63 + b"\1", b"\xff" * 64, b"\0" * 32, b"\0" * 65, b"0\6\2\1\0\2\1\0"]
)
def test_a_signature_of_zeros_is_refused(signature: bytes) -> None:
    key = generate_private_key(SECP256R1())
    es256 = {"ES256": PyJWK(ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "ES256")}
    by = verifier_with(JwtSettings(), es256, Clock())
    assert by.principal(jwt.encode(CLAIMS, key, "ES256")).subject == "ada@example.com"
    assert reason(unsealed({"alg": "ES256"}, CLAIMS, signature), by) == "signature"


def test_no_part_of_a_token_can_be_changed() -> None:
    """Each character in turn is replaced by several others. None of these tokens may be accepted."""
    valid, by = token(), verifier()
    by.principal(valid)
    for position in range(len(valid)):
        for other in "Aa09-_=.+/ \t\n\0é":
            if valid[position] != other:
                reason(valid[:position] + other + valid[position + 1 :], by)


def test_no_part_of_a_token_can_be_removed_or_added() -> None:
    valid, by = token(), verifier()
    for position in range(len(valid)):
        reason(valid[:position], by)
        reason(valid[:position] + valid[position + 1 :], by)
        reason(valid[position:] if position else "", by)
        reason(valid[:position] + "A" + valid[position:], by)


def test_claims_with_the_signature_of_another_token_are_refused() -> None:
    header, payload, _ = token().split(".")
    _, other_payload, other_signature = token(sub="root").split(".")
    assert reason(f"{header}.{payload}.{other_signature}") == "signature"
    assert reason(f"{segment({**HS256, 'x': 1})}.{other_payload}.{other_signature}") == "signature"


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31])
def test_a_shortened_signature_is_refused(length: int) -> None:
    header, payload, signature = token().split(".")
    octets = jwt.utils.base64url_decode(signature)
    assert len(octets) == 32
    assert reason(f"{header}.{payload}.{segment(octets[:length])}") == "signature"
    assert reason(f"{header}.{payload}.{segment(octets + octets[: length + 1])}") == "signature"


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r\n", "\0", "\ufeff", "\u00a0", "\x0b"])
def test_blanks_around_or_inside_a_token_are_refused(blank: str) -> None:
    header, payload, signature = token().split(".")
    by = verifier()
    for spelled in (
        f"{blank}{header}.{payload}.{signature}",
        f"{header}.{payload}.{signature}{blank}",
        f"{header}{blank}.{payload}.{signature}",
        f"{header}.{blank}{payload}.{signature}",
        f"{header}.{payload[:5]}{blank}{payload[5:]}.{signature}",
    ):
        assert reason(spelled, by) == "malformed"


def test_padding_is_refused() -> None:
    """base64url in tokens has no padding (RFC 7515 2). PyJWT accepts padding, so a revoked token would have another
    valid spelling."""
    header, payload, signature = token().split(".")
    by = verifier()
    assert by.principal(f"{header}.{payload}.{signature}").subject == "ada@example.com"
    for padding in ("=", "==", "===", "=" * 1000, "=A", "%3D"):
        for padded in (
            f"{header}{padding}.{payload}.{signature}",
            f"{header}.{payload}{padding}.{signature}",
            f"{header}.{payload}.{signature}{padding}",
        ):
            assert reason(padded, by) == "malformed"


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "...", "a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e", "null", "{}", "Bearer", "\0\0\0", "é",
        "\ud800", "=.=.=", "e30.e30.", "e30.e30.e30", ".e30.", "W10.W10.W10", "bnVsbA.bnVsbA.bnVsbA", "%00.%00.%00",
    ],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    assert reason(text) in ("malformed", "algorithm")


def test_the_json_serialization_is_refused() -> None:
    header, payload, signature = token().split(".")
    flattened = {"protected": header, "payload": payload, "signature": signature}
    assert reason(json.dumps(flattened)) == "malformed"
    assert reason(json.dumps({"payload": payload, "signatures": [flattened]})) == "malformed"
    assert reason(".".join([header, segment(b"key"), segment(b"iv"), payload, signature])) == "malformed"


# --- header parameters


HEADER_PARAMETERS: list[dict[str, Any]] = [
    {"jku": "http://127.0.0.1:9/keys"},
    {"x5u": "http://127.0.0.1:9/cert"},
    {"jwk": {"kty": "oct", "k": segment(OTHER_SECRET.encode())}},
    {"x5c": ["MIIB"]},
    {"kid": "../../../../dev/null"},
    {"kid": "' UNION SELECT 'x"},
    {"cty": "JWT"},
    {"zip": "DEF"},
    {"typ": "anything"},
]


@pytest.mark.parametrize("more", HEADER_PARAMETERS)
def test_keys_in_a_header_are_ignored(more: dict[str, Any]) -> None:
    by = verifier()
    assert by.principal(sealed({**HS256, **more}, CLAIMS)).subject == "ada@example.com"
    forged = sealed({**HS256, **more}, CLAIMS, OTHER_SECRET)
    assert reason(forged, by) == "signature"


def test_a_public_key_in_a_header_is_ignored() -> None:
    jwk = RSAAlgorithm.to_jwk(rsa_key(1).public_key(), as_dict=True)
    forged = jwt.encode(CLAIMS, rsa_key(1), "RS256", headers={"jwk": jwk, "kid": "0"})
    assert reason(forged, rsa_verifier("RS256")) == "signature"


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["unknown"], "unknown": 1},
        {"crit": ["exp"], "exp": NOW},
        {"crit": ["alg"]},
        {"crit": []},
        {"crit": "b64"},
        {"crit": None},
        {"crit": [1]},
        {"crit": {"b64": 1}},
        {"crit": ["b64"]},
        {"crit": ["b64", "unknown"], "b64": True, "unknown": True},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"kid": 1},
        {"kid": None},
        {"kid": ["0"]},
    ],
)
def test_a_header_that_is_critical_or_malformed_is_refused(more: dict[str, Any]) -> None:
    assert reason(sealed({**HS256, **more}, CLAIMS)) == "malformed"


def test_a_payload_outside_base64_is_refused() -> None:
    header = segment({**HS256, "crit": ["b64"], "b64": False})
    whole = sealed({**HS256, "crit": ["b64"], "b64": False}, b"")
    assert reason(whole) == "malformed"
    assert reason(f"{header}.{json.dumps(CLAIMS)}.{whole.rpartition('.')[2]}") == "malformed"


# --- claims


@pytest.mark.parametrize(
    "payload", [[], [CLAIMS], 1, 1.5, "ada", "", None, True, b"", b"{", b"\xff\xfe", b"{}{}", b"NaN", b"\0"]
)
def test_a_payload_that_is_not_an_object_is_refused(payload: object) -> None:
    assert reason(sealed(HS256, payload)) == "malformed"


@pytest.mark.parametrize("header", [[], [HS256], 1, "HS256", None, True, b"", b"{", b"\xff\xfe", b'{"alg":"HS256"}x'])
@pytest.mark.parametrize("algorithms", [("HS256",), ("HS256", "HS384")])
def test_a_header_that_is_not_an_object_is_refused(header: object, algorithms: tuple[str, ...]) -> None:
    by = verifier(secret=LONG_SECRET, algorithms=algorithms)
    assert reason(sealed(header, CLAIMS, LONG_SECRET), by) == "malformed"


@pytest.mark.parametrize("sub", [42, 0, 1.5, True, [], ["ada"], {}, {"name": "ada"}])
def test_a_subject_that_is_not_a_string_is_refused(sub: object) -> None:
    assert reason(token(sub=sub)) == "malformed"


def test_a_subject_that_is_empty_or_missing_is_refused() -> None:
    assert reason(token(sub="")) == "claims"
    assert reason(token(sub=None)) == "missing_claim"
    assert reason(sealed(HS256, {**CLAIMS, "sub": None})) == "missing_claim"


def test_exp_and_sub_are_always_required() -> None:
    by = verifier(required_claims=())
    assert reason(token(exp=None), by) == "missing_claim"
    assert reason(token(sub=None), by) == "missing_claim"
    assert reason(sealed(HS256, {}), by) == "missing_claim"


def test_required_claims() -> None:
    by = verifier(required_claims=("jti", "tenant"))
    assert by.principal(token(jti="1", tenant="a")).subject == "ada@example.com"
    assert reason(token(jti="1"), by) == "missing_claim"
    assert reason(sealed(HS256, {**CLAIMS, "jti": "1", "tenant": None}), by) == "missing_claim"


@pytest.mark.parametrize(
    "iss",
    [
        "https://evil.example", "", "https://id.example/", "HTTPS://ID.EXAMPLE", " https://id.example",
        ["https://id.example"], {"https://id.example": 1}, 1, True, None,
    ],
)  # fmt: skip
def test_only_the_configured_issuer_is_accepted(iss: object) -> None:
    by = verifier(issuer="https://id.example")
    assert by.principal(token(iss="https://id.example")).subject == "ada@example.com"
    assert reason(token(iss=iss), by) in ("issuer", "missing_claim")


@pytest.mark.parametrize("audience", ["gateway", ("gateway",), ("other", "gateway")])
@pytest.mark.parametrize("aud", ["gateway", ["gateway"], ["someone", "gateway"]])
def test_one_common_audience_is_enough(audience: object, aud: object) -> None:
    assert verifier(audience=audience).principal(token(aud=aud)).subject == "ada@example.com"


@pytest.mark.parametrize("audience", ["gateway", ("gateway",), ("other", "gateway")])
@pytest.mark.parametrize(
    "aud",
    [
        "someone", "", "gateway ", "gatewa", "gateway2", "GATEWAY", [], ["someone"], ["gateway", 1], [["gateway"]],
        {"gateway": 1}, 1, None,
    ],
)  # fmt: skip
def test_a_token_for_someone_else_is_refused(audience: object, aud: object) -> None:
    assert reason(token(aud=aud), verifier(audience=audience)) in ("audience", "missing_claim")


def test_the_signature_is_checked_before_any_claim() -> None:
    by = verifier(issuer="https://id.example", audience="gateway", required_claims=("jti",))
    assert reason(sealed(HS256, {"exp": 0}, OTHER_SECRET), by) == "signature"


# --- size and depth


def token_of(length: int) -> str:
    """A valid token with a size of exactly this many bytes."""
    for padding in range(length):
        found = token(padding="x" * (length * 3 // 4 - 200 + padding))
        if len(found) == length:
            return found
    raise AssertionError(length)


def test_the_length_is_limited_to_the_byte() -> None:
    by = verifier()
    assert by.principal(token_of(8192)).subject == "ada@example.com"
    assert reason(token_of(8193), by) == "too_long"
    assert verifier(max_token_bytes=8193).principal(token_of(8193)).subject == "ada@example.com"


def test_a_megabyte_is_refused_before_it_is_parsed() -> None:
    by = verifier()
    for huge in ("A" * 2**20, "." * 2**20, "=" * 2**20, token() + "=" * 2**20, "é" * 2**20):
        assert reason(huge, by) == "too_long"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_deeply_nested_header_is_refused(opening: bytes) -> None:
    by = verifier(max_token_bytes=65536)
    for depth in (1, 100, 900, 1000, 1100, 5000):
        assert reason(unsealed(opening * depth, CLAIMS), by) == "malformed"
        closing = opening.translate(bytes.maketrans(b"[{", b"]}"), b'"a:')[::-1]
        whole = b'{"alg":"HS256","deep":' + opening * depth + b"1" + closing * depth + b"}"
        assert reason(unsealed(whole, CLAIMS), by) in ("malformed", "signature")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
@pytest.mark.parametrize("claim", ["user_id", "other", "sub", "exp", "aud", "scope"])
def test_claims_of_any_depth_are_accepted_or_refused(opening: str, closing: str, claim: str) -> None:
    """Claims may be nested deeply enough to be parsed, but too deeply to be serialized for a header. Every depth around
    that is tried."""
    by = verifier(max_token_bytes=65536)
    answers = set()
    for depth in (1, 10, 100, *range(200, 1100, 20), 2000, 5000):
        nested = opening * depth + "1" + closing * depth
        payload = f'{{"sub":"ada","exp":1000003600,"{claim}":{nested}}}'
        try:
            answers.add(by.principal(sealed(HS256, payload.encode())).subject)
        except InvalidToken as refused:
            answers.add(refused.reason)
    assert answers <= {"ada", "malformed", "claims", "audience"}
    assert "malformed" in answers


def test_numbers_too_long_to_parse_are_refused() -> None:
    by = verifier(max_token_bytes=65536)
    for digits in (400, 4299, 4300, 4301, 20_000):
        payload = f'{{"sub":"ada","exp":1{"0" * digits}}}'
        assert reason(sealed(HS256, payload.encode()), by) in ("claims", "malformed")


# --- arbitrary input


TEXT = st.text(st.characters(codec=None, categories=None), max_size=60)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from("alg typ kid crit b64 jku jwk sub exp nbf iat iss aud jti scope scp".split())
OBJECTS = st.dictionaries(NAMES | TEXT, JSON_VALUES, max_size=8)
ENCODED = (OBJECTS | JSON_VALUES | st.binary(max_size=80)).map(segment)
PARTS = ENCODED | st.text(string.printable, max_size=40) | TEXT
# There is no deadline, because the duration of an example means nothing on a busy machine.
EXAMPLES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHARED = verifier(max_token_bytes=65536)
SHARED_TWO = verifier(secret=LONG_SECRET, algorithms=("HS256", "HS384"), issuer="i", audience=("a", "b"))
DETAIL = re.compile(r"the token[a-z' ]+( \d+ bytes)?")


def must_refuse(anything: str, by: Verifier) -> None:
    """Checks that the token is refused. The detail must fit into a quoted string and must repeat nothing of the
    token."""
    with pytest.raises(InvalidToken) as caught:
        by.principal(anything)
    assert DETAIL.fullmatch(caught.value.detail)
    assert caught.value.reason.isidentifier()


@EXAMPLES
@given(TEXT | st.binary(max_size=300).map(lambda octets: octets.decode("latin-1")))
@example("\ud800.\udfff.\ud800")
def test_unsigned_text_is_refused(anything: str) -> None:
    must_refuse(anything, SHARED)
    must_refuse(anything, SHARED_TWO)


@EXAMPLES
@given(st.lists(PARTS, min_size=1, max_size=5))
def test_unsigned_segments_are_refused(parts: list[str]) -> None:
    must_refuse(".".join(parts), SHARED)
    must_refuse(".".join(parts), SHARED_TWO)


@EXAMPLES
@given(OBJECTS, OBJECTS)
def test_unsigned_claims_are_refused_with_any_header(header: dict[str, Any], payload: dict[str, Any]) -> None:
    for by in (SHARED, SHARED_TWO):
        must_refuse(sealed({**header, "alg": "HS256"}, {**CLAIMS, **payload}, "guessed"), by)
        must_refuse(unsealed(header, {**payload, **CLAIMS, "iss": "i", "aud": "a"}), by)


@EXAMPLES
@given(OBJECTS, st.booleans())
def test_any_signed_claims_are_accepted_or_refused(payload: dict[str, Any], is_good: bool) -> None:
    """Odd claims with a valid signature cause no other exception, and no header value that could become two headers."""
    signed_payload = {**payload, **CLAIMS, "user_id": payload} if is_good else payload
    try:
        principal = SHARED.principal(sealed(HS256, signed_payload))
    except InvalidToken:
        return
    assert isinstance(principal.subject, str)
    assert principal.subject
    assert principal.expires_at > NOW - LEEWAY
    assert all(isinstance(scope, str) for scope in principal.scopes)
    for _, value in principal.identity_headers:
        assert value.isascii()
        assert value == "" or value.isprintable()


# --- the cache of verified tokens


def principals_alive() -> int:
    gc.collect()
    return sum(isinstance(one, Principal) for one in gc.get_objects())


def test_a_verified_token_is_cached() -> None:
    by, valid = verifier(), token()
    first = by.principal(valid)
    assert by.principal(valid) is first
    assert by.principal(token(sub="bob")) is not first
    assert by.principal(valid) is first


def test_a_refused_token_is_refused_again() -> None:
    by = verifier()
    by.principal(token())
    for _ in range(3):
        assert reason(token(exp=NOW - 60), by) == "expired"
        assert reason(token()[:-4] + "AAAA", by) == "signature"


def test_a_cached_token_expires() -> None:
    clock = Clock()
    by, valid = verifier(clock), token(exp=NOW + 100)
    first = by.principal(valid)
    clock.now = NOW + 99.999
    assert by.principal(valid) is first
    # From this time on the token is only accepted within the leeway. It is not cached any more, so it is verified each
    # time.
    clock.now = NOW + 100
    again = by.principal(valid)
    assert again is not first
    assert again == first
    assert by.principal(valid) is not again
    clock.now = NOW + 100 + LEEWAY
    assert reason(valid, by) == "expired"
    assert reason(valid, by) == "expired"


def test_the_cache_is_bounded() -> None:
    before = principals_alive()
    by = verifier(cache_size=8)
    tokens = [token(sub=f"caller{number}") for number in range(500)]
    for one in tokens:
        by.principal(one)
    assert principals_alive() - before == 8
    # The last eight tokens are cached.
    known = [by.principal(one) for one in tokens[-8:]]
    assert [by.principal(one) for one in tokens[-8:]] == known
    assert all(by.principal(one) is principal for one, principal in zip(tokens[-8:], known, strict=True))


def test_refused_tokens_are_not_cached() -> None:
    by, valid = verifier(cache_size=1), token()
    first = by.principal(valid)
    for number in range(50):
        reason(sealed(HS256, claims(sub=f"caller{number}"), OTHER_SECRET), by)
    assert by.principal(valid) is first


def test_a_cache_of_size_zero_stores_nothing() -> None:
    before = principals_alive()
    by, valid = verifier(cache_size=0), token()
    assert by.principal(valid) is not by.principal(valid)
    assert principals_alive() == before


def test_tokens_that_differ_outside_latin_1_are_distinguished() -> None:
    by, valid = verifier(), token()
    by.principal(valid)
    for other in (valid.replace(".", "?"), valid.replace(".", "\u2024"), valid + "\u2024", valid[:-1] + "\u0100"):
        assert reason(other, by) == "malformed"


def test_verifiers_do_not_share_their_caches() -> None:
    valid = token()
    verifier().principal(valid)
    assert reason(valid, verifier(secret=OTHER_SECRET)) == "signature"


def test_several_threads_evict_at_the_same_time(frequent_thread_switches: None) -> None:
    by = verifier(cache_size=1)
    tokens = [token(sub=f"caller{number}") for number in range(40)]
    failures: list[BaseException] = []

    def call(offset: int) -> None:
        try:
            for number in range(300):
                chosen = (number + offset) % len(tokens)
                assert by.principal(tokens[chosen]).subject == f"caller{chosen}"
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call, args=(number * 5,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_claims_must_be_utf_8(encoding: str) -> None:
    by = verifier()
    octets = json.dumps(CLAIMS).encode(encoding)
    assert reason(sealed(HS256, octets), by) == "malformed"
    # The second token has the same header as the first one, which is cached by then.
    assert by.principal(sealed(HS256, CLAIMS)).subject == "ada@example.com"
    assert reason(sealed(HS256, octets), by) == "malformed"


@pytest.mark.parametrize("configured", ["at+jwt", "application/at+jwt", "AT+JWT", "Application/At+Jwt"])
def test_types_are_compared_without_prefix_and_case(configured: str) -> None:
    """A prefix `application/` and the case of a type don't matter (RFC 7515 4.1.9, RFC 8725 3.11)."""
    by = verifier(token_type=configured)
    for typ in ("at+jwt", "application/at+jwt", "AT+jwt", "APPLICATION/at+JWT"):
        assert by.principal(sealed({**HS256, "typ": typ}, CLAIMS)).subject == "ada@example.com"
    for other in (
        "JWT",
        "text/at+jwt",
        "/at+jwt",
        "application/",
        "application/application/at+jwt",
        "at+jwt ",
        "",
        1,
        None,
    ):
        assert reason(sealed({**HS256, "typ": other}, CLAIMS), by) in ("type", "malformed")
    assert reason(sealed({"alg": "HS256"}, CLAIMS), by) == "type"


@pytest.mark.parametrize("name", ["Ed25519", "EdDSA"])
def test_ed25519_has_two_algorithm_names(name: str, tmp_path: Path) -> None:
    """EdDSA and Ed25519 name the same algorithm (RFC 9864 2.2)."""
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(public_pem(key))

    def signed_by(signer: Ed25519PrivateKey, alg: str) -> str:
        body = f"{segment({'alg': alg})}.{segment(CLAIMS)}"
        return f"{body}.{segment(signer.sign(body.encode()))}"

    by = verifier(secret=None, public_key_file=str(tmp_path / "key.pem"), algorithms=[name])
    both = verifier(secret=None, public_key_file=str(tmp_path / "key.pem"), algorithms=["EdDSA", "Ed25519"])
    for alg in ("Ed25519", "EdDSA"):
        for _ in range(2):
            assert both.principal(signed_by(key, alg)).subject == "ada@example.com"
        assert reason(signed_by(other, alg), both) == "signature"
        if alg == name:
            assert by.principal(signed_by(key, alg)).subject == "ada@example.com"
        else:
            assert reason(signed_by(key, alg), by) == "algorithm"
    assert reason(signed_by(key, "Ed448"), both) == "algorithm"
