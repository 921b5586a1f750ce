"""`flask` commands if the gateway can't be built: they report why. `--help` and `flask config schema` still work."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click
from flask import Flask

from gateway.cli import add_commands, flask_context
from gateway.cli.failures import CouldNotRun
from gateway.config import load_settings
from gateway.errors import ConfigurationError, LibraryMismatch


def application_for_help(error: ConfigurationError | LibraryMismatch) -> Flask:
    """An application whose commands only show their help, or print the schema that a broken file is corrected with.
    Raises ClickException for all other commands."""
    words = sys.argv[1:]
    prints_schema = words[-2:] == ["config", "schema"]
    # `flask check` asks this very question, and the answer is no; all others can't run.
    reason = (click.ClickException if "check" in words else CouldNotRun)(reason_of(error))
    if flask_context() is None or (words and "--help" not in words and not prints_schema):
        raise reason from error

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise reason

    app = Flask("gateway")
    add_commands(app, load_settings({}))
    for command in () if prints_schema else app.cli.commands.values():
        command.callback = refuse
    click.echo(f"{reason.message}\n", err=True)
    return app


def reason_of(error: ConfigurationError | LibraryMismatch) -> str:
    if isinstance(error, LibraryMismatch):
        return error.listing()
    return "The configuration can't be used:\n" + error.listing()
