"""Whose subjects and tokens a command means, and whether the gateway would take a token."""

from __future__ import annotations

import random
import time

import click

from gateway.cli.failures import CouldNotRun
from gateway.config import KeySettings, Settings
from gateway.errors import KeysUnavailable
from gateway.tokens.issuer_factory import make_issuers
from gateway.tokens.principal import Principal
from gateway.tokens.verifier import Verifier


def issuer_named(settings: Settings, given: str | None) -> KeySettings:
    """The issuer of that name, or the only one. What is stored in Redis is stored under its name.

    Raises UsageError where there are several and none is given, BadParameter where there is no such issuer."""
    known = settings.jwt.all_issuers
    names = ", ".join(one.issuer for one in known if one.issuer)
    if given is None:
        if len(known) > 1:
            raise click.UsageError(f"there are several issuers, give --issuer: {names}")
        return known[0]
    for one in known:
        if one.issuer == given:
            return one
    there_is = f"configured: {names}" if names else "none is configured (jwt.issuer), so leave --issuer out"
    raise click.BadParameter(f"there is no issuer {given!r}; {there_is}", param_hint="--issuer")


def verified(settings: Settings, token: str) -> Principal:
    """Who the token says is calling. Published keys are fetched. Raises InvalidToken, or CouldNotRun where the keys
    can't be had."""
    verifier = Verifier(settings.jwt, make_issuers(settings.jwt, time.monotonic, random.random), time.time)
    try:
        return verifier.principal(token)
    except KeysUnavailable as error:
        raise CouldNotRun(f"the token can't be verified: {error.detail}") from error
