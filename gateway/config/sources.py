"""Where values come from: the built-in mapping ← a TOML file ← the environment, merged key by key."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from gateway.config.mistakes import Place, full_name
from gateway.config.models import Settings
from gateway.errors import ConfigurationError

DEFAULTS_FILE = Path(__file__).with_name("defaults.toml")
PREFIX = "GATEWAY_"
CONFIG_VARIABLE = "GATEWAY_CONFIG"
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


def merged_sources(environ: Mapping[str, str]) -> tuple[Tree, dict[Place, str]]:
    """The unvalidated settings of all sources; and what is wrong with those that can't even be read, by their places.

    Raises ConfigurationError where there is no file to read, as nothing else is worth telling then."""
    from_file = read_file(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else {}
    from_environment, unreadable = read_environment(environ)
    given = merge(from_file, from_environment)
    return merge(built_in(given.get("default_services", True)), given), unreadable


def built_in(wanted: Any) -> Tree:
    """The built-in mapping, if it is `wanted`. That is read as validation reads it, which tells if it is a mistake."""
    try:
        is_wanted = BOOLEAN.validate_python(wanted)
    except ValidationError:
        is_wanted = True
    return tomllib.loads(DEFAULTS_FILE.read_text(encoding="utf-8")) if is_wanted else {}


def read_file(path: str) -> Tree:
    try:
        # Some editors put a byte order mark in front.
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError([f"{CONFIG_VARIABLE}: can't read {path!r}: {error.strerror}"]) from error
    # Beside TOMLDecodeError: what decoding, int() and nesting without end raise.
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{CONFIG_VARIABLE}: {path!r} is not TOML: {error}"]) from error


def read_environment(environ: Mapping[str, str]) -> tuple[Tree, dict[Place, str]]:
    """GATEWAY_<SECTION>__<KEY> at any depth, and the plain variables that every platform knows."""
    tree: Tree = {}
    unreadable: dict[Place, str] = {}
    for name, path, text in settings_in(environ):
        try:
            put(tree, path, parse_value(text, Settings, path))
        except UnicodeError:
            unreadable[path] = "is not UTF-8"
        except ValueError as error:
            unreadable[path] = f"{full_name([name])} {error}"
    return tree, unreadable


def settings_in(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(variable, path of the setting, text) of each variable that is one of the gateway's."""
    for name, path in PLAIN_VARIABLES.items():
        if environ.get(name):
            yield name, path, environ[name]
    if environ.get("PORT"):
        # As gunicorn itself does: whoever sets PORT wants to be reached from outside.
        yield "PORT", ("server", "bind"), f"0.0.0.0:{environ['PORT']}"
    # Shorter names first, so that a whole table never wipes out one of its own values.
    for name in sorted(environ, key=lambda one: (one.count("__"), one)):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and not is_kubernetes_link(name, environ[name]):
            yield name, tuple(name.removeprefix(PREFIX).lower().split("__")), environ[name]


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
    is_list = text.lstrip().startswith("[") and not BRACKETED_ADDRESS.match(text)
    if any(leaf in (str, SecretStr) for leaf in leaves) and not is_list:
        return False
    return takes_list(annotation) or any(
        get_origin(leaf) is dict or (isinstance(leaf, type) and issubclass(leaf, BaseModel)) for leaf in leaves
    )


def takes_list(annotation: Any) -> bool:
    return any(get_origin(leaf) in (tuple, list) for leaf in alternatives(annotation))


def merge(below: Tree, above: Tree) -> Tree:
    """Tables are merged by key, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
