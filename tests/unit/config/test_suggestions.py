"""The names that are suggested for misspelt ones."""

from __future__ import annotations

import pytest

from tests.support.configuration import (
    errors_with_help,
)
from tests.support.tokens import SECRET
from tests.unit.config.conftest import Configured


@pytest.mark.parametrize(
    ("variable", "text", "meant"),
    [
        ("GATEWAY_JWT_SECRET", "x", "GATEWAY_JWT__SECRET"),
        ("GATEWAY_JWT__SECERT", "x", "GATEWAY_JWT__SECRET"),
        ("GATEWAY_REDIS__URL", "x", "GATEWAY_REDIS_URL"),
        ("GATEWAY_REDISURL", "x", "GATEWAY_REDIS_URL"),
        ("GATEWAY_RATE_LIMIT__DEFAULT", "x", "GATEWAY_RATELIMIT__DEFAULT"),
        ("GATEWAY_SERVER_BIND", "x", "GATEWAY_SERVER__BIND"),
        ("GATEWAY_SERVICES__DEVICES__TARGET", '["http://a"]', "GATEWAY_SERVICES__DEVICES__TARGETS"),
        ("GATEWAY_SERVICES__DEVICES_TARGETS", '["http://a"]', "GATEWAY_SERVICES__DEVICES__TARGETS"),
        ("GATEWAY_SERVICES_DEVICES__TARGETS", '["http://a"]', "GATEWAY_SERVICES__DEVICES__TARGETS"),
        ("GATEWAY_SERVICES_DEVICES_BREAKER_FAILURES", "1", "GATEWAY_SERVICES__DEVICES__BREAKER__FAILURES"),
        ("GATEWAY_SERVICES__DEVICES__BREAKER_FAILURES", "1", "GATEWAY_SERVICES__DEVICES__BREAKER__FAILURES"),
        ("GATEWAY_PORT", "9000", "PORT"),
        ("GATEWAY_WEB_CONCURRENCY", "3", "WEB_CONCURRENCY"),
        ("GATEWAY_CONFG", "gateway.toml", "GATEWAY_CONFIG"),
    ],
)
def test_a_misspelt_variable(variable: str, text: str, meant: str) -> None:
    (line,) = errors_with_help({variable: text})
    assert line.endswith(f"; did you mean {meant}? (from {variable})")


@pytest.mark.parametrize(
    ("toml", "name", "meant"),
    [
        ("[jwt]\nsecrets = 'x'", "jwt.secrets", "jwt.secret"),
        ("[jtw]\nsecret = 'x'", "jtw", "jwt"),
        ("jwt_secret = 'x'", "jwt_secret", "jwt.secret"),
        ("[server]\nport = 8000", "server.port", ""),
        ("[rate_limit]\ndefault = '1/second'", "rate_limit", "ratelimit"),
        ("services.rules.health.pth = '/x'", "services.rules.health.pth", "services.rules.health.path"),
        (
            "services.rules.routes = [{ path = '/api/rules/x', method = ['GET'] }]",
            "services.rules.routes[0].method",
            "services.rules.routes[0].methods",
        ),
        (
            f"jwt.issuers = [{{ issuer = 'a', secret = '{SECRET}', audiance = 'x' }}]",
            "jwt.issuers[0].audiance",
            "jwt.issuers[0].audience",
        ),
        ("colour = 1\n", "colour", ""),
    ],
)
def test_a_misspelt_name_in_the_file(toml: str, name: str, meant: str, configured: Configured) -> None:
    proposal = f"; did you mean {meant}?" if meant else ""
    assert errors_with_help(configured(toml)) == [f"{name}: there is no such setting{proposal}"]


def test_no_proposal_for_a_wrong_value_below_the_variable() -> None:
    (line,) = errors_with_help({"GATEWAY_SERVICES": '{"a": 1}'})
    assert line == "services.a: must be a table (from GATEWAY_SERVICES)"


@pytest.mark.parametrize(
    ("name", "proposal"), [("devcies", "; did you mean services.devices?"), ("orders", "")], ids=["similar", "new"]
)
def test_a_misspelt_service(name: str, proposal: str) -> None:
    lines = errors_with_help({f"GATEWAY_SERVICES__{name.upper()}__TARGETS": '["http://a"]'})
    assert lines == [f"services.{name}.prefix: is missing{proposal}"]
