"""Settings from environment variables: GATEWAY_SECTION__KEY, and REDIS_URL, PORT and WEB_CONCURRENCY."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from gateway.config.key_paths import (
    KeyPath,
    Tree,
    accepts_list,
    accepts_table,
    alternatives,
    full_name,
    merge,
    type_at,
)
from gateway.config.models import Settings
from gateway.config.origins import Origin, Origins

PREFIX = "GATEWAY_"
CONFIG_VARIABLE = "GATEWAY_CONFIG"
PLAIN_VARIABLES: dict[str, tuple[str, ...]] = {
    "REDIS_URL": ("redis_url",),
    "PORT": ("server", "bind"),
    "WEB_CONCURRENCY": ("server", "workers"),
}
# The beginning of a string such as [::1]:8000. Any other value that begins with a bracket is a list.
BRACKETED_ADDRESS = re.compile(r"\[[^\"\[\]]*\]:")
# Variables that Kubernetes sets in containers for a Service named `gateway` or `gateway-…`.
KUBERNETES_LINK = re.compile(
    PREFIX + r"(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_PROTO|_PORT|_ADDR)?)?)"
)


def read_environment(environ: Mapping[str, str], tree: Tree, origins: Origins) -> dict[KeyPath, str]:
    """Sets the values of variables in the tree, and records the variables as their origins. Returns an error for each
    value that can't be read or set; the keys are the paths of the settings."""
    errors: dict[KeyPath, str] = {}
    for name, path, text in settings_in(environ):
        try:
            value = parse_value(name, path, text)
            put(tree, path, value)
        except UnicodeError:
            errors[path] = "is not UTF-8"
        except ValueError as error:
            errors[path] = f"{full_name((name,))} {error}"
        else:
            origins.add(value, Origin("variable", name), path)
    return errors


def settings_in(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """The variable, the path and the text of each setting in the environment."""
    for name, path in PLAIN_VARIABLES.items():
        # Platforms set a variable to an empty text to unset it.
        if environ.get(name):
            yield name, path, environ[name]
    # A variable for a table comes before the variables for values in the table, so that it does not overwrite them.
    for name in sorted(environ, key=lambda one: (one.count("__"), one)):
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE and not is_kubernetes_link(name, environ[name]):
            yield name, tuple(name.removeprefix(PREFIX).lower().split("__")), environ[name]


def is_name_of_a_setting(name: str) -> bool:
    """Whether a variable of that name configures the gateway."""
    return name in PLAIN_VARIABLES or name.startswith(PREFIX)


def is_kubernetes_link(name: str, text: str) -> bool:
    # Kubernetes sets GATEWAY_PORT=tcp://10.0.0.1:9000. GATEWAY_PORT=9000 is not from Kubernetes: a user has written it
    # and means PORT.
    is_plain_port = name == f"{PREFIX}PORT" and "://" not in text
    return KUBERNETES_LINK.fullmatch(name) is not None and not is_plain_port


def put(tree: Tree, path: tuple[str, ...], value: Any) -> None:
    """Sets a value in the tree. Raises ValueError if a part of the path is not a table."""
    *tables, name = path
    for depth, key in enumerate(tables, 1):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise ValueError(f"can't be set: {full_name(path[:depth])} is not a table")  # noqa: TRY004 - an error of a setting
    tree |= merge(tree, {name: value})


def parse_value(name: str, path: KeyPath, text: str) -> Any:
    """Parses JSON if the setting is a list or table; otherwise returns the text, which validation converts to a number
    or boolean if needed.

    Raises ValueError if the text can't be read, UnicodeError if the text or the variable's name is not UTF-8."""
    "".join(map(str, path)).encode()
    text.encode()
    if name == "PORT":
        if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
            raise ValueError(f"must be a port, a number from 0 to 65535, got {text!r}")
        # Listens on all addresses, as gunicorn does: platforms set PORT where the gateway is to be reached from
        # outside.
        return f"0.0.0.0:{text}"
    annotation = type_at(Settings, path)
    if annotation is None or not is_json(annotation, text):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        example = '["one", "two"]' if accepts_list(annotation) else '{"name": "value"}'
        raise ValueError(f"must be JSON such as {example}: {error}") from None
    # Raises UnicodeError for surrogates: JSON can express them, but they are not characters.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def is_json(annotation: Any, text: str) -> bool:
    """Whether the text is JSON for a setting of this type. If the setting may also be a string, only a list is JSON."""
    is_list = text.lstrip().startswith("[") and not BRACKETED_ADDRESS.match(text)
    if any(one in (str, SecretStr) for one in alternatives(annotation)) and not is_list:
        return False
    return accepts_list(annotation) or accepts_table(annotation)
