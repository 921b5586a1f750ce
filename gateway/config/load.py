"""Loads and validates the configuration, and keeps the one in force for processes forked later."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from gateway.config.generated_secret import generated_secret
from gateway.config.models import Settings
from gateway.config.sources import PLAIN_VARIABLES, PREFIX, merged_sources
from gateway.errors import ConfigurationError

PLAIN = {*PLAIN_VARIABLES, "PORT"}

log = logging.getLogger(__name__)

_current: Settings | None = None


def project_folder() -> Path:
    """The folder of wsgi.py, where `instance/` is kept."""
    return Path(__file__).resolve().parents[2]


def current() -> Settings:
    """The settings in force: those that this process, or the one it was forked from, adopted; else freshly loaded."""
    return _current if _current is not None else adopt(with_key(load_settings()))


def with_key(settings: Settings) -> Settings:
    """The settings with a generated secret where no key is configured, with a warning that names the setting.

    Raises ConfigurationError where one can't be made."""
    if settings.jwt.secret is not None or settings.jwt.public_key_file is not None:
        return settings
    folder = project_folder() / "instance"
    secret = SecretStr(generated_secret(folder))
    log.warning(
        "jwt.secret is not set: tokens are verified with the secret generated in %s; `flask token` signs with it", folder
    )
    return settings.model_copy(update={"jwt": settings.jwt.model_copy(update={"secret": secret})})


def adopt(settings: Settings) -> Settings:
    global _current  # noqa: PLW0603 - a forked worker must find what its master validated, whatever the file says by then
    _current = settings
    return settings


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The validated settings. Raises ConfigurationError with every mistake, each by its full name."""
    tree, mistakes = merged_sources(os.environ if environ is None else environ)
    while True:
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as error:
            # Checks across several settings only run once each of these is right by itself. So what is wrong is
            # taken out and the rest looked at again, until nothing new is found.
            found = error.errors(include_url=False, include_input=False)
            within = {item["loc"][:-1] for item in found}
            # A list is "too short" where none of its items was right, which has been told by then.
            told = [item for item in found if not (item["type"] == "too_short" and item["loc"] in within)]
            fresh = [line for item in told for line in mistakes_of(item) if line not in mistakes]
            mistakes += fresh
            pruned = [prune(tree, item["loc"], item["type"]) for item in found]
            if not fresh or not any(pruned):
                raise ConfigurationError(mistakes) from None
        else:
            if mistakes:
                raise ConfigurationError(mistakes)
            return settings


def prune(tree: Any, location: tuple[int | str, ...], kind: str) -> bool:
    """Takes the setting at `location` out of the tree, with its table where the table is nothing without it."""
    steps = [part for part in location if part != "[key]"]
    if kind == "missing":
        steps.pop()
    # A list is one value: without one of its items it would be another one.
    while steps and not isinstance(parent := descend(tree, steps[:-1]), dict):
        steps.pop()
    if not steps or steps[-1] not in parent:
        return False
    del parent[steps[-1]]
    return True


def descend(tree: Any, steps: list[int | str]) -> Any:
    for step in steps:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def mistakes_of(item: Any) -> Iterator[str]:
    name = full_name(item["loc"])
    for line in message_of(item).split("\n"):
        # A check over several settings starts with the name of the one that it means.
        if line.startswith("services"):
            yield line
        elif re.match(r"[a-z_]+(\[\d+\])?(\.[a-z_]+)*: ", line):
            yield f"{name}.{line}" if name else line
        else:
            yield f"{name}: {line}" if name else line


def full_name(location: tuple[int | str, ...]) -> str:
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        # The branches of a union and the key markers of a table are pydantic's words, not settings.
        elif part != "[key]" and not part.startswith(("tuple[", "str", "constrained-", "function-")):
            name += f".{part}" if name else part
    return name


def message_of(item: Any) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        return "there is no such setting"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    message: str = item["msg"]
    return message[0].lower() + message[1:]


def environment_without_settings() -> dict[str, str]:
    """This process' environment less all that configures a gateway, for one that is started with settings of its own."""
    return {name: value for name, value in os.environ.items() if name not in PLAIN and not name.startswith(PREFIX)}
