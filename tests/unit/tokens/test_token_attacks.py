"""Known attacks on tokens. Each is tried with each kind of key, from a file and from a key set."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms
from jwt.utils import base64url_decode

from gateway.config import JwtSettings
from gateway.errors import InvalidToken
from gateway.tokens.issuer import Issuer
from gateway.tokens.jwks import JwksKeySet, read_jwks
from gateway.tokens.key_source import FixedKeys, KeySource
from gateway.tokens.principal import Principal
from gateway.tokens.remote_jwks import RemoteJwks
from gateway.tokens.revocation import revocation_keys_of
from gateway.tokens.verifier import Verifier
from tests.support.client import exchange, request_bytes
from tests.support.forging import sealed, segment, unsealed
from tests.support.issuer import new_key
from tests.support.tokens import SECRET
from tests.support.upstream import ScriptedUpstream

NOW = 1_000_000_000.0
CLAIMS: dict[str, Any] = {"sub": "ada", "exp": NOW + 3600}
ASYMMETRIC = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")
DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
# The orders of P-256, P-384 and P-521 (FIPS 186-4 D.1.2).
ORDERS = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16),
    "ES512": int("1" + "F" * 65 + "A51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16),
}


@cache
def private_key(algorithm: str, number: int = 0) -> PrivateKeyTypes | str:
    """The signing key with this number. Number 0 is the issuer's key."""
    return (SECRET if number == 0 else SECRET[::-1]) if algorithm == "HS256" else new_key(algorithm)


def signature(algorithm: str, signing_input: str, number: int = 0) -> bytes:
    by = get_default_algorithms()[algorithm]
    return by.sign(signing_input.encode(), by.prepare_key(private_key(algorithm, number)))


@dataclass(frozen=True)
class Victim:
    """The target of an attack: an issuer's key and the verifiers that trust it."""

    algorithm: str
    is_fetched: bool

    def verifier(self, **changed: Any) -> Verifier:
        settings = JwtSettings(secret=None, **changed).model_copy(update={"max_token_bytes": 2**22})
        return Verifier(settings, [Issuer(settings, self.source(), settings.required_claims)], lambda: NOW)

    def source(self) -> KeySource:
        if self.is_fetched:
            return fetched_keys(self.algorithm)
        return FixedKeys({self.algorithm: PyJWK(self.jwk(), self.algorithm)})

    def jwk(self, number: int = 0) -> dict[str, Any]:
        by, key = get_default_algorithms()[self.algorithm], private_key(self.algorithm, number)
        public = key if isinstance(key, str) else key.public_key()
        found: dict[str, Any] = json.loads(by.to_jwk(by.prepare_key(public)))
        return found

    def header(self, **more: Any) -> dict[str, Any]:
        return {"alg": self.algorithm, "kid": "one", **more}

    def token(self, header: Any = None, payload: Any = CLAIMS, *, number: int = 0) -> str:
        """A token with a valid signature: of the issuer's key (number 0) or of another key."""
        return self.signed(segment(header or self.header()), segment(payload), number)

    def signed(self, header: str, payload: str, number: int = 0) -> str:
        octets = signature(self.algorithm, f"{header}.{payload}", number)
        return f"{header}.{payload}.{segment(octets)}"


@cache
def fetched_keys(algorithm: str) -> RemoteJwks:
    """A key set that all tests share. Its clock stands still, so unknown key ids cause one fetch only, in all tests
    together."""
    victim, loads = Victim(algorithm, True), count(1)

    def load() -> JwksKeySet:
        if next(loads) > 2:
            unasked.append(algorithm)
        published = [{**victim.jwk(number), "kid": kid, "alg": algorithm} for kid, number in (("one", 0), ("other", 2))]
        return read_jwks(json.dumps({"keys": published}).encode(), ASYMMETRIC)

    return RemoteJwks("issuer", load, 3600, 30, lambda: NOW, lambda: 0.5)


# Algorithms whose key set was fetched more than twice. Must stay empty.
unasked: list[str] = []

# With fetched keys only one algorithm of each type is tested, as the source of a key makes no difference to its
# algorithms.
VICTIMS = [(name, False) for name in ("HS256", *ASYMMETRIC)] + [(name, True) for name in ("RS256", "ES256", "EdDSA")]


# These three victims are enough for tokens that are refused before any key is used.
EARLY = pytest.mark.parametrize("victim", [("HS256", False), ("RS256", True), ("ES256", False)], indirect=True)


