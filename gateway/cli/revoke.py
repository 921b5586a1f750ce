"""`flask revoke` and `flask revoked`: tokens that are not good any more before they expire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from gateway.cli.redis import shared_redis
from gateway.cli.table import printable
from gateway.config import Settings
from gateway.moments import iso
from gateway.tokens.revocation import Revocation, Revocations

LAST_MOMENT = 253402300799  # the end of the year 9999, seconds since 1970


@contextmanager
def revocations(settings: Settings) -> Iterator[Revocations]:
    """The store of the configured Redis. Raises ClickException where there is none or it fails."""
    with shared_redis(settings) as redis:
        yield Revocations(redis, settings.revocation.keep_seconds)


def revoke_command(settings: Settings) -> click.Command:
    @click.command("revoke")
    @click.option("--jti", help="The id of one token.")
    @click.option("--sub", help="A subject: all tokens that it has been issued up to now.")
    @click.option("--issuer", default="", help="Whose token or subject it is, where there are several issuers.")
    @click.option(
        "--expires-at",
        type=click.IntRange(0, LAST_MOMENT),
        help="With --jti: the token's exp, when this can be forgotten.",
    )
    @click.option("--undo", is_flag=True, help="Take the revocation back.")
    def revoke(jti: str | None, sub: str | None, issuer: str, expires_at: int | None, undo: bool) -> None:
        """Refuse a token, or all tokens of a subject ("log out everywhere"), within a second on all gateways."""
        if bool(jti) == bool(sub):
            raise click.UsageError("give --jti or --sub")
        with revocations(settings) as store:
            if undo:
                kind, name = ("jti", jti) if jti else ("sub", sub)
                if not store.allow_again(kind, name or "", issuer):
                    raise click.ClickException("there is no such revocation")
                click.echo("taken back")
            elif jti:
                click.echo(line_of(store.revoke_token(jti, issuer, expires_at)))
            else:
                click.echo(line_of(store.revoke_subject(sub or "", issuer)))

    return revoke


def revoked_command(settings: Settings) -> click.Command:
    @click.command("revoked")
    def revoked() -> None:
        """List what is revoked."""
        with revocations(settings) as store:
            for one in sorted(store.listed(), key=lambda found: (found.kind, found.issuer, found.name)):
                click.echo(line_of(one))

    return revoked


def line_of(one: Revocation) -> str:
    whose = f" of {one.issuer}" if one.issuer else ""
    before = f", issued before {iso(one.not_before)}" if one.not_before is not None else ""
    return printable(f"{one.kind} {one.name}{whose}{before}, until {iso(one.until)}")
