"""The gateway's `flask` commands. `check` and `services` are in this file, every other command in the file of its name.

`parameter_types` has the types of arguments, `output` has tables and exit codes. `issuers` and `redis` have what
several commands need. `broken_configuration` is for commands that run while the configuration has errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask import Flask
from flask.cli import FlaskGroup

from gateway.cli.config import config_command
from gateway.cli.demo import demo_command
from gateway.cli.drift import drift_command
from gateway.cli.explain import explain_command
from gateway.cli.output import exit_when_stdout_fails, print_table
from gateway.cli.quota import quota_command
from gateway.cli.revoke import revoke_command, revoked_command
from gateway.cli.token import token_command
from gateway.config import Settings
from gateway.errors import LibraryMismatch
from gateway.library_checks import check_libraries
from gateway.route_policy import RoutePolicy, policies_of

if TYPE_CHECKING:
    from gateway.explain.dry_run import BuildApp


def register_commands(app: Flask, settings: Settings, build_app: BuildApp) -> None:
    """Adds the commands to the application. `build_app` makes the application that `flask explain` runs. In the process
    of a `flask` command, this also prepares standard output and the list of commands."""
    if root_context() is not None:
        exit_when_stdout_fails()
    add_commands(app, settings, build_app)


def add_commands(app: Flask, settings: Settings, build_app: BuildApp) -> None:
    if (context := root_context()) is not None:
        remove_limiter_commands(context)
    for make_command in (
        check_command,
        config_command,
        services_command,
        token_command,
        revoke_command,
        revoked_command,
        quota_command,
        drift_command,
        demo_command,
    ):
        app.cli.add_command(make_command(settings))
    app.cli.add_command(explain_command(settings, build_app))


def check_command(settings: Settings) -> click.Command:
    @click.command("check")
    def check() -> None:
        """Check the configuration and the installed libraries.

        Exit code 0: both can be used; 1: every error is reported."""
        # The configuration is valid here: with errors in it, the application could not have been built.
        try:
            check_libraries()
        except LibraryMismatch as error:
            raise click.ClickException(error.listing()) from error
        count = sum(1 for _ in policies_of(settings))
        click.echo(f"The configuration is valid. Services: {len(settings.services)}; policies: {count}.")

    return check


def services_command(settings: Settings) -> click.Command:
    @click.command("services")
    def services() -> None:
        """List services and routes with their targets, tokens, scopes and limits."""
        names = list(settings.services)
        # Each service is listed before its routes. `policies_of` has the routes first, because they take precedence.
        policies = sorted(policies_of(settings), key=lambda policy: (names.index(policy.service), "." in policy.name))
        rows: list[tuple[str, ...]] = [("SERVICE", "PATH", "METHODS", "TARGETS", "TOKEN", "SCOPES", "LIMITS")]
        print_table(rows + [service_row(settings, policy) for policy in policies])

    return services


def service_row(settings: Settings, policy: RoutePolicy) -> tuple[str, ...]:
    default_limit = settings.ratelimit.default if policy.needs_token else settings.ratelimit.anonymous
    is_service = policy.name == policy.service
    return (
        policy.name,
        (policy.path.removesuffix("/**") or "/") if is_service else policy.path,
        ", ".join(policy.methods) or "*",
        ", ".join(settings.services[policy.service].targets) if is_service else "",
        "required" if policy.needs_token else "none",
        " ".join(policy.scopes) or "-",
        "; ".join(policy.limits) or f"{default_limit} (default)",
    )


def root_context() -> click.Context | None:
    """The outermost context of the `flask` command that runs in this process; None in any other process."""
    context = click.get_current_context(silent=True)
    root = context.find_root() if context is not None else None
    return root if root is not None and isinstance(root.command, FlaskGroup) else None


def remove_limiter_commands(context: click.Context) -> None:
    """Removes `flask limiter`, a plugin that Flask loads from Flask-Limiter, because it does not know the gateway's
    limits. Its commands only say that packages are missing: the gateway does not install them."""
    if isinstance(context.command, click.Group):
        context.command.commands.pop("limiter", None)
