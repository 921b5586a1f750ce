"""The gateway's `flask` commands: `check`, `services` and `token` here, the longer ones in modules of their own."""

from __future__ import annotations

import time
from typing import Any

import click
import jwt
from flask import Flask

from gateway.cli.claims import claim_of
from gateway.cli.demo import demo_command
from gateway.cli.drift import drift_command
from gateway.cli.durations import DURATION
from gateway.cli.explain import explain_command
from gateway.cli.quota import quota_command
from gateway.cli.revoke import revoke_command, revoked_command
from gateway.cli.table import print_table
from gateway.config import Settings
from gateway.errors import LibraryMismatch
from gateway.library_checks import check_libraries
from gateway.policies import Policy, policies_of


def register_commands(app: Flask, settings: Settings) -> None:
    app.cli.add_command(check_command(settings))
    app.cli.add_command(services_command(settings))
    app.cli.add_command(token_command(settings))
    app.cli.add_command(revoke_command(settings))
    app.cli.add_command(revoked_command(settings))
    app.cli.add_command(quota_command(settings))
    app.cli.add_command(drift_command(settings))
    app.cli.add_command(explain_command(settings))
    app.cli.add_command(demo_command(settings))


def check_command(settings: Settings) -> click.Command:
    @click.command("check")
    def check() -> None:
        """Check the configuration and the installed libraries: exit code 0, or every mistake."""
        # A broken configuration never gets here: loading the application told its mistakes.
        try:
            check_libraries()
        except LibraryMismatch as error:
            raise click.ClickException(error.listing()) from error
        count = sum(1 for _ in policies_of(settings))
        click.echo(f"The configuration is right: {len(settings.services)} services, {count} policies.")

    return check


def services_command(settings: Settings) -> click.Command:
    @click.command("services")
    def services() -> None:
        """List services and routes with what is asked of a request."""
        # Each service before its routes, which are asked first.
        names = list(settings.services)
        policies = sorted(policies_of(settings), key=lambda policy: (names.index(policy.service), "." in policy.name))
        rows: list[tuple[str, ...]] = [("SERVICE", "PATH", "METHODS", "TARGETS", "TOKEN", "SCOPES", "LIMITS")]
        rows += [service_row(settings, policy) for policy in policies]
        print_table(rows)

    return services


def service_row(settings: Settings, policy: Policy) -> tuple[str, ...]:
    quota = settings.ratelimit.default if policy.needs_token else settings.ratelimit.anonymous
    is_service = policy.name == policy.service
    return (
        policy.name,
        settings.services[policy.service].prefix if is_service else policy.path,
        ", ".join(policy.methods) or "*",
        ", ".join(settings.services[policy.service].targets) if is_service else "",
        "required" if policy.needs_token else "none",
        " ".join(policy.scopes) or "-",
        "; ".join(policy.limits) or f"{quota} (default)",
    )


def token_command(settings: Settings) -> click.Command:
    @click.command("token")
    @click.option("--sub", required=True, help="Who the token is about.")
    @click.option(
        "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="A further claim; JSON, or plain text."
    )
    @click.option(
        "--expires", type=DURATION, default="1h", show_default=True, help="How long it is good: 90s, 5m, 1h, 7d."
    )
    def token(sub: str, claims: tuple[str, ...], expires: int) -> None:
        """Sign a token with jwt.secret, for trying things out."""
        secret = settings.jwt.secret
        if secret is None:
            raise click.ClickException("tokens are verified with jwt.public_key_file: only their issuer can sign them")
        if not sub:
            raise click.BadParameter("must not be empty", param_hint="--sub")
        now = int(time.time())
        payload: dict[str, Any] = {"sub": sub, "iat": now, "exp": now + expires}
        if settings.jwt.issuer is not None:
            payload["iss"] = settings.jwt.issuer
        if settings.jwt.audience is not None:
            audience = settings.jwt.audience
            payload["aud"] = audience if isinstance(audience, str) else list(audience)
        payload |= dict(claim_of(text) for text in claims)
        if missing := [name for name in settings.jwt.required_claims if name not in payload]:
            raise click.UsageError(f"jwt.required_claims asks for {', '.join(missing)} too: give --claim NAME=VALUE")
        algorithm = (settings.jwt.algorithms or ("HS256",))[0]
        try:
            click.echo(jwt.encode(payload, secret.get_secret_value(), algorithm))
        except TypeError as error:
            raise click.BadParameter(str(error), param_hint="--claim") from error

    return token
