"""Loads and validates the configuration, and keeps the one in force for processes forked later."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from gateway.config.environment import process_environment
from gateway.config.generated_keys import generated_secret, generated_signing_key
from gateway.config.models import Settings
from gateway.config.origins import Origins
from gateway.config.sources import Sources, is_name_of_a_setting, merged_sources
from gateway.config.validation_errors import ValidationErrors
from gateway.errors import ConfigurationError

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
    return _current if _current is not None else adopt(with_keys(load().settings))


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """Validated settings, and where they come from; `file` is the one that was read."""

    settings: Settings
    origins: Origins
    file: Path | None

    def summary(self) -> str:
        """The sources in a line: `the defaults, /etc/gateway.toml and 2 variables`."""
        count = len(self.origins.variables)
        variables = f"{count} variable{'s' * (count != 1)} of the environment"
        return f"the defaults, {self.file or 'no file'} and {variables}"


def load() -> Loaded:
    """The settings of this installation, for its server and its commands alike: gateway.toml beside wsgi.py, or the
    file that GATEWAY_CONFIG names, and the environment. Raises ConfigurationError with every mistake."""
    return validated(merged_sources(process_environment(), project_folder()))


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The validated settings by these variables alone. Raises ConfigurationError with every mistake, each by its full
    name."""
    return validated(merged_sources(environ)).settings


def validated(sources: Sources) -> Loaded:
    tree, mistakes = sources.tree, ValidationErrors(sources.unreadable, sources.origins, Settings)
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
            return Loaded(settings, sources.origins, sources.file)


def environment_without_settings() -> dict[str, str]:
    """This process' environment less all that configures a gateway, for one started with settings of its own."""
    return {name: value for name, value in os.environ.items() if not is_name_of_a_setting(name)}
