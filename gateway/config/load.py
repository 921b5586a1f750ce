"""Loads and validates the configuration, and keeps the one in force for processes forked later."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr, ValidationError

from gateway.config.generated_keys import generated_secret, generated_signing_key
from gateway.config.mistakes import Mistakes
from gateway.config.models import Settings
from gateway.config.sources import PLAIN_VARIABLES, PREFIX, merged_sources
from gateway.errors import ConfigurationError

PLAIN = {*PLAIN_VARIABLES, "PORT"}

log = logging.getLogger(__name__)

_current: Settings | None = None


def project_folder() -> Path:
    """The folder of wsgi.py, where `instance/` is kept."""
    return Path(__file__).resolve().parents[2]


def instance_folder() -> Path:
    """Where an installation keeps what it made for itself."""
    return project_folder() / "instance"


def current() -> Settings:
    """The settings in force: those that this process, or the one it was forked from, adopted; else freshly loaded."""
    return _current if _current is not None else adopt(with_keys(load_settings()))


def with_keys(settings: Settings) -> Settings:
    """The settings with a generated secret where no key is configured, and a generated key to sign identities with
    where that is wanted and none is configured, each with a warning that names the setting.

    Raises ConfigurationError where one can't be made."""
    folder = instance_folder()
    if not (settings.jwt.key_sources or settings.jwt.issuers):
        secret = SecretStr(generated_secret(folder))
        log.warning(
            "jwt.secret is not set: tokens are verified with the secret generated in %s; `flask token` signs with it",
            folder,
        )
        settings = settings.model_copy(update={"jwt": settings.jwt.model_copy(update={"secret": secret})})
    if settings.identity.sign and settings.identity.private_key_file is None:
        file = generated_signing_key(folder)
        log.warning("identity.private_key_file is not set: identities are signed with the key generated in %s", folder)
        identity = settings.identity.model_copy(update={"private_key_file": file})
        settings = settings.model_copy(update={"identity": identity})
    return settings


def adopt(settings: Settings) -> Settings:
    global _current  # noqa: PLW0603 - a forked worker must find what its master validated, whatever the file says by then
    _current = settings
    return settings


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The validated settings. Raises ConfigurationError with every mistake, each by its full name."""
    tree, unreadable = merged_sources(os.environ if environ is None else environ)
    mistakes = Mistakes(unreadable)
    while True:
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as error:
            # Checks across several settings only run once each of these is right by itself. So what is wrong is
            # taken out and the rest looked at again, until nothing is left to take out.
            found = error.errors(include_url=False, include_input=False)
            if not mistakes.add_and_prune(found, tree):
                raise ConfigurationError(mistakes.lines) from None
        else:
            if mistakes.lines:
                raise ConfigurationError(mistakes.lines)
            return settings


def environment_without_settings() -> dict[str, str]:
    """This process' environment less all that configures a gateway, for one started with settings of its own."""
    return {name: value for name, value in os.environ.items() if name not in PLAIN and not name.startswith(PREFIX)}
