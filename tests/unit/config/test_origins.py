"""The recorded origin of each value."""

from __future__ import annotations

from gateway.config.key_paths import KeyPath
from gateway.config.load import validated
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
    places: dict[str, KeyPath] = {
        "default": ("jwt", "cache_size"),
        "built-in service": ("services", "devices", "prefix"),
        f"file {file['GATEWAY_CONFIG']}": ("jwt", "leeway_seconds"),
        "variable GATEWAY_JWT__COOKIE": ("jwt", "cookie"),
        "variable GATEWAY_CORS": ("cors", "origins", 0),
        "variable PORT": ("server", "bind"),
        "variable REDIS_URL": ("redis_url",),
    }
    assert {str(found.origins.of(place)): place for place in places.values()} == places
    assert found.origins.of(("services", "devices", "scopes")).kind == "file"
    assert found.summary() == f"the defaults, {file['GATEWAY_CONFIG']} and 4 variables of the environment"