@pytest.fixture(params=VICTIMS, ids=lambda one: f"{one[0]}-{'fetched' if one[1] else 'fixed'}")
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    made = Victim(*request.param)
    # The victim accepts a valid token, so the tokens of the tests are refused only for their own errors.
    assert outcome(made.verifier(), made.token()) == "ada"
    yield made
    assert unasked == []


def outcome(by: Verifier, token: str) -> str:
    """The subject if the token is accepted, or the reason of the refusal."""
    try:
        return by.principal(token).subject
    except InvalidToken as refused:
        return f"refused: {refused.reason}"


MALFORMED, ALGORITHM, SIGNATURE = "refused: malformed", "refused: algorithm", "refused: signature"
UNKNOWN_KEY = "refused: unknown_key"


# --- algorithms


NONES = ["".join(case) for case in itertools.product(*zip("none", "NONE", strict=True))]


def test_no_spelling_of_none_replaces_a_signature(victim: Victim) -> None:
    by, valid = victim.verifier(), victim.token().rpartition(".")[2]
    for none in (*NONES, "", "none ", " none", "none\0", "null"):
        header = victim.header(alg=none)
        body = f"{segment(header)}.{segment(CLAIMS)}"
        for forged in (f"{body}.", f"{body}.{valid}", f"{body}.AA", victim.token(header), sealed(header, CLAIMS, b"")):
            assert outcome(by, forged) == ALGORITHM, (none, forged)
        assert outcome(by, body) == MALFORMED


def encodings_of(key: Any, jwk: dict[str, Any]) -> Iterator[bytes]:
    """Encodings of the public key that an attacker could sign with as if it were a secret."""
    formats = [PublicFormat.SubjectPublicKeyInfo]
    if isinstance(key, RSAPublicKey):
        formats.append(PublicFormat.PKCS1)
        yield key.public_numbers().n.to_bytes(256, "big")
        yield str(key.public_numbers().n).encode()
        yield jwk["n"].encode()
    else:
        yield jwk["x"].encode()
        yield from (
            key.public_bytes(Encoding.X962, form)
            for form in (PublicFormat.UncompressedPoint, PublicFormat.CompressedPoint)
            if isinstance(key, EllipticCurvePublicKey)
        )
        if not isinstance(key, EllipticCurvePublicKey):
            yield key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            yield key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for form in formats:
        pem = key.public_bytes(Encoding.PEM, form)
        yield from (pem, pem.strip(), pem.replace(b"\n", b"\r\n"), b"".join(pem.splitlines()[1:-1]))
        yield key.public_bytes(Encoding.DER, form)
    yield json.dumps(jwk).encode()
    yield json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()
    yield b""


@pytest.mark.parametrize("is_fetched", [False, True])
@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_no_encoding_of_the_public_key_is_used_as_a_secret(algorithm: str, is_fetched: bool) -> None:
    victim = Victim(algorithm, is_fetched)
    by, key = victim.verifier(), private_key(algorithm)
    assert not isinstance(key, str)
    for secret in encodings_of(key.public_key(), victim.jwk()):
        for alg, digest in DIGESTS.items():
            assert outcome(by, sealed(victim.header(alg=alg), CLAIMS, secret, digest)) == ALGORITHM
            assert outcome(by, sealed(victim.header(), CLAIMS, secret, digest)) == SIGNATURE


def test_a_key_verifies_no_other_algorithm_of_any_type(victim: Victim) -> None:
    by = victim.verifier()
    for other in ("HS256", *ASYMMETRIC):
        if other != victim.algorithm:
            header, payload = segment(victim.header(alg=other)), segment(CLAIMS)
            foreign = segment(signature(other, f"{header}.{payload}"))
            assert outcome(by, f"{header}.{payload}.{foreign}") == ALGORITHM
            # The signature is the issuer's own, but the header names another algorithm.
            assert outcome(by, victim.token(victim.header(alg=other))) == ALGORITHM


# --- signatures


