"""Makes the issuers of the configuration, each with its key source."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config import JwtSettings, KeySettings
from gateway.config.token_models import ASYMMETRIC
from gateway.document_fetch import url_fetcher
from gateway.errors import ConfigurationError
from gateway.tokens.issuer import Issuer
from gateway.tokens.jwks import JwksKeySet, read_jwks
from gateway.tokens.key_source import FixedKeys, KeySource
from gateway.tokens.keys import load_keys
from gateway.tokens.remote_jwks import RemoteJwks

MAX_JWKS_BYTES = 512 * 1024


def make_issuers(settings: JwtSettings, clock: Callable[[], float], jitter: Callable[[], float]) -> list[Issuer]:
    """The issuers in `jwt.issuers`, else the only one, in `jwt` itself. `clock` gives monotonic seconds, `jitter`
    numbers from 0 to 1. Raises ConfigurationError with the errors of all issuers."""
    named: list[tuple[str, KeySettings]] = [("jwt", settings)]
    if settings.issuers:
        named = [(f"jwt.issuers[{index}]", one) for index, one in enumerate(settings.issuers)]
    issuers, errors = [], []
    for name, one in named:
        try:
            keys = make_key_source(name, one, settings, clock, jitter)
        except ConfigurationError as error:
            errors += [name + line.removeprefix("jwt") for line in error.errors]
        else:
            issuers.append(Issuer(one, keys, settings.required_claims))
    if errors:
        raise ConfigurationError(errors)
    return issuers


def make_key_source(
    name: str,
    own: KeySettings,
    settings: JwtSettings,
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> KeySource:
    if own.jwks_url is None:
        return FixedKeys(load_keys(own))
    allowed = own.algorithms or ASYMMETRIC
    fetcher = url_fetcher(own.jwks_url, "jwt.jwks_ca_file", MAX_JWKS_BYTES, own.jwks_ca_file)

    def load() -> JwksKeySet:
        return read_jwks(fetcher.fetch().content or b"", allowed)

    return RemoteJwks(
        own.issuer or name, load, settings.jwks_refresh_seconds, settings.jwks_cooldown_seconds, clock, jitter
    )
