"""Keys, issuers, and the mapping of claims to headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config import KeySettings, load_settings
from tests.support.configuration import (
    errors_of,
    loaded,
)
from tests.support.tokens import SECRET

DEFAULT = {"sub": "X-User-Subject", "user_id": "X-User-Id"}


@pytest.mark.parametrize(
    ("given", "mapping"),
    [
        ({}, DEFAULT),
        ({"email": "X-Email"}, {**DEFAULT, "email": "X-Email"}),
        ({"sub": "X-Caller"}, {"sub": "X-Caller", "user_id": "X-User-Id"}),
        ({"user_id": ""}, {"sub": "X-User-Subject"}),
        ({"user_id": "", "sub": ""}, {}),
        # If another claim is mapped to a default header, the default claim does not set this header any more.
        ({"email": "x-user-subject"}, {"user_id": "X-User-Id", "email": "x-user-subject"}),
        ({"sub": "X-User-Id"}, {"sub": "X-User-Id"}),
    ],
)
def test_mapped_claims_are_added_to_the_default_mapping(given: dict[str, str], mapping: dict[str, str]) -> None:
    found = load_settings({"GATEWAY_JWT": json.dumps({"claims_to_headers": given})}).jwt
    assert found.claims_to_headers == mapping
    # The default headers of clients are dropped even if no claim is mapped to them, as a service may still trust them.
    assert found.identity_fields == {name.lower() for name in (*mapping.values(), *DEFAULT.values())}


def test_settings_of_one_issuer_are_refused_beside_several(tmp_path: Path) -> None:
    """Beside [[jwt.issuers]] these settings would have no effect, although the operator may rely on `algorithms` or
    `audience`."""
    one = {"issuer": "a", "secret": "s" * 40}
    file = tmp_path / "secret"
    file.write_text("s" * 40)
    beside: dict[str, Any] = {
        "secret": "s" * 40, "public_key_file": "/key.pem", "jwks_url": "https://id.test/k", "jwks_ca_file": "/a.pem",
        "algorithms": ["HS512"], "issuer": "b", "audience": "x", "token_type": "at+jwt", "lifetime_seconds": 60,
    }  # fmt: skip
    assert {*beside, "secret_file"} == set(KeySettings.model_fields)
    assert sorted(errors_of({"jwt": {**beside, "issuers": [one]}})) == sorted(
        f"jwt.{name}: must be set for each of issuers instead" for name in beside
    )
    for name, value in beside.items():
        (line,) = errors_of({"jwt": {name: value, "issuers": [one]}})
        assert line.startswith(f"jwt.{name}: must be set for each of issuers")
    (line,) = errors_of({"jwt": {"secret_file": str(file), "issuers": [one]}})
    assert line.startswith("jwt.secret_file: must be set for each of issuers")
    (line,) = errors_of({"jwt": {"algorithms": [], "issuers": [one]}})
    assert line.startswith("jwt.algorithms: ")


def test_one_audience_or_several() -> None:
    assert loaded({"jwt": {"audience": "one"}}).jwt.audience == "one"
    assert loaded({"jwt": {"audience": ["one", "two"]}}).jwt.audience == ("one", "two")


SYMMETRIC = "jwt.algorithms: HS* verifies with a secret, not with public_key_file"


ASYMMETRIC = "jwt.algorithms: only HS* can be verified with a secret; the others need public_key_file"


@pytest.mark.parametrize(
    ("jwt", "error"),
    [
        ({"algorithms": ["RS256"]}, ASYMMETRIC),
        ({"secret": SECRET, "algorithms": ["HS256", "ES256"]}, ASYMMETRIC),
        ({"public_key_file": "/key.pem", "algorithms": ["RS256", "HS256"]}, SYMMETRIC),
        ({"algorithms": []}, "jwt.algorithms: must not be empty"),
    ],
)
def test_algorithms_fit_the_source_of_keys(jwt: dict[str, Any], error: str) -> None:
    assert errors_of({"jwt": jwt}) == [error]


def test_one_source_of_keys_and_one_claim_for_a_header() -> None:
    claims = {"sub": "X-User", "user_id": "x-user"}
    jwt = {"secret": SECRET, "public_key_file": "/key.pem", "algorithms": ["HS256"], "claims_to_headers": claims}
    assert errors_of({"jwt": jwt}) == [
        "jwt: give secret or public_key_file, not both",
        SYMMETRIC,
        "jwt.claims_to_headers: 'x-user' can't be set from both 'sub' and 'user_id'",
    ]
