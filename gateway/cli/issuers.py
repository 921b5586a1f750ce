"""Finds the issuer that a command is about, and verifies a token as the gateway does."""

from __future__ import annotations

import random
import time

import click

from gateway.cli.output import CouldNotRun
from gateway.config import KeySettings, Settings
from gateway.errors import KeysUnavailable
from gateway.tokens.issuer_factory import make_issuers
from gateway.tokens.principal import Principal
from gateway.tokens.verifier import Verifier


def issuer_named(settings: Settings, name: str | None) -> KeySettings:
    """The configured issuer of this name; for None, the only issuer.

    Raises UsageError for None if there are several issuers, BadParameter if there is none of this name."""
    issuers = settings.jwt.all_issuers
    names = ", ".join(one.issuer for one in issuers if one.issuer)
    if name is None:
        if len(issuers) > 1:
            raise click.UsageError(f"several issuers are configured, give --issuer: {names}")
        return issuers[0]
    for one in issuers:
        if one.issuer == name:
            return one
    hint = f"configured: {names}" if names else "none is configured (jwt.issuer), so leave --issuer out"
    raise click.BadParameter(f"there is no issuer {name!r}; {hint}", param_hint="'--issuer'")


def verify_token(settings: Settings, token: str) -> Principal:
    """The principal that the token identifies. Fetches published keys. Raises InvalidToken, or CouldNotRun if the keys
    can't be fetched."""
    verifier = Verifier(settings.jwt, make_issuers(settings.jwt, time.monotonic, random.random), time.time)
    try:
        return verifier.principal(token)
    except KeysUnavailable as error:
        raise CouldNotRun(f"the token can't be verified: {error.detail}") from error
