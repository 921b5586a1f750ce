"""`flask token`: a token for trying things out, which the gateway takes."""

from __future__ import annotations

import secrets
import time
from typing import Any

import click
import jwt

from gateway.cli.claims import claim_of
from gateway.cli.durations import DURATION
from gateway.cli.issuers import issuer_named, verified
from gateway.config import KeySettings, Settings
from gateway.errors import InvalidToken


def token_command(settings: Settings) -> click.Command:
    @click.command("token")
    @click.option("--sub", required=True, help="Who the token is about.")
    @click.option("--issuer", help="Who signs it, where several issuers have a secret.")
    @click.option(
        "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="A further claim; JSON, or plain text."
    )
    @click.option(
        "--expires", type=DURATION, default="1h", show_default=True, help="How long it is good: 90s, 5m, 1h, 7d."
    )
    def token(sub: str, issuer: str | None, claims: tuple[str, ...], expires: int) -> None:
        """Sign a token with jwt.secret, for trying things out. It is verified before it is printed."""
        by = signing_issuer(settings, issuer)
        if not sub:
            raise click.BadParameter("must not be empty", param_hint="--sub")
        payload = standard_claims(by, sub, expires) | dict(claim_of(text) for text in claims)
        if missing := [name for name in settings.jwt.required_claims if name not in payload]:
            raise click.UsageError(f"jwt.required_claims asks for {', '.join(missing)} too: give --claim NAME=VALUE")
        made = signed(by, payload)
        try:
            verified(settings, made)
        except InvalidToken as error:
            raise click.ClickException(f"the gateway would refuse this token: {error.detail}") from error
        click.echo(made)

    return token


def signing_issuer(settings: Settings, given: str | None) -> KeySettings:
    """The issuer whose secret signs. Raises ClickException where its tokens can't be signed here, UsageError where it
    is not clear which one is meant."""
    with_secret = [one for one in settings.jwt.all_issuers if one.secret is not None]
    if given is None and len(with_secret) == 1:
        return with_secret[0]
    if not with_secret:
        source = settings.jwt.all_issuers[0].key_sources[0]
        raise click.ClickException(f"tokens are verified with jwt.{source}: only their issuer can sign them")
    one = issuer_named(settings, given)
    if one.secret is None:
        raise click.ClickException(
            f"tokens of {given} are verified with its {one.key_sources[0]}: only it can sign them"
        )
    return one


def standard_claims(by: KeySettings, sub: str, expires_seconds: int) -> dict[str, Any]:
    now = int(time.time())
    # By `iat` and `jti` it can be revoked: with all that its subject has, and alone.
    claims: dict[str, Any] = {"sub": sub, "iat": now, "exp": now + expires_seconds, "jti": secrets.token_urlsafe(16)}
    if by.issuer is not None:
        claims["iss"] = by.issuer
    if by.audience is not None:
        claims["aud"] = by.audience if isinstance(by.audience, str) else list(by.audience)
    return claims


def signed(by: KeySettings, payload: dict[str, Any]) -> str:
    """Raises BadParameter for claims that no token can have."""
    secret = by.secret.get_secret_value() if by.secret is not None else ""
    headers = {} if by.token_type is None else {"typ": by.token_type}
    try:
        return jwt.encode(payload, secret, (by.algorithms or ("HS256",))[0], headers)
    except TypeError as error:
        raise click.BadParameter(str(error), param_hint="--claim") from error
