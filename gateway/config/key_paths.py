"""The tree of settings, before it is validated, and the paths of settings in it: their names and types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

KeyPath = tuple[int | str, ...]
"""The keys from the root to a setting; in lists, indices: `("services", "rules", "targets", 1)`."""

Tree = dict[str, Any]
"""Settings as in the TOML file."""

ANY = "*"
"""Stands for a name that is chosen freely, such as that of a service."""


def full_name(path: KeyPath) -> str:
    """The name of a setting as in errors: `services.rules.targets[1]`. Keys that can't be bare keys in TOML are
    quoted."""
    name = ""
    for key in path:
        if isinstance(key, int):
            name += f"[{key}]"
        else:
            name += "." * bool(name) + (key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key))
    return name


def variable_name(path: KeyPath) -> str:
    """The name of the variable that sets this setting: `GATEWAY_SERVICES__RULES__TARGETS` for
    `services.rules.targets`."""
    return "GATEWAY_" + "__".join(str(key).upper() for key in path)


def merge(below: Tree, above: Tree) -> Tree:
    """Merges two trees. Tables are merged by key; any other value of `above` replaces the value of `below`."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def descend(tree: Any, path: Iterable[int | str]) -> Any:
    """The value at a path; None if there is none."""
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def type_at(annotation: Any, path: KeyPath) -> Any:
    """The type of the setting at a path below a model; None if there is no such setting."""
    for key in path:
        annotation = next(filter(None, (member(one, key) for one in alternatives(annotation))), None)
    return annotation


def member(one: Any, key: int | str) -> Any:
    """The type of `key` in a model, a table or a list; None if there is no such key."""
    if is_model(one):
        field = one.model_fields.get(str(key))
        return field.annotation if field else None
    if get_origin(one) is dict:
        return get_args(one)[1]
    return get_args(one)[0] if get_origin(one) is tuple and isinstance(key, int) else None


def paths_below(annotation: Any) -> Iterator[tuple[str, ...]]:
    """The paths of all settings below a type, without those in lists. ANY stands for a name that users choose."""
    for one in alternatives(annotation):
        if is_model(one):
            for name, field in one.model_fields.items():
                yield (name,)
                yield from ((name, *below) for below in paths_below(field.annotation))
        elif get_origin(one) is dict:
            yield from ((ANY, *below) for below in paths_below(get_args(one)[1]))


def alternatives(annotation: Any) -> list[Any]:
    """The types of a union without None, and without what Annotated adds: `Annotated[X | None, …]` → [X]."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [leaf for one in get_args(annotation) for leaf in alternatives(one) if leaf is not type(None)]
    return [annotation]


def is_model(one: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(one, type) and issubclass(one, BaseModel)


def accepts_list(annotation: Any) -> bool:
    return any(get_origin(one) is tuple for one in alternatives(annotation))


def accepts_table(annotation: Any) -> bool:
    return any(is_model(one) or get_origin(one) is dict for one in alternatives(annotation))
