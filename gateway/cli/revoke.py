"""`flask revoke` and `flask revoked`: tokens that are not good any more before they expire."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from gateway.cli.issuers import issuer_named, verified
from gateway.cli.redis import shared_redis
from gateway.cli.table import printable
from gateway.config import KeySettings, Settings
from gateway.errors import InvalidToken, RevocationNotStored
from gateway.timestamps import iso
from gateway.tokens.revocation import Kind, Revocation, Revocations, revocable_name

LAST_MOMENT = 253402300799  # the end of the year 9999, seconds since 1970
UNDATED = (
    "Tokens without iat are refused, too, also new ones, until then or until --undo: "
    "set jwt.lifetime_seconds where the issuer leaves iat out."
)


@contextmanager
def revocations(settings: Settings) -> Iterator[Revocations]:
    """The store of the configured Redis. Raises ClickException where there is none or it fails."""
    with shared_redis(settings) as redis:
        try:
            yield Revocations(redis, settings.revocation.keep_seconds)
        except RevocationNotStored as error:
            raise click.ClickException(f"nothing is sure: {error}; run the command again") from error


def revoke_command(settings: Settings) -> click.Command:
    @click.command("revoke")
    @click.option("--token", help="One token, whether or not it has an id; - reads it from standard input.")
    @click.option("--jti", help="The id of one token.")
    @click.option("--sub", help="A subject: all tokens that it has been issued up to now.")
    @click.option("--issuer", help="Whose token or subject it is, where there are several issuers.")
    @click.option(
        "--expires-at",
        type=click.IntRange(0, LAST_MOMENT),
        help="With --jti: the token's exp, after which this is forgotten.",
    )
    @click.option("--undo", is_flag=True, help="Take the revocation back.")
    def revoke(
        token: str | None, jti: str | None, sub: str | None, issuer: str | None, expires_at: int | None, undo: bool
    ) -> None:
        """Refuse a token, or all tokens of a subject ("log out everywhere"), within a second on all gateways."""
        if sum(map(bool, (token, jti, sub))) != 1:
            raise click.UsageError("give one of --token, --jti and --sub")
        if expires_at is not None and not jti:
            raise click.UsageError("--expires-at goes with --jti: " + ("a token says it itself" if token else SUB_ENDS))
        if not settings.revocation.enabled:
            raise click.ClickException("revocation.enabled = false: no gateway would look it up")
        kind: Kind = "jti" if jti else "sub"
        name, expires = jti or sub or "", None if expires_at is None else float(expires_at)
        if token:
            kind, name, whose, expires = named_by(settings, token, issuer)
        else:
            whose = issuer_named(settings, issuer)
        until = None if expires is None else forgotten_at(settings, expires)
        with revocations(settings) as store:
            if undo:
                if not store.allow_again(kind, name, whose.issuer or ""):
                    raise click.ClickException("there is no such revocation")
                click.echo("taken back")
            elif kind == "sub":
                click.echo(line_of(store.revoke_subject(name, whose.issuer or "")))
                if whose.lifetime_seconds is None:
                    click.echo(UNDATED)
            else:
                click.echo(line_of(store.revoke_token(name, whose.issuer or "", until, kind)))

    return revoke


SUB_ENDS = "a subject's revocation ends after revocation.keep_seconds"


def named_by(settings: Settings, token: str, issuer: str | None) -> tuple[Kind, str, KeySettings, float]:
    """What marks this token, its issuer, and its exp. Raises ClickException where no gateway would take it anyway."""
    if issuer is not None:
        raise click.UsageError("--issuer goes with --jti or --sub: a token says it itself")
    try:
        principal = verified(settings, sys.stdin.read().strip() if token == "-" else token)  # noqa: S105 - standard input
    except InvalidToken as error:
        raise click.ClickException(f"no gateway would take this token: {error.detail}") from error
    kind, name = revocable_name(principal)
    return kind, name or "", issuer_named(settings, principal.issuer or None), principal.expires_at


def forgotten_at(settings: Settings, expires_at: float) -> int:
    """The second from which on the token is refused for its age: the leeway counts. Raises BadParameter where that has
    passed."""
    until = math.ceil(expires_at + settings.jwt.leeway_seconds)
    if until <= time.time():
        raise click.BadParameter("that has passed: the token has expired anyway", param_hint="--expires-at")
    return until


def revoked_command(settings: Settings) -> click.Command:
    @click.command("revoked")
    def revoked() -> None:
        """List what is revoked."""
        known = [one.issuer or "" for one in settings.jwt.all_issuers]
        with revocations(settings) as store:
            for one in sorted(store.listed(), key=lambda found: (found.kind, found.issuer, found.name)):
                note = "" if one.issuer in known else " (without effect: no such issuer is configured)"
                click.echo(line_of(one) + note)
        if not settings.revocation.enabled:
            click.echo("revocation.enabled = false: no gateway looks these up", err=True)

    return revoked


def line_of(one: Revocation) -> str:
    whose = f" of {one.issuer}" if one.issuer else ""
    before = f", issued before {iso(one.not_before)}" if one.not_before is not None else ""
    return printable(f"{one.kind} {one.name}{whose}{before}, until {iso(min(one.until, LAST_MOMENT))}")
