"""Neither errors nor printed settings contain a secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import Settings
from gateway.errors import ConfigurationError
from tests.support.configuration import (
    settings_or_error,
)
from tests.support.environments import ENVIRONMENTS, TEXTS

HIDDEN = "hunter2-hunter2-hunter2-hunter2-hunter2"


PEM = f"-----BEGIN PRIVATE KEY-----\n{HIDDEN}"


def everything_said(error: BaseException) -> str:
    """All texts that could be printed about an error and its causes."""
    said = "".join(traceback.format_exception(error))
    chain: BaseException | None = error
    while chain is not None:
        said += repr(chain) + str(chain) + repr(chain.args)
        chain = chain.__cause__ or chain.__context__
    return said


def error_of(environ: dict[str, str]) -> ConfigurationError:
    error = settings_or_error(environ)
    assert isinstance(error, ConfigurationError)
    return error


@pytest.mark.parametrize(
    "environ",
    [
        {"GATEWAY_JWT__SECRET": "hunter2"},
        {"GATEWAY_JWT__SECRET": HIDDEN, "GATEWAY_JWT__SECRET__X": HIDDEN},
        {"GATEWAY_JWT__SECRET__X": HIDDEN},
        {"GATEWAY_JWT__SECRET": HIDDEN + "\udcff"},
        {"GATEWAY_JWT__SECRET": HIDDEN, "GATEWAY_JWT__PUBLIC_KEY_FILE": "/key.pem"},
        {"GATEWAY_JWT__SECRET": HIDDEN, "GATEWAY_JWT__ALGORITHMS": '["RS256"]'},
        {"GATEWAY_JWT": f'{{"secret": "{HIDDEN}"'},
        {"GATEWAY_JWT": f'["{HIDDEN}"]'},
        {"GATEWAY_JWT": f'{{"secret": ["{HIDDEN}"]}}'},
        {"GATEWAY_JWT": f'{{"secret": {{"{HIDDEN}": 1}}, "leeway_seconds": "x"}}'},
        {"GATEWAY_JWT": HIDDEN},
        {"GATEWAY_SECRET": HIDDEN},
        {"GATEWAY_JWT__SECRETS": HIDDEN},
        {"GATEWAY_JWT__PUBLIC_KEY_FILE": PEM},
        {"GATEWAY_SERVICES__DEVICES__CLIENT_KEY_FILE": PEM.replace("\n", "")},
        {"GATEWAY_REDIS_URL": f"redis://:{HIDDEN}@h", "GATEWAY_FOO": "1"},
        {"GATEWAY_REDIS_URL": f"redis://:{HIDDEN}@h\u2100"},
        {"GATEWAY_REDIS_URL__X": f"redis://:{HIDDEN}@h"},
        {"REDIS_URL": f"{HIDDEN}:6379"},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://user:{HIDDEN}@h"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://user:{HIDDEN}@h:port"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["user:{HIDDEN}@h"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://user:{HIDDEN}@h\u2100"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://h?key={HIDDEN}"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["h?key={HIDDEN}"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://h:x?key={HIDDEN}"]'},
        {"GATEWAY_SERVICES__DEVICES__TARGETS": f'["http://h#{HIDDEN}"]'},
        {"GATEWAY_SERVICES__DEVICES__HOST": f"user:{HIDDEN}@h"},
        {"GATEWAY_SERVICES__DEVICES__OPENAPI_PATH": f"openapi.json?key={HIDDEN}"},
        {"GATEWAY_SERVICES__DEVICES__HEALTH__PATH": f"/a b?key={HIDDEN}"},
        {"GATEWAY_CORS__ORIGINS": f'["https://user:{HIDDEN}@h"]'},
        {"GATEWAY_JWT__JWKS_URL": f"https://user:{HIDDEN}@h/keys"},
        {"GATEWAY_JWT__JWKS_URL": f"ftp://h/keys?key={HIDDEN}"},
        {"GATEWAY_TRACING__OTLP_ENDPOINT": f"http://h/?key={HIDDEN}"},
    ],
)
def test_no_error_contains_a_secret(environ: dict[str, str]) -> None:
    error = error_of(environ)
    assert "hunter2" not in everything_said(error) + error.listing()


@pytest.mark.parametrize(
    "url",
    [
        "http://:hunter2@h",
        "REDIS://:hunter2@h",
        "redis+sentinel//:hunter2@h",
        "hunter2@h:6379",
        "hunter2:hunter2@h:6379",
        "hunter2",
        "redis:hunter2@h",
        "redis://:hunter2@/0",
        "redis://:hunter2@h:hunter2/0",
        "redis://:hunter2@h:0/0",
        "redis://:hunter2@[::1/0",
        "redis://:hunter2@[h]/0",
        "redis://:hunter2@h\u2100/0",
        "redis://:hunter2@h/zero",
        "redis://:hunter2@h/0/1",
        "redis://:hunter2 @h/0",
        "redis://h/0?hunter2=1",
        "redis://h/0?socket_timeout=hunter2",
        "rediss://h/0?ssl_cert_reqs=hunter2",
        "redis://h?db=hunter2",
        "unix://:hunter2@",
    ],
)
def test_errors_about_redis_urls_do_not_contain_the_password(url: str) -> None:
    error = error_of({"REDIS_URL": url})
    assert [line.partition(":")[0] for line in error.errors] == ["redis_url"]
    assert "hunter2" not in everything_said(error)


@pytest.mark.parametrize(
    "content",
    [
        f"[jwt]\nsecret = {HIDDEN}\n",
        f'[jwt]\nsecret = "{HIDDEN}\n',
        f'[jwt]\nsecret = "{HIDDEN}"\nsecret = "{HIDDEN}2"\n',
        f'[[jwt]]\nsecret = "{HIDDEN}"',
        f'jwt = "{HIDDEN}"',
        f'secret = "{HIDDEN}"',
        f'redis_url = ["redis://:{HIDDEN}@h"]',
    ],
)
def test_errors_about_a_file_do_not_contain_a_secret(content: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(content)
    assert "hunter2" not in everything_said(error_of({"GATEWAY_CONFIG": str(tmp_path / "gateway.toml")}))


def test_no_secret_is_in_what_settings_print() -> None:
    found = settings_or_error({"GATEWAY_JWT__SECRET": HIDDEN, "REDIS_URL": f"redis://:{HIDDEN}@h"})
    assert isinstance(found, Settings)
    printed = [repr(found), str(found), repr(found.jwt), str(found.jwt), repr(found.jwt.secret), str(found.redis_url)]
    printed += [str(found.model_dump()), found.model_dump_json(), str(found.model_dump(mode="json"))]
    assert "hunter2" not in "".join(printed)


@given(
    ENVIRONMENTS,
    st.sampled_from(["GATEWAY_JWT__SECRET", "GATEWAY_JWT__SECRET__X", "REDIS_URL", "GATEWAY_REDIS_URL"]),
    TEXTS,
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_any_environment_secrets_stay_secret(environ: dict[str, str], name: str, around: str) -> None:
    secret = f"redis://:{HIDDEN}{around}@h" if "REDIS" in name else HIDDEN + around
    found = settings_or_error(environ | {name: secret})
    said = everything_said(found) if isinstance(found, ConfigurationError) else repr(found)
    assert "hunter2" not in said
