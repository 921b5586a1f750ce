"""The built-in services, and how they are combined with configured ones."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.key_paths import Tree, merge
from gateway.config.origins import Origin, Origins

FILE = Path(__file__).with_suffix(".toml")
ORIGIN = Origin("built-in service")


def built_in_services() -> Tree:
    """The built-in services: a table `services`, as in the TOML file."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def over_built_in_services(given: Tree, origins: Origins) -> Tree:
    """The configured settings, merged over the built-in services."""
    built_in = built_in_services()
    combine_routes(built_in, given, origins)
    origins.add_below(built_in, ORIGIN)
    return merge(built_in, given)


def combine_routes(built_in: Tree, given: Tree, origins: Origins) -> None:
    """Prepares both trees for their merge, which replaces lists as a whole.

    The paths of built-in routes are moved below the configured prefix of their service. The routes are then appended to
    the service's configured routes, which come first so that errors show the same indices as the file. A configured
    route replaces a built-in route of the same path for the methods that it names."""
    for name, service in built_in["services"].items():
        services = given.get("services")
        own = services.get(name) if isinstance(services, dict) else None
        if "routes" not in service or not isinstance(own, dict):
            continue
        if isinstance(prefix := own.get("prefix"), str):
            for route in service["routes"]:
                route["path"] = prefix.rstrip("/") + route["path"].removeprefix(service["prefix"])
        if isinstance(routes := own.get("routes"), list):
            remaining = [route for one in service["routes"] for route in without_replaced_methods(one, routes)]
            for index, route in enumerate(remaining, len(routes)):
                origins.add(route, ORIGIN, ("services", name, "routes", index))
            own["routes"] = [*routes, *remaining]


def without_replaced_methods(route: Tree, configured: list[Any]) -> Iterator[Tree]:
    """Yields the built-in route without the methods of configured routes of the same path; yields nothing if no method
    is left."""
    methods = list(route["methods"])
    for one in configured:
        if isinstance(one, dict) and one.get("path") == route["path"]:
            replaced = one.get("methods") or methods
            if isinstance(replaced, list | tuple):
                names = {str(method).upper() for method in replaced}
                methods = [method for method in methods if method not in names]
    if methods:
        yield {**route, "methods": methods}
