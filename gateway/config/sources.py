"""Where values come from: the built-in mapping ← a TOML file ← the environment, merged key by key."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from gateway.config.built_in import built_in_mapping, move_and_add_routes
from gateway.config.models import Settings
from gateway.config.origins import Origin, Origins
from gateway.config.places import Place, full_name
from gateway.config.secret_files import read_secret_files
from gateway.config.setting_types import alternatives, member, takes_list
from gateway.errors import ConfigurationError

PREFIX = "GATEWAY_"
CONFIG_VARIABLE = "GATEWAY_CONFIG"
FILE_NAME = "gateway.toml"
PLAIN_VARIABLES = {"REDIS_URL": ("redis_url",), "WEB_CONCURRENCY": ("server", "workers")}
# [::1]:8000 is a text, whatever else begins with a bracket is a list.
BRACKETED_ADDRESS = re.compile(r"\[[^\"\[\]]*\]:")
BOOLEAN = TypeAdapter(bool)
# What Kubernetes sets in every container for a Service that is called gateway, or gateway-something.
KUBERNETES_LINK = re.compile(
    PREFIX + r"(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_PROTO|_PORT|_ADDR)?)?)"
)

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """The unvalidated settings of all sources, and what is wrong with those that can't even be read, by their places.
    `file` is the one that was read."""

    tree: Tree
    origins: Origins
    unreadable: dict[Place, str]
    file: Path | None


def merged_sources(environ: Mapping[str, str], folder: Path | None = None) -> Sources:
    """Reads all sources; `folder` is where a file is looked for that no variable names.

    Raises ConfigurationError where there is no file to read, as nothing else is worth telling then."""
    file = configuration_file(environ, folder)
    from_file = read_file(file, environ) if file else {}
    from_environment = read_environment(environ)
    given = merge(from_file, from_environment.tree)
    origins = Origins()
    built_in = built_in_mapping() if is_wanted(given.get("default_services", True)) else {}
    origins.add(from_file, Origin("file", str(file)))
    for place, variable, value in from_environment.variables:
        origins.add(value, Origin("variable", variable), place)
    if built_in:
        move_and_add_routes(built_in, given, origins)
        origins.add_below(built_in, Origin("built-in mapping"))
    tree = merge(built_in, given)
    return Sources(tree, origins, from_environment.unreadable | read_secret_files(tree, origins), file)


def configuration_file(environ: Mapping[str, str], folder: Path | None) -> Path | None:
    """The file that GATEWAY_CONFIG names, else gateway.toml in the folder, where there is one."""
    if (named := environ.get(CONFIG_VARIABLE)) is not None:
        if not named:
            # Most likely a variable that was not set where this one was made from it.
            raise ConfigurationError(
                [f"{CONFIG_VARIABLE}: names no file; unset it to have {FILE_NAME} beside wsgi.py read"]
            )
        return Path(named)
    # A link that leads nowhere is no missing file, but a mistake.
    return folder / FILE_NAME if folder and os.path.lexists(folder / FILE_NAME) else None


def is_wanted(built_in: Any) -> bool:
    """`default_services` as validation reads it, which tells if it is a mistake."""
    try:
        return BOOLEAN.validate_python(built_in)
    except ValidationError:
        return True


def read_file(path: Path, environ: Mapping[str, str]) -> Tree:
    prefix = f"{CONFIG_VARIABLE}: " if CONFIG_VARIABLE in environ else ""
    name = str(path)
    try:
        # Some editors put a byte order mark in front.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError([f"{prefix}can't read {name!r}: {error.strerror}"]) from error
    # Beside TOMLDecodeError: what decoding, int() and nesting without end raise, and a NUL in the name.
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{prefix}{name!r} is not TOML: {error}"]) from error


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """`variables` are the places that were set, with the variables' names and values, in the order in which they were
    set."""

    tree: Tree
    variables: list[tuple[Place, str, Any]]
    unreadable: dict[Place, str]


def read_environment(environ: Mapping[str, str]) -> EnvironmentSettings:
    """GATEWAY_<SECTION>__<KEY> at any depth, and the plain variables that every platform knows."""
    found = EnvironmentSettings({}, [], {})
    for name, path, text in settings_in(environ):
        try:
            if name == "PORT" and not is_port_number(environ[name]):
                raise ValueError(f"must be a port, a number from 0 to 65535, got {environ[name]!r}")  # noqa: TRY301
            value = parse_value(text, Settings, path)
            put(found.tree, path, value)
        except UnicodeError:
            found.unreadable[path] = "is not UTF-8"
        except ValueError as error:
            found.unreadable[path] = f"{full_name([name])} {error}"
        else:
            found.variables.append((path, name, value))
    return found


def settings_in(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(variable, path of the setting, text) of each variable that is one of the gateway's."""
    for name, path in PLAIN_VARIABLES.items():
        if environ.get(name):
            yield name, path, environ[name]
    if environ.get("PORT"):
        # As gunicorn itself does: whoever sets PORT wants to be reached from outside. What is no port is told as it is.
        yield "PORT", ("server", "bind"), f"0.0.0.0:{environ['PORT']}"
    # Shorter names first, so that a whole table never wipes out one of its own values.
    for name in sorted(environ, key=lambda one: (one.count("__"), one)):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and not is_kubernetes_link(name, environ[name]):
            yield name, tuple(name.removeprefix(PREFIX).lower().split("__")), environ[name]


def is_port_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and int(text) <= 65535


def is_name_of_a_setting(name: str) -> bool:
    """Whether a variable of that name configures the gateway."""
    return name in PLAIN_VARIABLES or name == "PORT" or name.startswith(PREFIX)


def is_kubernetes_link(name: str, text: str) -> bool:
    # GATEWAY_PORT=9000 is someone's mistake; Kubernetes writes tcp://10.0.0.1:9000.
    is_own_port = name == f"{PREFIX}PORT" and "://" not in text
    return KUBERNETES_LINK.fullmatch(name) is not None and not is_own_port


def put(tree: Tree, path: tuple[str, ...], value: Any) -> None:
    """Raises ValueError where a value stands in the way of a table."""
    for depth, key in enumerate(path[:-1], 1):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ValueError(f"can't be set, as {full_name(path[:depth])} is no table")  # noqa: TRY004 - a mistake as any other
    tree[path[-1]] = value


def parse_value(text: str, model: type[BaseModel], path: tuple[str, ...]) -> Any:
    """JSON where the setting is a list or a table, the text itself elsewhere (pydantic turns "5" into 5).

    Raises ValueError where it should be JSON and isn't, UnicodeError where it or its name is no text."""
    annotation: Any = model
    for key in path:
        key.encode()
        annotation = member(annotation, key)
    text.encode()
    if annotation is None or not takes_json(annotation, text):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        example = '["one", "two"]' if takes_list(annotation) else '{"name": "value"}'
        raise ValueError(f"must be JSON such as {example}: {error}") from None
    # JSON can spell what no text can hold.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def takes_json(annotation: Any, text: str) -> bool:
    leaves = alternatives(annotation)
    is_list = text.lstrip().startswith("[") and not BRACKETED_ADDRESS.match(text)
    if any(leaf in (str, SecretStr) for leaf in leaves) and not is_list:
        return False
    return takes_list(annotation) or any(
        get_origin(leaf) is dict or (isinstance(leaf, type) and issubclass(leaf, BaseModel)) for leaf in leaves
    )


def merge(below: Tree, above: Tree) -> Tree:
    """Tables are merged by key, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
