"""Issuers with TLS: keys are accepted only if the certificate is of the right authority and for the right name."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import JwtSettings
from gateway.errors import ConfigurationError
from gateway.tokens.issuer_factory import make_issuers
from tests.support.certificates import Authority
from tests.support.gateway import GatewayProcess, four_services
from tests.support.issuer import Issuer
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def start_issuer(authority: Authority) -> Iterator[Callable[..., Issuer]]:
    """Starts issuers with certificates for these hosts. They are stopped at the end of the module."""
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


UNAVAILABLE = (503, "keys_unavailable")
# Issuers whose certificates are not valid for 127.0.0.1, and the hosts of these certificates.
OTHERS = {"other name": ["other.test"], "other address": ["127.0.0.2"], "only a name": ["localhost"], "nobody": []}


@pytest.fixture(scope="module")
def issuers(start_issuer: Callable[..., Issuer]) -> Iterator[dict[str, Issuer]]:
    """A valid issuer, and invalid ones by the name of their error."""
    clear = Issuer()
    clear.add_key("one")
    clear.jwks_url = clear.jwks_url.replace("http:", "https:")
    right = ("127.0.0.1", "localhost")
    found = {name: start_issuer(*right) for name in ("valid", "no authority", "stranger's authority")}
    yield found | {name: start_issuer(*hosts) for name, hosts in OTHERS.items()} | {"in the clear": clear}
    clear.close()


@pytest.fixture(scope="module")
def ask(
    start_gateway: Callable[..., GatewayProcess],
    module_upstream: ScriptedUpstream,
    issuers: dict[str, Issuer],
    authority: Authority,
    stranger: Authority,
) -> Callable[[str], tuple[int, str | None]]:
    """Sends a valid token of this issuer to a gateway that trusts all issuers. Returns status and error code."""
    files = dict.fromkeys(issuers, str(authority.ca_file)) | {"stranger's authority": str(stranger.ca_file)}
    del files["no authority"]
    issuer_settings = [
        {"issuer": issuer.url, "jwks_url": issuer.jwks_url} | ({"jwks_ca_file": files[name]} if name in files else {})
        for name, issuer in issuers.items()
    ]
    settings = four_services(module_upstream.url) | {"jwt": {"issuers": issuer_settings}}
    gateway = start_gateway(settings, workers=1, environ={"GATEWAY_JWT__SECRET": None})

    def answer(name: str) -> tuple[int, str | None]:
        reply = gateway.get("/api/devices", ("Authorization", f"Bearer {issuers[name].token('one')}"))
        return reply.status, reply.value("X-Gateway-Error")

    return answer


def test_an_issuer_of_the_private_authority_is_accepted(
    ask: Callable[[str], tuple[int, str | None]], issuers: dict[str, Issuer]
) -> None:
    assert ask("valid") == (200, None)
    assert issuers["valid"].fetches == 1


def test_a_single_issuer_with_its_own_authority_is_accepted(
    start_gateway: Callable[..., GatewayProcess],
    start_issuer: Callable[..., Issuer],
    upstream: ScriptedUpstream,
    authority: Authority,
) -> None:
    issuer = start_issuer("127.0.0.1", "localhost")
    jwt = {"jwks_url": issuer.jwks_url, "issuer": issuer.url, "jwks_ca_file": str(authority.ca_file)}
    settings = four_services(upstream.url) | {"jwt": jwt}
    gateway = start_gateway(settings, workers=1, environ={"GATEWAY_JWT__SECRET": None})
    assert gateway.get("/api/devices", ("Authorization", f"Bearer {issuer.token('one')}")).status == 200
    assert issuer.fetches == 1


@pytest.mark.parametrize("name", ["no authority", "stranger's authority"])
def test_an_issuer_of_an_unknown_authority_receives_no_request(
    ask: Callable[[str], tuple[int, str | None]], issuers: dict[str, Issuer], upstream: ScriptedUpstream, name: str
) -> None:
    assert ask(name) == UNAVAILABLE
    assert issuers[name].fetches == 0
    assert upstream.requests == []


@pytest.mark.parametrize("name", OTHERS)
def test_a_certificate_for_another_name_is_refused(
    ask: Callable[[str], tuple[int, str | None]], issuers: dict[str, Issuer], name: str
) -> None:
    assert ask(name) == UNAVAILABLE
    assert issuers[name].fetches == 0


def test_an_issuer_receives_no_request_without_tls(
    ask: Callable[[str], tuple[int, str | None]], issuers: dict[str, Issuer]
) -> None:
    assert ask("in the clear") == UNAVAILABLE
    assert issuers["in the clear"].fetches == 0


def test_an_unusable_certificate_file_is_a_configuration_error(tmp_path: Path) -> None:
    garbage = tmp_path / "ca.pem"
    garbage.write_text("garbage")
    source = {"jwks_url": "https://id.test/keys", "jwks_ca_file": garbage}
    issuers = [{"issuer": "a", "secret": "s" * 40}, {"issuer": "b", **source}, {"issuer": "c", **source}]
    assert settings_in_errors(source) == ["jwt.jwks_ca_file"]
    assert settings_in_errors({"issuers": issuers}) == ["jwt.issuers[1].jwks_ca_file", "jwt.issuers[2].jwks_ca_file"]


def settings_in_errors(jwt: dict[str, Any]) -> list[str]:
    """The names of the settings in these configuration errors."""
    with pytest.raises(ConfigurationError) as caught:
        make_issuers(JwtSettings.model_validate(jwt), float, float)
    return [line.partition(": can't be used: ")[0] for line in caught.value.errors]
