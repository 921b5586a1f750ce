"""Loads and validates the configuration, and stores the one in force for processes that are forked later."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from gateway.config.dotenv_files import process_environment
from gateway.config.environment import is_name_of_a_setting
from gateway.config.generated_keys import generated_secret, generated_signing_key
from gateway.config.models import Settings
from gateway.config.origins import Origins
from gateway.config.sources import Sources, merged_sources
from gateway.config.validation_errors import ValidationErrors
from gateway.errors import ConfigurationError

log = logging.getLogger(__name__)

_current: Settings | None = None


def project_folder() -> Path:
    """The folder of wsgi.py."""
    return Path(__file__).resolve().parents[2]


def instance_folder() -> Path:
    """The folder in which an installation stores what it has generated."""
    return project_folder() / "instance"


def current() -> Settings:
    """The settings in force: those that this process has adopted or inherited in a fork. If there are none, loads and
    adopts them."""
    return _current if _current is not None else adopt(with_keys(load().settings))


def with_keys(settings: Settings) -> Settings:
    """The settings, completed by generated keys where none are configured: a secret to verify tokens with, and a key to
    sign identities with. A warning names each setting that is missing.

    Raises ConfigurationError if a key can't be generated."""
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
    """Puts the settings in force, also for processes that are forked from this one."""
    global _current  # noqa: PLW0603 - workers must use what their master has validated, whatever the file contains by then
    _current = settings
    return settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """Validated settings and their origins. `file` is the configuration file, or None if there is none."""

    settings: Settings
    origins: Origins
    file: Path | None

    def summary(self) -> str:
        """The sources in one line: `the defaults, /etc/gateway.toml and 2 variables of the environment`."""
        count = len(self.origins.variables)
        variables = f"{count} variable{'s' * (count != 1)} of the environment"
        return f"the defaults, {self.file or 'no file'} and {variables}"


def load() -> Loaded:
    """Loads the settings of this installation, for its server and its commands alike: from the environment and from a
    file. GATEWAY_CONFIG names the file; otherwise it is gateway.toml beside wsgi.py. Raises ConfigurationError with all
    errors."""
    return validated(merged_sources(process_environment(), project_folder()))


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Loads the settings from these variables, and from a file only if GATEWAY_CONFIG names one. Raises
    ConfigurationError with all errors, each with the full name of the setting."""
    return validated(merged_sources(environ)).settings


def validated(sources: Sources) -> Loaded:
    """Validates the merged settings. Raises ConfigurationError with all errors."""
    tree, errors = sources.tree, ValidationErrors(sources.unreadable, sources.origins, Settings)
    while True:
        try:
            settings = Settings.model_validate(tree)
        except ValidationError as error:
            # pydantic checks settings against each other only if each of them is valid. So invalid values are removed
            # and the rest is validated again, until no value can be removed any more.
            found = error.errors(include_url=False, include_input=False)
            if not errors.add_and_prune(found, tree):
                raise ConfigurationError(errors.lines) from None
        else:
            if errors.lines:
                raise ConfigurationError(errors.lines)
            return Loaded(settings, sources.origins, sources.file)


def environment_without_settings() -> dict[str, str]:
    """This process' environment without the variables that configure a gateway. It is for starting another gateway,
    which has its own settings."""
    return {name: value for name, value in os.environ.items() if not is_name_of_a_setting(name)}
