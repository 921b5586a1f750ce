"""The environment as the server sees it, also for `flask` commands.

Flask reads `.env` and `.flaskenv` into the environment of its commands where python-dotenv happens to be installed;
gunicorn does not. A command would then show, check and sign by another configuration than the one that is served.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

START_ENVIRONMENT = Path("/proc/self/environ")


def process_environment() -> dict[str, str]:
    """This process' variables, without those that Flask took from `.env` or `.flaskenv`. Files that a person names with
    `flask --env-file` count: that is a decision, not a file that lies around."""
    environ = dict(os.environ)
    for name in names_from_dotenv():
        environ.pop(name, None)
    return environ


def names_from_dotenv() -> set[str]:
    """The variables that Flask has set from `.env` or `.flaskenv` for the command that runs; none in a server."""
    # Imported where it is needed: gunicorn's configuration comes here before it patches the standard library.
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
        named = dotenv.dotenv_values(named_file, encoding="utf-8")
        found = {name: value for name, value in found.items() if name not in named}
    if not get_load_dotenv() and "FLASK_SKIP_DOTENV" not in found:
        return set()
    at_start = names_at_start()
    return {name for name, value in found.items() if os.environ.get(name) == value and name not in at_start}


def names_at_start() -> set[str]:
    """The names in the environment that this process was started with. Where the system does not tell them (it is not
    Linux), none: a variable with the file's value counts as taken from the file, unless FLASK_SKIP_DOTENV is set."""
    try:
        content = START_ENVIRONMENT.read_bytes()
    except OSError:
        return set()
    return {os.fsdecode(entry.partition(b"=")[0]) for entry in content.split(b"\0") if entry}
