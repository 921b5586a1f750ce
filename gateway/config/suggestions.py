"""The setting that a misspelt name was most likely meant to be."""

from __future__ import annotations

import re
from difflib import get_close_matches

from pydantic import BaseModel

from gateway.config.environment import CONFIG_VARIABLE
from gateway.config.key_paths import ANY, KeyPath, Tree, full_name, is_model, paths_below, type_at, variable_name

# Two names at least this similar count as one name and its misspelling, such as `jwt` and `jtw`. Names of several parts
# often begin with the same parts, so they must be more similar.
SIMILARITY, SIMILARITY_OF_SEVERAL_PARTS = 0.66, 0.85
# Settings whose variables have names without the prefix GATEWAY_.
PLAIN_NAMES: dict[KeyPath, str] = {("port",): "PORT", ("web_concurrency",): "WEB_CONCURRENCY"}


def suggestion(model: type[BaseModel], path: KeyPath, *, is_variable: bool) -> str:
    """The end of an error about a setting that does not exist: `; did you mean NAME?`, or empty if no name is similar.
    NAME is the name of a variable if a variable set the wrong setting."""
    if is_variable and (plain := PLAIN_NAMES.get(path)):
        return f"; did you mean {plain}?"
    found = closest(model, path) if all(str(key) for key in path) else None
    if found is None and is_variable and get_close_matches("_".join(map(str, path)), ["config"], 1, SIMILARITY):
        # The variable that names the file is not a setting of the file.
        return f"; did you mean {CONFIG_VARIABLE}?"
    if found is None or path[: len(found)] == found:
        return ""
    return f"; did you mean {variable_name(found) if is_variable else full_name(found)}?"


def similar_service(path: KeyPath, tree: Tree) -> str:
    """The end of an error about a missing setting of a service: `; did you mean services.NAME?`, if the name of the
    service is similar to that of another service; otherwise empty."""
    match path:
        case ("services", str(name), _) if isinstance(services := tree.get("services"), dict):
            near = get_close_matches(name, [other for other in services if other != name], 1, SIMILARITY)
            return f"; did you mean services.{near[0]}?" if near else ""
    return ""


def closest(model: type[BaseModel], path: KeyPath) -> KeyPath | None:
    """The path of the setting whose name is most similar; None if no name is similar enough."""
    words = "_".join(map(str, path))
    # First finds names with one underscore instead of two, or two instead of one: GATEWAY_JWT_SECRET,
    # GATEWAY_SERVICES_ORDERS__PREFIX. Long names are tried first: `services_orders_breaker_failures` is not the setting
    # `failures` of a service `orders_breaker`.
    for known in sorted(paths_below(model), key=lambda one: -len("".join(one))):
        if found := re.fullmatch("_".join(known).replace(ANY, "(.+)"), words):
            names = iter(found.groups())
            return tuple(next(names) if key == ANY else key for key in known)
    for depth in reversed(range(len(path))):
        if not is_model(table := type_at(model, path[:depth])):
            continue
        rest = "_".join(map(str, path[depth:]))
        names_of_settings = {"_".join(below): below for below in paths_below(table) if ANY not in below}
        near = get_close_matches(rest, names_of_settings, 1, SIMILARITY_OF_SEVERAL_PARTS)
        if depth == len(path) - 1:
            near = get_close_matches(rest, table.model_fields, 1, SIMILARITY) or near
        if near:
            return path[:depth] + names_of_settings[near[0]]
    return None