def test_empty_shortened_and_extended_signatures_are_refused(victim: Victim) -> None:
    by, (body, _, valid) = victim.verifier(), victim.token().rpartition(".")
    octets = base64url_decode(valid)
    for length in (0, 1, len(octets) // 2, len(octets) - 1):
        assert outcome(by, f"{body}.{segment(octets[:length])}") == SIGNATURE
        assert outcome(by, f"{body}.{segment(octets[length + 1 :])}") == SIGNATURE
    for longer in (octets + b"\0", b"\0" + octets, octets + octets, bytes(len(octets)), b"\xff" * len(octets)):
        assert outcome(by, f"{body}.{segment(longer)}") == SIGNATURE
    assert outcome(by, f"{body}.{valid}") == "ada"


ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.mark.parametrize("is_fetched", [False, True])
@pytest.mark.parametrize("algorithm", ORDERS)
def test_ecdsa_signatures_with_numbers_out_of_range_are_refused(algorithm: str, is_fetched: bool) -> None:
    """Java accepted zeros for r and s as a signature of any message (CVE-2022-21449). The order n counts as zero."""
    victim = Victim(algorithm, is_fetched)
    by, (body, _, valid) = victim.verifier(), victim.token().rpartition(".")
    size, order = len(base64url_decode(valid)) // 2, ORDERS[algorithm]
    r, s = int.from_bytes(base64url_decode(valid)[:size], "big"), int.from_bytes(base64url_decode(valid)[size:], "big")
    assert r < order
    assert s < order
    bad = [0, 1, order - 1, order, order + 1, 2 ** (8 * size) - 1]
    pairs = [*itertools.product(bad, bad), *((r, one) for one in bad), *((one, s) for one in bad), (s, r)]
    for pair in pairs:
        forged = b"".join(number.to_bytes(size, "big") for number in pair)
        assert outcome(by, f"{body}.{segment(forged)}") == SIGNATURE, pair
    # The same numbers in DER, as in X.509. RFC 7518 3.4 requires another encoding, so they are refused.
    assert outcome(by, f"{body}.{segment(encode_dss_signature(r, s))}") == SIGNATURE
    assert outcome(by, f"{body}.{valid}") == "ada"


def test_a_signature_is_valid_for_its_own_header_and_payload_only(victim: Victim) -> None:
    by, valid = victim.verifier(), victim.token()
    header, payload, seal = valid.split(".")
    reordered = json.dumps(dict(reversed(victim.header().items()))).encode()
    for other in (
        victim.header(typ="JWT"),
        victim.header(cty="x"),
        reordered,
        json.dumps(victim.header()).encode() + b" ",
    ):
        assert outcome(by, f"{segment(other)}.{payload}.{seal}") == SIGNATURE
    for changed in ({**CLAIMS, "sub": "root"}, {**CLAIMS, "exp": NOW + 3601}, {"exp": CLAIMS["exp"], "sub": "ada"}):
        assert outcome(by, f"{header}.{segment(changed)}.{seal}") == SIGNATURE
    assert outcome(by, f"{payload}.{header}.{seal}") in (ALGORITHM, UNKNOWN_KEY)
    assert outcome(by, valid) == "ada"


def test_unused_bits_must_be_zero(victim: Victim) -> None:
    """If other values were accepted, a token would have several spellings (RFC 4648 3.5)."""
    by = victim.verifier()
    header, payload, seal = victim.token().split(".")
    assert outcome(by, f"{header}.{payload}.{seal}") == "ada"
    for one in other_spellings(seal):
        assert outcome(by, f"{header}.{payload}.{one}") == MALFORMED
    # The header is refused even if the issuer itself has signed this spelling.
    tried = 0
    for blanks in range(3):
        padded = segment(json.dumps(victim.header()).encode() + b" " * blanks)
        for one in other_spellings(padded):
            assert outcome(by, victim.signed(one, payload)) == MALFORMED
            tried += 1
        padded = segment(json.dumps(CLAIMS).encode() + b" " * blanks)
        for one in other_spellings(padded):
            assert outcome(by, victim.signed(header, one)) == MALFORMED
            tried += 1
    assert tried == 2 * (15 + 3)


def other_spellings(text: str) -> list[str]:
    """Texts that decode to the same bytes, with other unused bits."""
    unused = {0: 0, 2: 4, 3: 2}[len(text) % 4]
    last = ALPHABET.index(text[-1])
    return [text[:-1] + ALPHABET[last + more] for more in range(1, 2**unused)]


def test_inserted_characters_are_refused(victim: Victim) -> None:
    by, segments = victim.verifier(), victim.token().split(".")
    for odd in (" ", "\t", "\n", "\r\n", "\0", "%", "%3D", "+", "/", "!", "===", "é", "\u2024"):
        for position, text in enumerate(segments):
            for spelled in (odd + text, text[:4] + odd + text[4:], text + odd):
                changed = [*segments[:position], spelled, *segments[position + 1 :]]
                assert outcome(by, ".".join(changed)) == MALFORMED
                if position < 2:
                    # The segment is refused even if the issuer itself has signed this spelling.
                    assert outcome(by, victim.signed(changed[0], changed[1])) == MALFORMED


def test_padding_is_refused(victim: Victim) -> None:
    by, (header, payload, seal) = victim.verifier(), victim.token().split(".")
    for padding in ("=", "=="):
        for changed in (f"{header}{padding}.{payload}", f"{header}.{payload}{padding}", f"{padding}{header}.{payload}"):
            assert outcome(by, f"{changed}.{seal}") == MALFORMED
            # The token is refused even if the issuer itself has signed it.
            first, second = changed.split(".")
            assert outcome(by, victim.signed(first, second)) == MALFORMED
        for changed in (f"{padding}{seal}", f"{seal[:4]}{padding}{seal[4:]}", f"{seal}{padding}"):
            assert outcome(by, f"{header}.{payload}.{changed}") == MALFORMED


def test_leading_zeros_of_a_signature_are_required() -> None:
    """OpenSSL accepts an RSA-PSS signature without its leading zeros, which RFC 8017 8.1.2 forbids."""
    for algorithm in ("PS256", "RS256"):
        victim = Victim(algorithm, True)
        by = victim.verifier()
        tokens = (victim.token(payload={**CLAIMS, "number": number}) for number in count())
        body, seal = next(parts for parts in (one.rsplit(".", 1) for one in tokens) if parts[1].startswith("AA"))
        octets = base64url_decode(seal)
        assert outcome(by, f"{body}.{segment(octets.lstrip(bytes(1)))}") == SIGNATURE
        assert outcome(by, f"{body}.{segment(bytes(1) + octets)}") == SIGNATURE
        assert outcome(by, f"{body}.{seal}") == "ada"


# --- header parameters


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["x"], "x": 1}, {"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": None}, {"crit": "b64"},
        {"crit": ["b64"], "b64": False}, {"crit": ["b64", "x"], "b64": True, "x": 1}, {"b64": False},
        {"crit": ["kid"]}, {"crit": ["http://example.com/UNDEFINED"], "http://example.com/UNDEFINED": True},
    ],
)  # fmt: skip
def test_critical_header_parameters_are_refused(victim: Victim, more: dict[str, Any]) -> None:
    by = victim.verifier()
    assert outcome(by, victim.token(victim.header(**more))) == MALFORMED
    # RFC 7797 allows a payload that is detached (empty here) or not encoded.
    header = segment(victim.header(**more))
    assert outcome(by, victim.signed(header, "")) == MALFORMED
    assert outcome(by, victim.signed(header, json.dumps(CLAIMS))) == MALFORMED


