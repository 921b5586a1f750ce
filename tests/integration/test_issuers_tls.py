"""Issuers behind TLS: keys are believed only from one that the right authority vouches for, under its own name."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import JwtSettings
from gateway.errors import ConfigurationError
from gateway.tokens.issuers import make_issuers
from tests.support.certificates import Authority
from tests.support.gateway import GatewayProcess, four_services
from tests.support.issuer import Issuer
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def start_issuer(authority: Authority) -> Iterator[Callable[..., Issuer]]:
    """Starts issuers whose certificates are for these hosts; they end with the module."""
    started: list[Issuer] = []

    def start(*hosts: str) -> Issuer:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*authority.issue(f"issuer-{len(started)}", *hosts))
        started.append(Issuer(context))
        started[-1].add_key("one")
        return started[-1]

    yield start
    for issuer in started:
        issuer.close()


@pytest.fixture
def ask(
    start_gateway: Callable[..., GatewayProcess], upstream: ScriptedUpstream
) -> Callable[..., tuple[int, str | None]]:
    """What a good token of this issuer is answered by a gateway with these settings."""

    def answer(issuer: Issuer, **jwt: Any) -> tuple[int, str | None]:
        settings = four_services(upstream.url) | {"jwt": {"jwks_url": issuer.jwks_url, "issuer": issuer.url, **jwt}}
        gateway = start_gateway(settings, workers=1, environ={"GATEWAY_JWT__SECRET": None})
        reply = gateway.get("/api/devices", ("Authorization", f"Bearer {issuer.token('one')}"))
        return reply.status, reply.value("X-Gateway-Error")

    return answer


UNAVAILABLE = (503, "keys_unavailable")


def test_an_issuer_of_the_private_authority_is_believed(
    ask: Callable[..., tuple[int, str | None]], start_issuer: Callable[..., Issuer], authority: Authority
) -> None:
    issuer = start_issuer("127.0.0.1", "localhost")
    assert ask(issuer, jwks_ca_file=str(authority.ca_file)) == (200, None)
    assert issuer.fetches == 1


def test_one_that_nobody_vouches_for_is_not_even_asked(
    ask: Callable[..., tuple[int, str | None]],
    start_issuer: Callable[..., Issuer],
    stranger: Authority,
    upstream: ScriptedUpstream,
) -> None:
    issuer = start_issuer("127.0.0.1", "localhost")
    assert ask(issuer) == UNAVAILABLE
    assert ask(issuer, jwks_ca_file=str(stranger.ca_file)) == UNAVAILABLE
    assert issuer.fetches == 0
    assert upstream.requests == []


@pytest.mark.parametrize("hosts", [["other.test"], ["127.0.0.2"], ["localhost"], []], ids=",".join)
def test_a_certificate_for_another_name_is_none(
    ask: Callable[..., tuple[int, str | None]],
    start_issuer: Callable[..., Issuer],
    authority: Authority,
    hosts: list[str],
) -> None:
    issuer = start_issuer(*hosts)
    assert ask(issuer, jwks_ca_file=str(authority.ca_file)) == UNAVAILABLE
    assert issuer.fetches == 0


def test_an_issuer_is_not_spoken_to_in_the_clear(
    ask: Callable[..., tuple[int, str | None]], authority: Authority
) -> None:
    issuer = Issuer()
    issuer.add_key("one")
    issuer.jwks_url = issuer.jwks_url.replace("http:", "https:")
    assert ask(issuer, jwks_ca_file=str(authority.ca_file)) == UNAVAILABLE
    assert issuer.fetches == 0
    issuer.close()


def test_a_certificate_file_that_can_not_be_used_is_told_by_its_name(tmp_path: Path) -> None:
    garbage = tmp_path / "ca.pem"
    garbage.write_text("garbage")
    source = {"jwks_url": "https://id.test/keys", "jwks_ca_file": garbage}
    issuers = [{"issuer": "a", "secret": "s" * 40}, {"issuer": "b", **source}, {"issuer": "c", **source}]
    assert mistaken(source) == ["jwt.jwks_ca_file"]
    assert mistaken({"issuers": issuers}) == ["jwt.issuers[1].jwks_ca_file", "jwt.issuers[2].jwks_ca_file"]


def mistaken(jwt: dict[str, Any]) -> list[str]:
    """The names of the settings that are told to be wrong."""
    with pytest.raises(ConfigurationError) as caught:
        make_issuers(JwtSettings.model_validate(jwt), float, float)
    return [line.partition(": can't be used: ")[0] for line in caught.value.mistakes]
