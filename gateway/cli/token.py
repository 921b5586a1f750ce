"""`flask token`: signs a token that the gateway accepts, for trying things out."""

from __future__ import annotations

import secrets
import time
from typing import Any

import click
import jwt

from gateway.cli.issuers import issuer_named, verify_token
from gateway.cli.parameter_types import claim_option, duration
from gateway.config import KeySettings, Settings
from gateway.errors import InvalidToken


def token_command(settings: Settings) -> click.Command:
    @click.command("token")
    @click.option("--sub", required=True, help="The subject of the token.")
    @click.option("--issuer", help="The issuer that signs it, if several issuers have a secret.")
    @claim_option("A further claim; the value is JSON or text.")
    @click.option(
        "--expires", type=duration, default="1h", show_default=True, help="How long it is valid: 90s, 5m, 1h, 7d."
    )
    def token(sub: str, issuer: str | None, claims: tuple[tuple[str, Any], ...], expires: int) -> None:
        """Sign a token with jwt.secret, for trying things out. It is verified before it is printed."""
        signer = signing_issuer(settings, issuer)
        if not sub:
            raise click.BadParameter("must not be empty", param_hint="'--sub'")
        payload = standard_claims(signer, sub, expires) | dict(claims)
        if missing := [name for name in settings.jwt.required_claims if name not in payload]:
            raise click.UsageError(f"jwt.required_claims also has {', '.join(missing)}: give --claim NAME=VALUE")
        signed = sign(signer, payload)
        try:
            verify_token(settings, signed)
        except InvalidToken as error:
            raise click.ClickException(f"the gateway would refuse this token: {error.detail}") from error
        click.echo(signed)

    return token


def signing_issuer(settings: Settings, name: str | None) -> KeySettings:
    """The issuer of this name; for None, the only one with a secret. Raises ClickException if it has no secret,
    UsageError if several have one and no name is given."""
    with_secret = [one for one in settings.jwt.all_issuers if one.secret is not None]
    if name is None and len(with_secret) == 1:
        return with_secret[0]
    if not with_secret:
        source = settings.jwt.all_issuers[0].key_sources[0]
        raise click.ClickException(f"tokens are verified with jwt.{source}: only their issuer can sign them")
    issuer = issuer_named(settings, name)
    if issuer.secret is None:
        source = issuer.key_sources[0]
        raise click.ClickException(f"tokens of {name} are verified with its {source}: only it can sign them")
    return issuer


def standard_claims(issuer: KeySettings, sub: str, expires_seconds: int) -> dict[str, Any]:
    now = int(time.time())
    # `flask revoke` can refuse the token by its `jti`, and all tokens of the subject by `iat`.
    claims: dict[str, Any] = {"sub": sub, "iat": now, "exp": now + expires_seconds, "jti": secrets.token_urlsafe(16)}
    if issuer.issuer is not None:
        claims["iss"] = issuer.issuer
    if issuer.audience is not None:
        claims["aud"] = issuer.audience if isinstance(issuer.audience, str) else list(issuer.audience)
    return claims


def sign(issuer: KeySettings, payload: dict[str, Any]) -> str:
    """The signed token. Raises BadParameter for claims that PyJWT refuses to sign."""
    secret = issuer.secret.get_secret_value() if issuer.secret is not None else ""
    headers = {} if issuer.token_type is None else {"typ": issuer.token_type}
    try:
        return jwt.encode(payload, secret, (issuer.algorithms or ("HS256",))[0], headers)
    except TypeError as error:
        raise click.BadParameter(str(error), param_hint="'--claim'") from error