@pytest.fixture(scope="module")
def trap() -> Iterator[ScriptedUpstream]:
    """A server that the header of a token refers to."""
    running = ScriptedUpstream()
    yield running
    running.close()


def test_keys_in_a_header_are_ignored_and_their_urls_not_fetched(victim: Victim, trap: ScriptedUpstream) -> None:
    by, before = victim.verifier(), trap.connections
    jwk = {**victim.jwk(1), "kid": "one"}
    for more in (
        {"jku": f"{trap.url}/jwks.json"},
        {"x5u": f"{trap.url}/cert.pem"},
        {"jwk": jwk},
        {"x5c": ["MIIB"]},
        {"kid": f"{trap.url}/jwks.json"},
        {"iss": trap.url},
        {"jku": f"{trap.url}/jwks.json", "x5u": trap.url, "jwk": jwk, "x5c": ["MIIB"], "x5t": "AA", "url": trap.url},
    ):
        assert outcome(by, victim.token(victim.header(**more), number=1)) in (SIGNATURE, UNKNOWN_KEY)
        payload = {**CLAIMS, "iss": trap.url, "jku": trap.url, "jwks_uri": trap.url}
        assert outcome(by, victim.token(victim.header(**more), payload, number=1)) in (SIGNATURE, UNKNOWN_KEY)
        if "kid" not in more:
            # A valid token with these parameters is accepted.
            assert outcome(by, victim.token(victim.header(**more))) == "ada"
    # The trap accepts connections in order. This one is the first, so the verifier has made none.
    assert exchange(trap.port, request_bytes("GET", "/")).status == 200
    assert trap.connections == before + 1


