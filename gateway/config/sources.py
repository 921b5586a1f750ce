"""Merges the sources of settings: built-in services ← TOML file ← environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gateway.config.built_in_services import over_built_in_services
from gateway.config.environment import CONFIG_VARIABLE, read_environment
from gateway.config.key_paths import KeyPath, Tree
from gateway.config.origins import Origin, Origins
from gateway.config.secret_files import read_secret_files
from gateway.errors import ConfigurationError

FILE_NAME = "gateway.toml"
BOOLEAN = TypeAdapter(bool)


@dataclass(frozen=True, slots=True)
class Sources:
    """The merged settings before validation. `unreadable` has an error for each value that could not be read. `file` is
    the configuration file, or None if there is none."""

    tree: Tree
    origins: Origins
    unreadable: dict[KeyPath, str]
    file: Path | None


def merged_sources(environ: Mapping[str, str], folder: Path | None = None) -> Sources:
    """Reads and merges all sources. If no variable names a file, `folder` is searched for one.

    Raises ConfigurationError if the file can't be read."""
    file = configuration_file(environ, folder)
    tree, origins = read_file(file, environ) if file else {}, Origins()
    origins.add(tree, Origin("file", str(file)))
    unreadable = read_environment(environ, tree, origins)
    if includes_built_in_services(tree):
        tree = over_built_in_services(tree, origins)
    return Sources(tree, origins, unreadable | read_secret_files(tree, origins), file)


def configuration_file(environ: Mapping[str, str], folder: Path | None) -> Path | None:
    """The file that GATEWAY_CONFIG names, else gateway.toml in the folder if it exists."""
    if (named := environ.get(CONFIG_VARIABLE)) is not None:
        if not named:
            # Most likely GATEWAY_CONFIG was set from another variable, which is not set.
            raise ConfigurationError(
                [f"{CONFIG_VARIABLE}: is empty; name a file, or unset it to use {FILE_NAME} beside wsgi.py"]
            )
        return Path(named)
    # lexists: a dangling symbolic link must cause an error. It must not count as a missing file.
    return folder / FILE_NAME if folder and os.path.lexists(folder / FILE_NAME) else None


def includes_built_in_services(given: Tree) -> bool:
    """The value of `default_services` as validation will read it. For an invalid value returns True: validation reports
    it."""
    try:
        return BOOLEAN.validate_python(given.get("default_services", True))
    except ValidationError:
        return True


def read_file(path: Path, environ: Mapping[str, str]) -> Tree:
    prefix = f"{CONFIG_VARIABLE}: " if CONFIG_VARIABLE in environ else ""
    name = str(path)
    try:
        # utf-8-sig: some editors write a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError([f"{prefix}can't read {name!r}: {error.strerror}"]) from error
    # ValueError is more than TOMLDecodeError: bytes that are not UTF-8, numbers with too many digits for int(), and NUL
    # in the file's name. Too deep nesting raises RecursionError.
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{prefix}{name!r} is not TOML: {error}"]) from error
