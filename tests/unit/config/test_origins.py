"""Each value has a recorded origin: the file, a variable or the default."""

from __future__ import annotations

from gateway.config.key_paths import KeyPath
from gateway.config.load import validated
from gateway.config.origins import Origin
from gateway.config.sources import merged_sources
from tests.unit.config.conftest import Configured


def test_the_origin_of_each_value(configured: Configured) -> None:
    file = configured('[jwt]\nleeway_seconds = 7\ncookie = "a"\n[services.devices]\nscopes = ["x"]\n')
    environ = {
        "GATEWAY_JWT__COOKIE": "b",
        "GATEWAY_CORS": '{"origins": ["http://a"]}',
        "PORT": "1",
        "REDIS_URL": "redis://h",
    }
    found = validated(merged_sources(file | environ))
    expected: dict[KeyPath, Origin] = {
        ("jwt", "cache_size"): Origin("default"),
        ("services", "devices", "prefix"): Origin("built-in service"),
        ("jwt", "leeway_seconds"): Origin("file", file["GATEWAY_CONFIG"]),
        ("jwt", "cookie"): Origin("variable", "GATEWAY_JWT__COOKIE"),
        ("cors", "origins", 0): Origin("variable", "GATEWAY_CORS"),
        ("server", "bind"): Origin("variable", "PORT"),
        ("redis_url",): Origin("variable", "REDIS_URL"),
    }
    assert {path: found.origins.of(path) for path in expected} == expected
    assert found.origins.of(("services", "devices", "scopes")).kind == "file"
    assert found.summary() == f"the defaults, {file['GATEWAY_CONFIG']} and 4 variables of the environment"