def test_a_kid_that_is_not_a_string_is_refused(victim: Victim) -> None:
    by = victim.verifier()
    for kid in (None, 1, 0, 1.5, True, False, [], ["one"], {}, {"one": 1}, [[["one"]]], 10**400, float("nan")):
        assert outcome(by, victim.token(victim.header(kid=kid))) == MALFORMED, kid


KEY_IDS = [
    "", " ", "ONE", "one ", " one", "one\0", "on", "one1", "None", "null", "0", "*", "%", ".*", "__proto__",
    "../../../../../../dev/null", "..\\..\\one", "/etc/passwd", "file:///dev/null", "one/../one", "%6fne",
    "' OR '1'='1", "x' UNION SELECT 'secret' --", "one'; DROP TABLE keys; --", "$(id)", "|id", "`id`",
    "one\r\nX: 1", "\ud800", "\U0001f511", "\uff4f\uff4e\uff45", "x" * 2**20,
]  # fmt: skip


@EARLY
def test_a_kid_is_only_compared(victim: Victim) -> None:
    by = victim.verifier()
    # A key from a file is the only one, so the kid is ignored.
    expected = (UNKNOWN_KEY, UNKNOWN_KEY) if victim.is_fetched else ("ada", SIGNATURE)
    for kid in KEY_IDS:
        header = victim.header(kid=kid)
        assert outcome(by, victim.token(header)) == expected[0], kid[:30]
        assert outcome(by, victim.token(header, number=1)) == expected[1], kid[:30]
        assert outcome(by, unsealed(header, CLAIMS)) == expected[1], kid[:30]


def test_a_token_is_verified_with_the_key_that_it_names(victim: Victim) -> None:
    by = victim.verifier()
    assert outcome(by, victim.token(number=2)) == SIGNATURE
    named = outcome(by, victim.token(victim.header(kid="other"), number=2))
    assert named == ("ada" if victim.is_fetched else SIGNATURE)


# --- JSON


def test_duplicate_names_are_refused(victim: Victim) -> None:
    """Two parsers that choose different values would read two different tokens (RFC 7515 4, RFC 7519 4)."""
    by, own = victim.verifier(), victim.algorithm.encode()
    for other in (b'"none"', b'"HS512"', b"null", b"1", b'"%b"' % own):
        for header in (
            b'{"alg":%b,"kid":"other","alg":"%b","kid":"one"}' % (other, own),
            b'{"alg":"%b","kid":"one","alg":%b}' % (own, other),
            b'{"alg":"%b","kid":"one","a\\u006cg":%b}' % (own, other),
        ):
            assert outcome(by, victim.token(header)) == MALFORMED
            assert outcome(by, unsealed(header, CLAIMS)) == MALFORMED
    for payload in (
        b'{"sub":"root","exp":9999999999,"sub":"ada"}',
        b'{"exp":9999999999,"sub":"ada","exp":1}',
        b'{"exp":9999999999,"sub":"ada","sub":"ada"}',
        b'{"exp":9999999999,"sub":"ada","s\\u0075b":"ada"}',
        b'{"exp":9999999999,"sub":"ada","roles":[{"a":1,"a":2}]}',
    ):
        assert outcome(by, victim.token(payload=payload)) == MALFORMED
        # The result is the same when the header is cached.
        assert outcome(by, victim.token()) == "ada"
        assert outcome(by, victim.token(payload=payload)) == MALFORMED


def test_a_header_must_be_utf_8(victim: Victim) -> None:
    by, header = victim.verifier(), json.dumps(victim.header())
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-32-be", "utf-8-sig"):
        assert outcome(by, victim.token(header.encode(encoding))) == MALFORMED
    assert outcome(by, victim.token(header.encode().replace(b"one", b"on\xe9"))) == MALFORMED
    assert outcome(by, victim.token(header.encode().replace(b"}", b',"x":NaN}'))) == MALFORMED


def test_a_token_with_two_issuers_is_refused() -> None:
    made = {}
    for name, number in (("a", 0), ("b", 1)):
        keys = FixedKeys({"HS256": PyJWK(Victim("HS256", False).jwk(number), "HS256")})
        made[name] = Issuer(JwtSettings(issuer=name), keys, ())
    by = Verifier(JwtSettings(), list(made.values()), lambda: NOW)
    victim = Victim("HS256", False)
    for first, last in (("a", "b"), ("b", "a")):
        payload = b'{"sub":"ada","exp":9999999999,"iss":"%b","iss":"%b"}' % (first.encode(), last.encode())
        right = victim.token(payload=payload, number=0 if last == "a" else 1)
        wrong = victim.token(payload=payload, number=0 if first == "a" else 1)
        assert outcome(by, right) == outcome(by, wrong) == "refused: issuer"
    for iss in (None, 1, True, [], ["a"], {}, {"a": 1}, "", "A", "a ", "c", "\ud800", "a" * 2**16):
        assert outcome(by, victim.token(payload={**CLAIMS, "iss": iss})) in ("refused: issuer", "refused: too_long")


