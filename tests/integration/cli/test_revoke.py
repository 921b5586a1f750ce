"""`flask revoke`, `revoked` and `quota`: their effect on requests, and what they refuse."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from flask import Flask
from jwt.utils import base64url_decode, base64url_encode, der_to_raw_signature, raw_to_der_signature

from gateway import create_app
from gateway.demo import ADA
from gateway.demo.auth import auth_app
from gateway.tokens.revocation import PREFIX
from tests.support.configuration import loaded
from tests.support.gateway import four_services
from tests.support.issuer import Issuer
from tests.support.redis import FalseRedis, RedisServer, calls_of
from tests.support.tokens import SECRET, signed
from tests.support.upstream import ScriptedUpstream

ONE, OTHER = "https://one.test", "https://other.test"
# The order of the curve P-256 (FIPS 186-4 D.1.2).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SUBJECTS = (f"caller-{number}" for number in count())

NO_ISSUER: dict[str, Any] = {"secret": SECRET}
ONE_ISSUER: dict[str, Any] = {"secret": SECRET, "issuer": ONE}
TWO_ISSUERS: dict[str, Any] = {
    "issuers": [{"secret": SECRET, "issuer": ONE}, {"secret": SECRET[::-1], "issuer": OTHER}],
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Site:
    """A gateway in this process. Its commands run here, too, with the same Redis."""

    def __init__(self, redis: RedisServer | None, target: str, jwt_settings: dict[str, Any], **more: Any) -> None:
        tree = {**four_services(target), "jwt": jwt_settings, "redis_timeout_seconds": 5, **more}
        self.app: Flask = create_app(loaded(tree, **({} if redis is None else {"REDIS_URL": redis.url})))

    def status(self, token: str) -> int:
        status: int = self.get(token).status_code
        return status

    def get(self, token: str) -> Any:
        return self.app.test_client().get("/api/devices", headers={"Authorization": f"Bearer {token}"})

    def run(self, *words: str, code: int = 0, given: str = "") -> str:
        """Runs a command, which must end with this exit code. Returns all of its output."""
        result = self.app.test_cli_runner().invoke(args=words, input=given)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.output
        return result.output


@pytest.fixture
def sites(redis: RedisServer, upstream: ScriptedUpstream) -> dict[str, Site]:
    settings = {"none": NO_ISSUER, "one": ONE_ISSUER, "two": TWO_ISSUERS}
    return {name: Site(redis, upstream.url, one) for name, one in settings.items()}


# --- issuers


@pytest.mark.parametrize(
    ("site", "words", "claims"),
    [
        ("none", (), {}),
        ("none", (), {"iss": ONE}),
        ("one", (), {"iss": ONE}),
        ("one", ("--issuer", ONE), {"iss": ONE}),
        ("two", ("--issuer", ONE), {"iss": ONE}),
    ],
)
@pytest.mark.parametrize("by", ["jti", "sub"])
def test_revoked_tokens_are_refused_until_undo(
    sites: dict[str, Site], site: str, words: tuple[str, ...], claims: dict[str, str], by: str
) -> None:
    subject = next(SUBJECTS)
    token, name = signed(subject, jti=f"id-{subject}", iat=int(time.time()) - 5, **claims), f"id-{subject}"
    command = ("revoke", f"--{by}", name if by == "jti" else subject, *words)
    assert sites[site].status(token) == 200
    assert f"{by} {command[2]}" in sites[site].run(*command)
    assert sites[site].status(token) == 401
    assert sites[site].run(*command, "--undo") == "revocation removed\n"
    assert sites[site].status(token) == 200
    assert "there is no such revocation" in sites[site].run(*command, "--undo", code=1)


def test_second_issuer_does_not_change_revocations_and_counters_of_the_first(sites: dict[str, Site]) -> None:
    subject = next(SUBJECTS)
    tokens = [signed(subject, jti=f"{subject}-{number}", iss=ONE, iat=int(time.time()) - 5) for number in range(2)]
    others = signed(subject, jti=f"{subject}-0", iss=OTHER, iat=int(time.time()) - 5, key=SECRET[::-1])
    before = sites["one"].get(tokens[0])
    assert (before.status_code, before.headers["X-RateLimit-Remaining"]) == (200, "299")
    sites["one"].run("revoke", "--jti", f"{subject}-0")
    assert sites["two"].status(tokens[0]) == 401
    assert sites["two"].get(tokens[1]).headers["X-RateLimit-Remaining"] == "297"
    # Another issuer has a subject and a token id with the same names; these are not revoked or counted yet.
    reply = sites["two"].get(others)
    assert (reply.status_code, reply.headers["X-RateLimit-Remaining"]) == (200, "299")
    sites["one"].run("revoke", "--sub", subject)
    assert [sites["two"].status(token) for token in (tokens[1], others)] == [401, 200]


@pytest.mark.parametrize(
    "words", [("revoke", "--jti", "x"), ("revoke", "--sub", "x"), ("revoke", "--sub", "x", "--undo"), ("quota", "x")]
)
def test_issuer_is_required_if_there_are_several(
    sites: dict[str, Site], redis: RedisServer, words: tuple[str, ...]
) -> None:
    before = redis.ask("DBSIZE")
    said = sites["two"].run(*words, code=2)
    assert f"several issuers are configured, give --issuer: {ONE}, {OTHER}" in said
    for site in ("one", "two"):
        said = sites[site].run(*words, "--issuer", "https://on.test", code=2)
        assert "'--issuer': there is no issuer 'https://on.test'; configured: https://one.test" in said
    assert "none is configured (jwt.issuer)" in sites["none"].run(*words, "--issuer", ONE, code=2)
    assert "there is no issuer ''" in sites["one"].run(*words, "--issuer", "", code=2)
    assert redis.ask("DBSIZE") == before


def test_quota_of_a_subject_of_one_issuer(sites: dict[str, Site]) -> None:
    subject = next(SUBJECTS)
    assert sites["two"].status(signed(subject, iss=ONE)) == 200

    def used(*words: str) -> str:
        (line,) = [line for line in sites["two"].run("quota", subject, *words).splitlines() if "default" in line]
        return line.split()[3]

    assert used("--issuer", ONE) == "1"
    assert used("--issuer", OTHER) == "0"
    assert "  reset\n" in sites["two"].run("quota", subject, "--issuer", ONE, "--reset")
    assert used("--issuer", ONE) == "0"


def test_revocations_of_an_unknown_issuer_are_marked(sites: dict[str, Site]) -> None:
    subject = next(SUBJECTS)
    sites["two"].run("revoke", "--sub", subject, "--issuer", OTHER)
    (line,) = [line for line in sites["one"].run("revoked").splitlines() if subject in line]
    assert line.endswith("(no effect: this issuer is not configured)")
    (line,) = [line for line in sites["two"].run("revoked").splitlines() if subject in line]
    assert "no effect" not in line


@pytest.mark.parametrize("settings", [NO_ISSUER, ONE_ISSUER, TWO_ISSUERS], ids=["none", "one", "two"])
def test_exempt_subjects_need_an_issuer_if_there_are_several(
    redis: RedisServer, upstream: ScriptedUpstream, settings: dict[str, Any]
) -> None:
    exempt = {"ratelimit": {"exempt_principals": ["ada", f"{ONE} bob"]}}
    site = Site(redis, upstream.url, settings, **exempt)

    def is_exempt(subject: str, **claims: Any) -> bool:
        return "X-RateLimit-Limit" not in site.get(signed(subject, **claims)).headers

    assert is_exempt("bob", iss=ONE) == (settings is not NO_ISSUER)
    assert is_exempt("ada", iss=ONE) == (settings is not TWO_ISSUERS)
    if settings is TWO_ISSUERS:
        assert not is_exempt("bob", iss=OTHER, key=SECRET[::-1])


# --- refused commands


@pytest.mark.parametrize("words", [("--jti", "x"), ("--sub", "x"), ("--jti", "x", "--undo"), ("--token", "x")])
def test_nothing_is_revoked_if_revocation_is_disabled(
    redis: RedisServer, upstream: ScriptedUpstream, words: tuple[str, ...]
) -> None:
    site, before = Site(redis, upstream.url, NO_ISSUER, revocation={"enabled": False}), redis.ask("DBSIZE")
    assert "revocation.enabled = false: gateways do not look up revocations" in site.run("revoke", *words, code=1)
    assert redis.ask("DBSIZE") == before
    assert "gateways do not look up revocations" in site.run("revoked")


def test_no_quota_is_shown_if_rate_limits_are_disabled(redis: RedisServer, upstream: ScriptedUpstream) -> None:
    site = Site(redis, upstream.url, NO_ISSUER, ratelimit={"enabled": False})
    assert "ratelimit.enabled = false: gateways count nothing" in site.run("quota", "x", code=1)


COMMANDS = re.compile(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n")


@pytest.mark.parametrize(
    ("words", "answers", "said"),
    [
        (("revoke", "--jti", "x"), {b"GET": b"$-1\r\n"}, "Redis accepted the revocation, but does not have it"),
        (("revoke", "--sub", "x"), {b"GET": b"$-1\r\n"}, "Redis accepted the revocation, but does not have it"),
        (
            ("revoke", "--sub", "x", "--undo"),
            {b"GET": b"$3\r\n1 x\r\n", b"DEL": b":1\r\n"},
            "Redis still has the revocation",
        ),
        (
            ("quota", "x", "--reset"),
            {b"EVALSHA": b"*4\r\n:1\r\n:295\r\n:1000\r\n:0\r\n", b"DEL": b":1\r\n"},
            "Redis still has counters that should have been reset",
        ),
    ],
)
def test_redis_that_lost_a_write_is_reported(
    upstream: ScriptedUpstream, words: tuple[str, ...], answers: dict[bytes, bytes], said: str
) -> None:
    def answer(data: bytes) -> bytes:
        return b"".join(answers.get(command.upper(), b"+OK\r\n") for command in COMMANDS.findall(data))

    with FalseRedis(0, answer) as false:
        tree = {**four_services(upstream.url), "jwt": NO_ISSUER, "redis_url": f"redis://127.0.0.1:{false.port}/0"}
        result = create_app(loaded(tree)).test_cli_runner().invoke(args=words)
    assert (result.exit_code, said in result.output) == (1, True), result.output
    assert "revocation removed" not in result.output
    assert "until" not in result.output


def test_redis_that_refuses_writes_is_reported(upstream: ScriptedUpstream) -> None:
    with RedisServer() as full:
        full.ask("CONFIG", "SET", "maxmemory", "1")
        site = Site(full, upstream.url, NO_ISSUER)
        for words in (("--jti", "x"), ("--sub", "x")):
            assert "redis_url: fails" in site.run("revoke", *words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jti", "x", "--expires-at", "1000000000"), "'--expires-at': is in the past: the token has expired anyway"),
        (("--sub", "x", "--expires-at", "4000000000"), "--expires-at needs --jti"),
        (("--token", "x", "--expires-at", "4000000000"), "--expires-at needs --jti"),
        (("--token", "x", "--issuer", "x"), "--issuer needs --jti or --sub"),
        (("--jti", "x", "--sub", "x"), "give one of --token, --jti and --sub"),
        (("--jti", ""), "give one of --token, --jti and --sub"),
        ((), "give one of --token, --jti and --sub"),
    ],
)
def test_invalid_arguments_of_revoke_are_refused(sites: dict[str, Site], words: tuple[str, ...], said: str) -> None:
    assert said in sites["none"].run("revoke", *words, code=2)


@pytest.mark.parametrize("address", ["localhost", "10.0.0.0/8", "10.0.0.256", "[::1]", "x"])
def test_invalid_addresses_are_refused(sites: dict[str, Site], address: str) -> None:
    said = sites["none"].run("quota", "--address", address, code=2)
    assert f"'--address': must be an IP address, got {address!r}" in said


def test_invalid_arguments_of_quota_are_refused(sites: dict[str, Site]) -> None:
    said = sites["none"].run("quota", "--address", "127.0.0.1", "--claim", "plan=pro", code=2)
    assert "--issuer and --claim need a SUBJECT" in said


# --- duration


def test_revocation_lasts_as_long_as_the_token_with_the_leeway(redis: RedisServer, upstream: ScriptedUpstream) -> None:
    site = Site(redis, upstream.url, {**NO_ISSUER, "leeway_seconds": 299.5})
    subject, now = next(SUBJECTS), int(time.time())
    # This token has expired, but is still accepted within the leeway.
    token = signed(subject, jti=subject, exp=now - 100)
    assert site.status(token) == 200
    site.run("revoke", "--jti", subject, "--expires-at", str(now - 100))
    assert site.status(token) == 401
    (key,) = [key for key in keys_of(redis) if redis.ask("GET", key).endswith(subject.encode())]
    assert 190 <= redis.ask("TTL", key) <= 201
    said = site.run("revoke", "--jti", subject, "--expires-at", str(now - 301), code=2)
    assert "is in the past" in said


def keys_of(redis: RedisServer) -> list[str]:
    with redis.client() as client:
        return [key.decode() for key in client.scan_iter(f"{PREFIX}*")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"jwt": {"lifetime_seconds": 86400}}, "revocation.keep_seconds: must be at least 86405"),
        ({"jwt": {"max_lifetime_seconds": 3700}}, "revocation.keep_seconds: must be at least 3705"),
        ({"jwt": {"issuers": [{"issuer": "a", "secret": SECRET, "lifetime_seconds": 3601}]}}, "at least 3606"),
        ({"jwt": {"lifetime_seconds": 600, "max_lifetime_seconds": 60}}, "jwt.lifetime_seconds: is over"),
        ({"jwt": {"lifetime_seconds": 0}}, "jwt.lifetime_seconds"),
        (
            {"jwt": {"issuers": [{"issuer": "a", "secret": SECRET}], "lifetime_seconds": 60}},
            "jwt.lifetime_seconds: must be set for each of issuers",
        ),
    ],
)
def test_revocations_must_outlive_tokens(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        loaded({"revocation": {"keep_seconds": 3600}, **settings})
    loaded({**settings, "revocation": {"enabled": False}, "jwt": {"secret": SECRET}})


# --- tokens without iat or jti


def test_refusal_of_a_token_without_iat_is_explained(redis: RedisServer, upstream: ScriptedUpstream) -> None:
    site, subject = Site(redis, upstream.url, NO_ISSUER), next(SUBJECTS)
    said = site.run("revoke", "--sub", subject)
    assert "Until then, or until --undo, tokens without iat are refused, including new ones" in said
    # A new token without iat is refused.
    reply = site.get(signed(subject))
    detail = "the subject's tokens have been revoked, and this one does not say when it was issued (no iat)"
    assert (reply.status_code, reply.json["detail"]) == (401, detail)
    assert detail in reply.headers["WWW-Authenticate"]
    explained = site.run("explain", "GET", "/api/devices", "--token", "-", code=1, given=signed(subject))
    assert detail in explained
    assert "issued at: unknown (no iat): `flask revoke --sub` refuses this token and all later ones" in explained
    assert site.get(signed(subject, iat=int(time.time()) - 5)).json["detail"] == (
        "the tokens that the subject had been issued have been revoked"
    )


def test_time_of_issue_is_derived_from_the_configured_lifetime(redis: RedisServer, upstream: ScriptedUpstream) -> None:
    one = {"secret": SECRET, "issuer": ONE, "lifetime_seconds": 3600}
    other = {"secret": SECRET[::-1], "issuer": OTHER}
    site, subject = Site(redis, upstream.url, {"issuers": [one, other]}), next(SUBJECTS)
    now = int(time.time())
    old, new = signed(subject, iss=ONE, exp=now + 3590), signed(subject, iss=ONE, exp=now + 3603)
    assert [site.status(old), site.status(new)] == [200, 200]
    assert "without iat" not in site.run("revoke", "--sub", subject, "--issuer", ONE)
    assert [site.status(old), site.status(new)] == [401, 200]
    assert "from exp and jwt.lifetime_seconds" in site.run("explain", "GET", "/api/devices", "--token", new)
    # If the token has an iat, that is used.
    assert site.status(signed(subject, iss=ONE, exp=now + 3603, iat=now - 10)) == 401
    # If a token lives longer than configured, its time of issue would be derived wrongly, so it is refused.
    reply = site.get(signed(subject, iss=ONE, exp=now + 3700))
    assert (reply.status_code, reply.json["detail"]) == (
        401,
        "the token is valid for longer than tokens of its issuer may be",
    )
    assert site.status(signed(subject, iss=OTHER, key=SECRET[::-1], exp=now + 9999)) == 200


def test_token_without_an_id_can_be_revoked(sites: dict[str, Site], redis: RedisServer) -> None:
    subject, now = next(SUBJECTS), int(time.time())
    for site, claims in (("none", {}), ("one", {"iss": ONE}), ("two", {"iss": ONE})):
        token, other = signed(subject, number=1, site=site, **claims), signed(subject, number=2, site=site, **claims)
        assert sites[site].status(token) == 200
        said = sites[site].run("revoke", "--token", "-", given=f"{token}\n")
        assert said.startswith("token ")
        assert [sites[site].status(one) for one in (token, other)] == [401, 200]
        assert sites[site].get(token).json["detail"] == "the token has been revoked"
        # Only kind and name are compared, not the time: it is computed from the remaining seconds, and may differ by a
        # second.
        (line,) = [line for line in sites[site].run("revoked").splitlines() if line.split()[:2] == said.split()[:2]]
        assert token not in line
        assert sites[site].run("revoke", "--token", "-", "--undo", given=token) == "revocation removed\n"
        assert sites[site].status(token) == 200
    # The revocation expires with the token.
    sites["none"].run("revoke", "--token", signed(subject, exp=now + 100))
    assert min(redis.ask("TTL", key) for key in keys_of(redis) if ":token:" in key) <= 106


def test_token_with_an_id_is_revoked_by_its_id(sites: dict[str, Site]) -> None:
    subject = next(SUBJECTS)
    token = signed(subject, jti=subject)
    assert f"jti {subject}" in sites["none"].run("revoke", "--token", "-", given=token)
    assert sites["none"].status(token) == 401
    # Another token with the same id is revoked, too.
    assert sites["none"].status(signed(subject, jti=subject, more=1)) == 401
    # A token with an empty id is revoked like a token without an id: other tokens with an empty id stay valid.
    empty, other = signed(subject, jti=""), signed(subject, jti="", more=1)
    assert sites["none"].run("revoke", "--token", empty).startswith("token ")
    assert [sites["none"].status(one) for one in (empty, other)] == [401, 200]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "can't be read"),
        ("x", "can't be read"),
        (signed(key=SECRET[::-1]), "signature does not match"),
        (signed(exp=1), "has expired"),
    ],
)
def test_only_valid_tokens_can_be_revoked(sites: dict[str, Site], token: str, why: str) -> None:
    said = sites["none"].run("revoke", "--token", "-", code=1, given=token)
    assert "the gateway refuses this token anyway: the token" in said
    assert why in said
    assert not token or token not in said


def test_other_signature_of_a_revoked_token_is_refused(redis: RedisServer, upstream: ScriptedUpstream) -> None:
    """If (r, s) is a valid ECDSA signature, so is (r, n - s), which anybody can compute. The revocation must apply to
    both spellings of the token."""
    with closing(Issuer()) as issuer:
        issuer.add_key("one", "ES256")
        site = Site(redis, upstream.url, {"jwks_url": issuer.jwks_url})
        token = issuer.token("one", next(SUBJECTS))
        signed_part, _, signature = token.rpartition(".")
        key = issuer.keys["one"][1]
        r, s = decode_dss_signature(raw_to_der_signature(base64url_decode(signature), key.curve))
        forged = der_to_raw_signature(encode_dss_signature(r, ORDER - s), key.curve)
        twin = f"{signed_part}.{base64url_encode(forged).decode()}"
        assert [site.status(one) for one in (token, twin)] == [200, 200]
        assert site.run("revoke", "--token", "-", given=token).startswith("token ")
        assert [site.status(one) for one in (token, twin)] == [401, 401]


def test_nothing_is_revoked_if_keys_can_not_be_fetched(redis: RedisServer, upstream: ScriptedUpstream) -> None:
    with closing(Issuer()) as issuer:
        issuer.add_key("one")
        issuer.status = 500
        site = Site(redis, upstream.url, {"jwks_url": issuer.jwks_url})
        said = site.run("revoke", "--token", "-", code=2, given=issuer.token("one"))
    assert "the token can't be verified: the issuer's keys can't be loaded" in said


def test_tokens_of_the_demo_can_be_revoked() -> None:
    client: Any = auth_app(SECRET).test_client()
    email, password = ADA
    tokens = [
        client.post("/api/auth/login", json={"email": email, "password": password}).json["access_token"]
        for _ in range(2)
    ]
    first, second = (jwt.decode(token, SECRET, ["HS256"]) for token in tokens)
    assert first["exp"] - first["iat"] == 3600
    assert first["jti"] != second["jti"]


@pytest.mark.parametrize("claims", [{"jti": "x"}, {}], ids=["with an id", "without"])
def test_both_revocations_of_a_token_are_looked_up_in_one_call(
    sites: dict[str, Site], redis: RedisServer, claims: dict[str, str]
) -> None:
    token = signed(next(SUBJECTS), **claims)
    assert sites["none"].status(token) == 200
    with redis.client() as client:
        before = calls_of(client, ["evalsha", "get"])
        assert sites["none"].status(token) == 200
        after = calls_of(client, ["evalsha", "get"])
    # The script reads three keys: the counter, the revocation of the subject, and the revocation of the token.
    assert {name: after[name] - before[name] for name in after} == {"evalsha": 1, "get": 3}
