"""Where each value of the configuration comes from, for `flask config` and for errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gateway.config.key_paths import KeyPath, full_name


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from. `name` is the path of the file or the name of the variable; empty for defaults and
    built-in services."""

    kind: Literal["default", "built-in service", "file", "variable", "secret file"]
    name: str = ""


DEFAULT = Origin("default")


class Origins:
    """The origins of all values that are not defaults, by their paths."""

    def __init__(self) -> None:
        self._by_path: dict[KeyPath, Origin] = {}

    def add(self, tree: Any, origin: Origin, path: KeyPath = ()) -> None:
        """Records the origin of all values in a tree. Values of this tree override the values whose origins are
        recorded already."""
        self._by_path |= dict.fromkeys(paths_in(tree, path), origin)

    def add_below(self, tree: Any, origin: Origin) -> None:
        """Records the origin of all values in a tree. Values whose origins are recorded already override the values of
        this tree."""
        self._by_path = dict.fromkeys(paths_in(tree), origin) | self._by_path

    @property
    def variables(self) -> set[str]:
        """The names of the variables that set a value."""
        return {origin.name for origin in self._by_path.values() if origin.kind == "variable"}

    def of(self, path: KeyPath) -> Origin:
        """The origin of the value at a path, or of the list or table that contains it."""
        steps = (path[:length] for length in range(len(path), 0, -1))
        return next((self._by_path[one] for one in steps if one in self._by_path), DEFAULT)

    def outside_the_file(self, name: str) -> tuple[KeyPath, Origin] | None:
        """The variable or secret file that set the setting `name`, and the path that it set. The path may also be that
        of a list or table that contains the setting, or of a part of it. None if the configuration file set it, or
        nothing did."""
        given = [
            (full_name(path), path, origin)
            for path, origin in self._by_path.items()
            if origin.kind in ("variable", "secret file")
        ]
        containing = [entry for entry in given if is_within(name, entry[0])]
        found = sorted(containing, key=lambda entry: -len(entry[0])) or [
            one for one in given if is_within(one[0], name)
        ]
        return found[0][1:] if found else None


def is_within(name: str, outer: str) -> bool:
    return name == outer or name.startswith((f"{outer}.", f"{outer}["))


def paths_in(tree: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all values in a tree. A list counts as one value, and so does an empty table."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from paths_in(value, (*path, key))
    else:
        yield path


def leaves_of(tree: Any, path: KeyPath = ()) -> Iterable[tuple[KeyPath, Any]]:
    """The values in a tree with their paths. Lists of tables are descended into, unlike in `paths_in`."""
    if isinstance(tree, list) and any(isinstance(one, dict) for one in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves_of(value, (*path, key))
    else:
        yield path, tree
