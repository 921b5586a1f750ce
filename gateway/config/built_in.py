"""The built-in mapping, and how what is configured goes over it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.origins import Origin, Origins

DEFAULTS_FILE = Path(__file__).with_name("defaults.toml")

Tree = dict[str, Any]


def built_in_mapping() -> Tree:
    return tomllib.loads(DEFAULTS_FILE.read_text(encoding="utf-8"))


def move_and_add_routes(built_in: Tree, given: Tree, origins: Origins) -> None:
    """Prepares both for their merge: built-in routes follow the prefix that is configured for their service, and stay
    beside the routes that are configured, but for methods of paths that these have. The configured ones are first, so
    that mistakes name them by the numbers that they have in the file."""
    for name, service in built_in["services"].items():
        own = given.get("services", {}) if isinstance(given.get("services"), dict) else {}
        own = own.get(name)
        if "routes" not in service or not isinstance(own, dict):
            continue
        if isinstance(prefix := own.get("prefix"), str):
            for route in service["routes"]:
                route["path"] = prefix.rstrip("/") + route["path"].removeprefix(service["prefix"])
        if isinstance(routes := own.get("routes"), list):
            left = [route for one in service["routes"] for route in not_taken_over(one, routes)]
            for index, route in enumerate(left, len(routes)):
                origins.add(route, Origin("built-in mapping"), ("services", name, "routes", index))
            own["routes"] = [*routes, *left]


def not_taken_over(route: Tree, configured: list[Any]) -> Iterator[Tree]:
    """The built-in route with those of its methods that no configured route of the same path has."""
    methods = list(route["methods"])
    for one in configured:
        if isinstance(one, dict) and one.get("path") == route["path"]:
            taken = one.get("methods") or methods
            if isinstance(taken, list | tuple):
                names = {str(method).upper() for method in taken}
                methods = [method for method in methods if method not in names]
    if methods:
        yield {**route, "methods": methods}
