"""Where each value of the configuration comes from, for `flask config` and for messages about mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.config.places import Place, full_name


@dataclass(frozen=True, slots=True)
class Origin:
    """`name` is the file's path or the variable's name; empty for defaults and the built-in mapping."""

    kind: Literal["default", "built-in mapping", "file", "variable", "secret file"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


DEFAULT = Origin("default")


class Origins:
    """The origins of the values that were given, by their places."""

    def __init__(self, by_place: Mapping[Place, Origin] | None = None) -> None:
        self._by_place = dict(by_place or {})

    def add(self, tree: Any, origin: Origin, place: Place = ()) -> None:
        """Notes the origin of all values in the tree, which replace what was at their places before."""
        self._by_place |= dict.fromkeys(places_in(tree, place), origin)

    def add_below(self, tree: Any, origin: Origin) -> None:
        """The same for values that replace nothing: what has an origin already keeps it."""
        self._by_place = dict.fromkeys(places_in(tree), origin) | self._by_place

    @property
    def variables(self) -> set[str]:
        """The names of the variables that set anything."""
        return {origin.name for origin in self._by_place.values() if origin.kind == "variable"}

    def of(self, place: Place) -> Origin:
        """The origin of the value at that place, or of the list or table that it is in."""
        steps = (place[:length] for length in range(len(place), 0, -1))
        return next((self._by_place[one] for one in steps if one in self._by_place), DEFAULT)

    def mended_at(self, name: str) -> tuple[Place, Origin] | None:
        """The variable, or the file of a secret, that set what has this name: the setting itself, what it is part of,
        or parts of it. None where the configuration's file did, or nothing."""
        given = [
            (full_name(place), place, origin)
            for place, origin in self._by_place.items()
            if origin.kind in ("variable", "secret file")
        ]
        outer = [entry for entry in given if is_within(name, entry[0])]
        found = sorted(outer, key=lambda entry: -len(entry[0])) or [one for one in given if is_within(one[0], name)]
        return found[0][1:] if found else None


def is_within(name: str, outer: str) -> bool:
    return name == outer or name.startswith((f"{outer}.", f"{outer}["))


def places_in(tree: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all values in a tree. A list is one value; so is an empty table."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from places_in(value, (*place, key))
    else:
        yield place


def leaves_of(tree: Any, place: Place = ()) -> Iterable[tuple[Place, Any]]:
    """The values in a tree with their places, lists of tables taken apart."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves_of(value, (*place, key))
    elif isinstance(tree, list) and any(isinstance(one, dict) for one in tree):
        for index, one in enumerate(tree):
            yield from leaves_of(one, (*place, index))
    else:
        yield place, tree