@EARLY
def test_unbounded_nesting_is_refused(victim: Victim) -> None:
    by = victim.verifier()
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (2000, 100_000):
            deep = opening * depth + b"1" + closing * depth
            whole = b'{"alg":"%b","kid":"one","x":%b}' % (victim.algorithm.encode(), deep)
            assert outcome(by, victim.token(whole)) == MALFORMED
            assert outcome(by, victim.token(opening * depth)) == MALFORMED
            assert outcome(by, victim.token(payload=deep)) == MALFORMED
            assert outcome(by, victim.token(payload=b'{"sub":"ada","exp":9999999999,"x":%b}' % deep)) == MALFORMED


@EARLY
def test_tokens_of_a_megabyte(victim: Victim) -> None:
    """The verifiers have a length limit that is larger than these tokens."""
    by, size = victim.verifier(), 2**20
    for huge in ("A" * size, "." * size, "=" * size, "A." * (size // 2), f"{victim.token()}.{'A' * size}", "é" * size):
        assert outcome(by, huge) == MALFORMED
    assert outcome(by, victim.token(victim.header(x="y" * size))) == "ada"
    assert outcome(by, victim.token(payload={**CLAIMS, "sub": "y" * size})) == "y" * size
    assert outcome(by, victim.token() + "A" * size) in (SIGNATURE, MALFORMED)


# --- claims of any type


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 1e308, float("nan"), float("inf"), 10**400,
    "", " ", "x", "\ud800", "\0\r\n", "x" * 5000,
    [], [None], [1], ["x"], [["x"]], [{}], ["x"] * 500, {}, {"x": 1}, {"$ref": "x"},
]  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"issuer": "i", "audience": "a"},
        {"audience": ("a", "b"), "scope_claim": "scope.roles"},
        {"scope_claim": "aud", "claims_to_headers": {"aud": "X-A", "jti.x": "X-J", "scope": "X-S", "iss": "X-I"}},
        {"max_lifetime_seconds": 7200, "required_claims": ("aud", "iss", "jti", "iat")},
        {"token_type": "at+jwt"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", ["aud", "iss", "sub", "jti", "scope", "scp", "exp", "nbf", "iat", "typ", "user_id"])
def test_claims_of_any_type_are_accepted_or_refused(name: str, settings: dict[str, Any]) -> None:
    victim = Victim("HS256", False)
    by = victim.verifier(**settings)
    valid = {**CLAIMS, "aud": "a", "iss": "i", "jti": "1", "iat": NOW} if settings else CLAIMS
    for odd in ODD:
        try:
            principal = by.principal(victim.token(victim.header(typ="at+jwt"), {**valid, name: odd}))
        except InvalidToken:
            continue
        must_be_usable(principal)
        if name in ("exp", "nbf", "iat"):
            assert type(odd) in (int, float)
        if name == "jti":
            assert type(odd) is str


def must_be_usable(principal: Principal) -> None:
    assert type(principal.subject) is str
    assert principal.subject
    assert principal.token_id is None or type(principal.token_id) is str
    assert all(type(scope) is str for scope in principal.scopes)
    assert all(key.isascii() for key in revocation_keys_of(principal))
    for _, value in principal.identity_headers:
        assert value.isascii()
        assert value == "" or value.isprintable()


def test_another_token_type_is_refused(victim: Victim) -> None:
    by = victim.verifier(token_type="at+jwt")
    others: list[Any] = [None, True, 0, 1, [], ["at+jwt"], {}, "", "JWT", "at+jw", "at+jwt ", "x/at+jwt", "\ud800"]
    for typ in others:
        assert outcome(by, victim.token(victim.header(typ=typ))) in ("refused: type", MALFORMED), typ
    assert outcome(by, victim.token()) == "refused: type"
    for valid in ("at+jwt", "AT+JWT", "application/at+jwt"):
        assert outcome(by, victim.token(victim.header(typ=valid))) == "ada"
