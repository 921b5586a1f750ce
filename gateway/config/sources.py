"""Where values come from: the built-in mapping ← a TOML file ← the environment, merged key by key."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from gateway.config.models import Settings
from gateway.errors import ConfigurationError

DEFAULTS_FILE = Path(__file__).with_name("defaults.toml")
PREFIX = "GATEWAY_"
CONFIG_VARIABLE = "GATEWAY_CONFIG"
PLAIN_VARIABLES = {"REDIS_URL": ("redis_url",), "WEB_CONCURRENCY": ("server", "workers")}

Tree = dict[str, Any]


def merged_sources(environ: Mapping[str, str]) -> tuple[Tree, list[str]]:
    """The unvalidated settings of all sources, and the mistakes in variables that can't even be read.

    Raises ConfigurationError where there is no file to read, as nothing else is worth telling then."""
    from_file = read_file(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else {}
    from_environment, mistakes = read_environment(environ)
    merged: Tree = {}
    if merge(from_file, from_environment).get("default_services", True) not in (False, "false", "0", "no", "off"):
        merged = tomllib.loads(DEFAULTS_FILE.read_text())
    return merge(merge(merged, from_file), from_environment), mistakes


def read_file(path: str) -> Tree:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"{CONFIG_VARIABLE}: can't read {path!r}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{CONFIG_VARIABLE}: {path!r} is not TOML: {error}"]) from error


def read_environment(environ: Mapping[str, str]) -> tuple[Tree, list[str]]:
    """GATEWAY_<SECTION>__<KEY> at any depth, and the plain variables that every platform knows."""
    tree: Tree = {}
    mistakes = []
    for name, path in PLAIN_VARIABLES.items():
        if environ.get(name):
            put(tree, path, environ[name])
    if environ.get("PORT"):
        # As gunicorn itself does: whoever sets PORT wants to be reached from outside.
        put(tree, ("server", "bind"), f"0.0.0.0:{environ['PORT']}")
    # Shorter names first, so that a whole table never wipes out one of its own values.
    for name in sorted(environ, key=lambda one: one.count("__")):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            path = tuple(name.removeprefix(PREFIX).lower().split("__"))
            try:
                put(tree, path, parse_value(environ[name], Settings, path))
            except ValueError as error:
                mistakes.append(f"{'.'.join(path)}: {name} must be JSON: {error}")
    return tree, mistakes


def put(tree: Tree, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        child = tree.get(key)
        tree = child if isinstance(child, dict) else tree.setdefault(key, {})
    tree[path[-1]] = value


def parse_value(text: str, model: type[BaseModel], path: tuple[str, ...]) -> Any:
    """JSON where the setting is a list or a table, the text itself elsewhere (pydantic turns "5" into 5).

    Raises ValueError where it should be JSON and isn't."""
    annotation: Any = model
    for key in path:
        annotation = member(annotation, key)
    if annotation is None or not takes_json(annotation, text):
        return text
    return json.loads(text)


def member(annotation: Any, key: str) -> Any:
    """The type of `key` inside a model or a table; None where there is no such key (validation will say so)."""
    for one in alternatives(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            field = one.model_fields.get(key)
            return field.annotation if field else None
        if get_origin(one) is dict:
            return get_args(one)[1]
    return None


def alternatives(annotation: Any) -> list[Any]:
    """`X | None` → [X]; Annotated is looked through."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [leaf for one in get_args(annotation) for leaf in alternatives(one) if leaf is not type(None)]
    return [annotation]


def takes_json(annotation: Any, text: str) -> bool:
    leaves = alternatives(annotation)
    if any(leaf in (str, SecretStr) for leaf in leaves) and not text.lstrip().startswith("["):
        return False
    return any(
        get_origin(leaf) in (tuple, list, dict) or (isinstance(leaf, type) and issubclass(leaf, BaseModel))
        for leaf in leaves
    )


def merge(below: Tree, above: Tree) -> Tree:
    """Tables are merged by key, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
