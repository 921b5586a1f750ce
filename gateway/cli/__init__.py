"""The gateway's `flask` commands: `check` and `services` here, the longer ones in modules of their own."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import FlaskGroup

from gateway.cli.config import config_command
from gateway.cli.demo import demo_command
from gateway.cli.drift import drift_command
from gateway.cli.explain import explain_command
from gateway.cli.output import end_where_output_fails
from gateway.cli.quota import quota_command
from gateway.cli.revoke import revoke_command, revoked_command
from gateway.cli.table import print_table
from gateway.cli.token import token_command
from gateway.config import Settings
from gateway.errors import LibraryMismatch
from gateway.library_checks import check_libraries
from gateway.route_policy import RoutePolicy, policies_of


def register_commands(app: Flask, settings: Settings) -> None:
    """For the application that a `flask` command loads, and for any other."""
    if (context := flask_context()) is not None:
        end_where_output_fails()
        hide_limiter_commands(context)
    add_commands(app, settings)


def add_commands(app: Flask, settings: Settings) -> None:
    app.cli.add_command(check_command(settings))
    app.cli.add_command(config_command(settings))
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
        """Check the configuration and the installed libraries: exit code 0, or every error."""
        # A broken configuration never gets here: loading the application has reported the errors.
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


def service_row(settings: Settings, policy: RoutePolicy) -> tuple[str, ...]:
    quota = settings.ratelimit.default if policy.needs_token else settings.ratelimit.anonymous
    is_service = policy.name == policy.service
    return (
        policy.name,
        (policy.path.removesuffix("/**") or "/") if is_service else policy.path,
        ", ".join(policy.methods) or "*",
        ", ".join(settings.services[policy.service].targets) if is_service else "",
        "required" if policy.needs_token else "none",
        " ".join(policy.scopes) or "-",
        "; ".join(policy.limits) or f"{quota} (default)",
    )


def flask_context() -> click.Context | None:
    """The outermost context of the `flask` command that runs in this process; None where none does."""
    context = click.get_current_context(silent=True)
    root = context.find_root() if context is not None else None
    return root if root is not None and isinstance(root.command, FlaskGroup) else None


def hide_limiter_commands(context: click.Context) -> None:
    """Takes Flask-Limiter's `flask limiter` out of the list of commands: it knows nothing of the gateway's limits.
    Flask finds it by itself, as a plugin."""
    if isinstance(context.command, click.Group):
        context.command.commands.pop("limiter", None)
