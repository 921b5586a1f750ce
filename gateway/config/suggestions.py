"""What a misspelt name was most likely meant to be."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import BaseModel

from gateway.config.places import Place, full_name, variable_name
from gateway.config.setting_types import alternatives, is_model, member, takes_any_name, type_at

# Of two names that are as close as this, one is most likely the other, misspelt: `jtw` and `jwt`. Names of several
# parts begin with the same one, so they look closer than they are.
CLOSENESS, CLOSENESS_OF_SEVERAL_PARTS = 0.66, 0.85
# Variables that have no GATEWAY_ in front.
PLAIN_NAMES: dict[Place, str] = {("port",): "PORT", ("web_concurrency",): "WEB_CONCURRENCY"}


def suggestion(model: type[BaseModel], place: Place, *, is_variable: bool) -> str:
    """`; did you mean NAME?` for a setting that does not exist, or nothing where no name is like it. NAME is a variable
    where one set it."""
    if is_variable and (plain := PLAIN_NAMES.get(place)):
        return f"; did you mean {plain}?"
    found = closest(model, place) if all(str(part) for part in place) else None
    if found is None or found == place:
        return ""
    return f"; did you mean {variable_name(found) if is_variable else full_name(found)}?"


def closest(model: type[BaseModel], place: Place) -> Place | None:
    """The setting whose name is most like the one at `place`."""
    tables = [(place[:depth], type_at(model, place[:depth])) for depth in range(len(place))]
    known = [
        (table, "_".join(map(str, place[len(table) :])), joined_names(kind)) for table, kind in tables if is_model(kind)
    ]
    # Names with one underscore for two, or two for one: GATEWAY_JWT_SECRET, GATEWAY_REDIS__URL.
    for table, rest, names in known:
        if rest in names:
            return table + names[rest]
    # The same around the name of a service: GATEWAY_SERVICES_ORDERS__PREFIX, GATEWAY_SERVICES__ORDERS_PREFIX.
    for table, kind in tables:
        rest = "_".join(map(str, place[len(table) :]))
        if found := entry_of_a_free_table(kind, rest):
            return table + found
    if is_model(parent := tables[-1][1]) and (
        near := get_close_matches(str(place[-1]), parent.model_fields, 1, CLOSENESS)
    ):
        return (*place[:-1], near[0])
    for table, rest, names in reversed(known):
        if near := get_close_matches(rest, names, 1, CLOSENESS_OF_SEVERAL_PARTS):
            return table + names[near[0]]
    return None


def entry_of_a_free_table(kind: Any, words: str) -> Place | None:
    """`services_orders_prefix` → services.orders.prefix, and within the services' table `orders_prefix`."""
    starts: dict[str, Place] = {"": ()} if takes_any_name(kind) else {}
    if is_model(kind):
        starts = {f"{name}_": (name,) for name, field in kind.model_fields.items() if takes_any_name(field.annotation)}
    for start, place in starts.items():
        if not words.startswith(start):
            continue
        entry = words.removeprefix(start)
        names = joined_names(inner) if is_model(inner := member(type_at(kind, place), entry)) else {}
        for name in sorted(names, key=len, reverse=True):
            if entry.endswith(f"_{name}"):
                return (*place, entry.removesuffix(f"_{name}"), *names[name])
    return None


@cache
def joined_names(model: type[BaseModel]) -> dict[str, Place]:
    """The places of all settings with fixed names, by their parts joined by `_`."""
    return {"_".join(map(str, place)): place for place in fixed_places(model, ())}


def fixed_places(model: type[BaseModel], parent: Place) -> list[Place]:
    found: list[Place] = []
    for name, field in model.model_fields.items():
        found.append((*parent, name))
        for inner in alternatives(field.annotation):
            if is_model(inner):
                found += fixed_places(inner, (*parent, name))
    return found
