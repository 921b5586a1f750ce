"""What `flask` commands do with a broken configuration: they report every error, and only `--help` and
`flask config schema` still work."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click
from flask import Flask

from gateway.cli import add_commands, root_context
from gateway.cli.output import CouldNotRun
from gateway.config import load_settings
from gateway.errors import CannotStart


def application_for_help(error: CannotStart) -> Flask:
    """An application whose commands only show their help, or print the schema that helps to correct the file. Raises
    ClickException for all other commands."""
    arguments = sys.argv[1:]
    prints_schema = arguments[-2:] == ["config", "schema"]
    # For `flask check`, errors are a result (exit code 1); the other commands could not run (exit code 2).
    failure = (click.ClickException if "check" in arguments else CouldNotRun)(error.listing())
    if root_context() is None or (arguments and "--help" not in arguments and not prints_schema):
        raise failure from error

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise failure

    app = Flask("gateway")
    add_commands(app, load_settings({}), refuse)
    for command in () if prints_schema else app.cli.commands.values():
        command.callback = refuse
    click.echo(f"{failure.message}\n", err=True)
    return app
