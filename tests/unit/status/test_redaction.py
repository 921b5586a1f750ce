"""The redacted configuration contains everything but secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.status.redaction import names_not_default, redacted, redacted_configuration
from gateway.url_redaction import MASK, redact_url
from tests.support.configuration import loaded

HIDDEN = "hunter2-hunter2-hunter2-hunter2-hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        (f"redis://:{HIDDEN}@h:1/0", f"redis://{MASK}@h:1/0"),
        (f"redis://user:{HIDDEN}@h", f"redis://{MASK}@h"),
        (f"unix://user:{HIDDEN}@/run/redis.sock?db=1", f"unix://{MASK}@/run/redis.sock?{MASK}"),
        (f"unix:///run/redis.sock?password={HIDDEN}", f"unix:///run/redis.sock?{MASK}"),
        (f"redis://h/0?password=x@{HIDDEN}", f"redis://h/0?{MASK}"),
        (f"rediss://u:{HIDDEN}@[::1]:1/0?ssl_password={HIDDEN}", f"rediss://{MASK}@[::1]:1/0?{MASK}"),
        (f"redis+cluster://:{HIDDEN}@a:1,b:2", f"redis+cluster://{MASK}@a:1,b:2"),
        (f"redis+sentinel://:#{HIDDEN}@a:1,b:2/m/0?sentinel_password={HIDDEN}", f"redis+sentinel://{MASK}@a:1,b:2/m/0?{MASK}"),
        (f"redis+sentinel://:{HIDDEN}@{HIDDEN}@a:1/m", f"redis+sentinel://{MASK}@a:1/m"),
    ],
)  # fmt: skip
def test_a_redacted_url_shows_only_host_and_path(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    configuration = redacted_configuration(loaded({"jwt": {"secret": HIDDEN}}, REDIS_URL=url))
    assert configuration["redis_url"] == shown
    assert "hunter2" not in json.dumps(configuration)


@given(st.text(), st.text(), st.sampled_from(["redis", "rediss+sentinel", "unix"]))
def test_a_redacted_url_shows_nothing_before_the_last_at_sign(before: str, after: str, scheme: str) -> None:
    secret = f"hunter2{before.replace('?', '')}"
    assert "hunter2" not in redact_url(f"{scheme}://{secret}@h/0?{after}hunter2")


def test_the_redacted_configuration_shows_all_other_values(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("x")
    tree: dict[str, Any] = {
        "jwt": {
            "issuers": [
                {"issuer": "https://id", "secret": HIDDEN},
                {"issuer": "https://other", "jwks_url": f"https://other/keys?apikey={HIDDEN}"},
            ],
            "claims_to_headers": {"sub": "X-User"},
        },
        "cors": {"origins": ["https://app.example.com"], "credentials": True, "allow_headers": ["X-A"]},
        "services": {"devices": {"openapi_path": f"/openapi.json?token={HIDDEN}", "prefix": "/api/devices"}},
    }
    shown = redacted_configuration(loaded(tree))
    assert "hunter2" not in json.dumps(shown)
    first, second = shown["jwt"]["issuers"]
    assert (first["issuer"], first["secret"], second["secret"]) == ("https://id", MASK, None)
    assert second["jwks_url"] == f"https://other/keys?{MASK}"
    assert shown["jwt"]["claims_to_headers"] == {"sub": "X-User", "user_id": "X-User-Id"}
    assert shown["cors"]["credentials"] is True
    assert shown["cors"]["allow_headers"] == ["X-A"]
    assert shown["services"]["devices"]["openapi_path"] == f"/openapi.json?{MASK}"
    assert shown["services"]["devices"]["prefix"] == "/api/devices"
    assert shown["redis_url"] is None


def test_strings_of_settings_that_are_named_like_secrets_are_masked() -> None:
    tree = {"headers": {"X": "hunter2"}, "passwords": ["hunter2"], "api_key": "hunter2", "credentials": True}
    shown = {name: redacted(name, value) for name, value in tree.items()}
    assert shown == {"headers": {"X": MASK}, "passwords": [MASK], "api_key": MASK, "credentials": True}


def test_names_not_default_lists_changed_settings() -> None:
    assert names_not_default(loaded({})) == []
    tree: dict[str, Any] = {
        "jwt": {"secret": HIDDEN},
        "ratelimit": {"default": "300/minute", "plans": {"a b": ["1/day"]}},
        "services": {
            "devices": {"prefix": "/api/devices", "retries": 0},
            "own": {"prefix": "/own", "targets": ["http://h:1"], "retries": 1, "routes": [{"path": "/own/x"}]},
        },
    }
    assert set(names_not_default(loaded(tree))) == {
        "jwt.secret",
        'ratelimit.plans."a b"',
        "services.devices.retries",
        "services.own.prefix",
        "services.own.targets",
        "services.own.routes[0].path",
    }
