"""Finds the variables that `flask` commands take from `.env` and `.flaskenv`; gunicorn does not read these files.

Flask reads them if python-dotenv is installed. With these variables, a command would check, show and sign with another
configuration than the one that the server uses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

START_ENVIRONMENT = Path("/proc/self/environ")


def process_environment() -> dict[str, str]:
    """The environment of this process without the variables that Flask took from `.env` or `.flaskenv`. Variables from
    the file of `flask --env-file` are included: the user names that file on purpose."""
    ignored = names_from_dotenv()
    return {name: value for name, value in os.environ.items() if name not in ignored}


def names_from_dotenv() -> set[str]:
    """The names of the variables that Flask has set from `.env` or `.flaskenv` for the current command; none in a
    server."""
    # If flask.cli is not imported, no `flask` command runs. click must then not be imported, either: gunicorn's
    # configuration calls this function before it patches the standard library.
    if "flask.cli" not in sys.modules:
        return set()
    import click  # noqa: PLC0415
    from flask.cli import FlaskGroup  # noqa: PLC0415
    from flask.helpers import get_load_dotenv  # noqa: PLC0415

    context = click.get_current_context(silent=True)
    if context is None or not isinstance(context.find_root().command, FlaskGroup):
        return set()
    try:
        import dotenv  # noqa: PLC0415 - the gateway itself does not need it
    except ImportError:
        return set()
    found: dict[str, str | None] = {}
    for name in (".flaskenv", ".env"):
        if path := dotenv.find_dotenv(name, usecwd=True):
            found |= dotenv.dotenv_values(path, encoding="utf-8")
    if named_file := context.find_root().params.get("env_file"):
        for name in dotenv.dotenv_values(named_file, encoding="utf-8"):
            found.pop(name, None)
    if not get_load_dotenv() and "FLASK_SKIP_DOTENV" not in found:
        return set()
    at_start = names_at_start()
    return {name for name, value in found.items() if os.environ.get(name) == value and name not in at_start}


def names_at_start() -> set[str]:
    """The names of the variables that this process was started with; none outside Linux, where the system does not show
    them. Without them, a variable that has the value from the file counts as read from the file."""
    try:
        content = START_ENVIRONMENT.read_bytes()
    except OSError:
        return set()
    return {os.fsdecode(entry.partition(b"=")[0]) for entry in content.split(b"\0") if entry}
