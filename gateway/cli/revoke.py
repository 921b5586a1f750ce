"""`flask revoke` and `flask revoked`: refuse tokens before they expire, and list what is refused."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from gateway.cli.issuers import issuer_named, verify_token
from gateway.cli.output import printable
from gateway.cli.redis import shared_redis
from gateway.config import KeySettings, Settings
from gateway.errors import InvalidToken, RevocationNotStored
from gateway.timestamps import LAST_MOMENT, iso
from gateway.tokens.revocation import Kind, Revocation, Revocations, revocable_name

WITHOUT_IAT = (
    "Until then, or until --undo, tokens without iat are refused, including new ones: "
    "set jwt.lifetime_seconds if the issuer leaves iat out."
)


@contextmanager
def revocations(settings: Settings) -> Iterator[Revocations]:
    """The revocations in Redis. Raises ClickException if there is no Redis, or if it fails."""
    with shared_redis(settings) as redis:
        try:
            yield Revocations(redis, settings.revocation.keep_seconds)
        except RevocationNotStored as error:
            raise click.ClickException(f"not confirmed: {error}; run the command again") from error


def revoke_command(settings: Settings) -> click.Command:
    @click.command("revoke")
    @click.option("--token", help="One token, with or without an id; - reads it from standard input.")
    @click.option("--jti", help="The id of one token.")
    @click.option("--sub", help="A subject: all tokens that have been issued to it until now.")
    @click.option("--issuer", help="The issuer of the token or subject, if several are configured.")
    @click.option(
        "--expires-at",
        type=click.IntRange(0, LAST_MOMENT),
        metavar="SECONDS",
        help="With --jti: the token's exp, in seconds since 1970. The revocation is deleted after that time.",
    )
    @click.option("--undo", is_flag=True, help="Remove the revocation.")
    def revoke(
        token: str | None, jti: str | None, sub: str | None, issuer: str | None, expires_at: int | None, undo: bool
    ) -> None:
        """Refuse a token, or all tokens of a subject ("log out everywhere"), within a second on all gateways."""
        if sum(map(bool, (token, jti, sub))) != 1:
            raise click.UsageError("give one of --token, --jti and --sub")
        if expires_at is not None and not jti:
            raise click.UsageError(
                "--expires-at needs --jti: "
                + ("a token has its own exp" if token else "revocations of a subject last revocation.keep_seconds")
            )
        if not settings.revocation.enabled:
            raise click.ClickException("revocation.enabled = false: gateways do not look up revocations")
        kind: Kind = "jti" if jti else "sub"
        name, expires = jti or sub or "", None if expires_at is None else float(expires_at)
        if token:
            kind, name, issuer_settings, expires = identify_token(settings, token, issuer)
        else:
            issuer_settings = issuer_named(settings, issuer)
        issuer_name = issuer_settings.issuer or ""
        until = None if expires is None else refused_until(settings, expires)
        with revocations(settings) as store:
            if undo:
                if not store.remove(kind, name, issuer_name):
                    raise click.ClickException("there is no such revocation")
                click.echo("revocation removed")
            elif kind == "sub":
                click.echo(format_revocation(store.revoke_subject(name, issuer_name)))
                if issuer_settings.lifetime_seconds is None:
                    click.echo(WITHOUT_IAT)
            else:
                click.echo(format_revocation(store.revoke_token(name, issuer_name, until, kind)))

    return revoke


def identify_token(settings: Settings, token: str, issuer: str | None) -> tuple[Kind, str, KeySettings, float]:
    """The kind and name by which a revocation identifies this token, the settings of its issuer, and its exp. Raises
    ClickException if the gateway would refuse the token anyway."""
    if issuer is not None:
        raise click.UsageError("--issuer needs --jti or --sub: a token names its own issuer")
    try:
        principal = verify_token(settings, sys.stdin.read().strip() if token == "-" else token)  # noqa: S105 - standard input
    except InvalidToken as error:
        raise click.ClickException(f"the gateway refuses this token anyway: {error.detail}") from error
    kind, name = revocable_name(principal)
    return kind, name or "", issuer_named(settings, principal.issuer or None), principal.expires_at


def refused_until(settings: Settings, expires_at: float) -> int:
    """The time in seconds since 1970 at which the gateway refuses the token anyway, because it expired more than the
    leeway ago: the revocation can end then. Raises BadParameter if that time is past."""
    until = math.ceil(expires_at + settings.jwt.leeway_seconds)
    if until <= time.time():
        raise click.BadParameter("is in the past: the token has expired anyway", param_hint="'--expires-at'")
    return until


def revoked_command(settings: Settings) -> click.Command:
    @click.command("revoked")
    def revoked() -> None:
        """List what is revoked."""
        known = [one.issuer or "" for one in settings.jwt.all_issuers]
        with revocations(settings) as store:
            for one in sorted(store.list_all(), key=lambda found: (found.kind, found.issuer, found.name)):
                note = "" if one.issuer in known else " (no effect: this issuer is not configured)"
                click.echo(format_revocation(one) + note)
        if not settings.revocation.enabled:
            click.echo("revocation.enabled = false: gateways do not look up revocations", err=True)

    return revoked


def format_revocation(one: Revocation) -> str:
    issuer = f" of {one.issuer}" if one.issuer else ""
    before = f", issued before {iso(one.not_before)}" if one.not_before is not None else ""
    return printable(f"{one.kind} {one.name}{issuer}{before}, until {iso(one.until)}")
