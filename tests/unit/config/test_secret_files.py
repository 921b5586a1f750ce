"""Secrets that are read from their own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load_settings
from tests.support.configuration import (
    errors_of,
    errors_with_help,
    loaded,
)
from tests.support.gateway import variables
from tests.support.tokens import SECRET


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_from_a_file(end: str, tmp_path: Path) -> None:
    file, url = tmp_path / "secret", tmp_path / "url"
    file.write_bytes((SECRET + end).encode())
    url.write_bytes(("redis://:pass@h" + end).encode())
    found = loaded({"jwt": {"secret_file": str(file)}, "redis_url_file": str(url)})
    assert found.jwt.secret is not None
    assert found.redis_url is not None
    assert (found.jwt.secret.get_secret_value(), found.redis_url.get_secret_value()) == (SECRET, "redis://:pass@h")
    issuers = [{"issuer": "a", "secret_file": str(file)}, {"issuer": "b", "jwks_url": "https://b/keys"}]
    (first, _) = loaded({"jwt": {"issuers": issuers}}).jwt.issuers
    assert first.secret is not None
    assert first.secret.get_secret_value() == SECRET


def test_only_one_newline_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f" {SECRET}\n\n")
    found = loaded({"jwt": {"secret_file": str(file)}}).jwt.secret
    assert found is not None
    assert found.get_secret_value() == f" {SECRET}\n"


def test_unusable_files(tmp_path: Path) -> None:
    missing, short, latin, large = (tmp_path / name for name in ("missing", "short", "latin", "large"))
    short.write_text("hunter2")
    latin.write_bytes(b"\xffhunter2" * 9)
    large.write_text("hunter2" * 10_000)
    said = [errors_with_help(variables({"jwt": {"secret_file": str(file)}})) for file in (missing, short, latin, large)]
    assert said == [
        [f"jwt.secret_file: can't read {str(missing)!r}: No such file or directory"],
        [f"jwt.secret: must have at least 32 bytes (RFC 7518 3.2) (from {short})"],
        [f"jwt.secret_file: {str(latin)!r} is not UTF-8"],
        [f"jwt.secret_file: {str(large)!r} has more than 65536 bytes, which is too much for a secret"],
    ]


def test_a_secret_and_its_file_are_not_both_given(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    issuer = {"issuer": "a", "secret": SECRET, "secret_file": str(file)}
    both = {"secret": SECRET, "secret_file": str(file)}
    assert errors_of({"jwt": both}) == ["jwt.secret_file: can't be combined with secret: set one of them"]
    assert errors_of({"jwt": {"issuers": [issuer]}}) == [
        "jwt.issuers[0].secret_file: can't be combined with secret: set one of them"
    ]
    environ = variables({"redis_url_file": str(file)}) | {"REDIS_URL": "redis://h"}
    assert errors_with_help(environ) == ["redis_url_file: can't be combined with redis_url: set one of them"]
    (line,) = errors_of({"jwt": {"secret_file": str(file), "public_key_file": "/key.pem"}})
    assert line.startswith("jwt: give secret or public_key_file, not both")


@pytest.mark.parametrize("path", ["", "a\nb", "-----BEGIN PRIVATE KEY-----", "a\0b"])
def test_invalid_paths(path: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[jwt]\nsecret_file = "{path.encode("unicode_escape").decode()}"\n'.replace("\\x00", "\\u0000"))
    (line,) = errors_with_help({"GATEWAY_CONFIG": str(file)})
    assert line.startswith("jwt.secret_file: ")
    assert "PRIVATE" not in line


def test_without_a_file() -> None:
    assert load_settings({}).jwt.secret_file is None
