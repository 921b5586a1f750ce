"""Names in the merged document: each made of its service's name and its own, so that none depends on other services."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]")  # in the names of components (OpenAPI 3.1.1 4.8.7.1)
LIKE_A_LONGER_SERVICE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\.")


def prefixed(service: str, name: str) -> str:
    """`devices_Device`. Two pairs never make one name, whatever services there are: `a` with `b_C` and `a_b` with `C`
    would, so a service with an underscore has a dot between (`a_b.C`), and what could be taken for such a name has a
    hyphen (`a` with `b.C`: `a-b.C`)."""
    if "_" in service:
        return f"{service}.{name}"
    separator = "-" if LIKE_A_LONGER_SERVICE.match(name) else "_"
    return f"{service}{separator}{name}"


def tag_name(service: str, tag: str) -> str:
    """`devices: lamps`; just `devices` where the tag is the service's own name again. Tags are read by people, and no
    service's name has a colon."""
    return service if tag.casefold() == service else f"{service}: {tag}"


class Names:
    """The names of one service's components or operations, in the merged document: each of its names, or key, has
    one."""

    def __init__(self, service: str, *, are_free: bool = False) -> None:
        self._service = service
        # Names of operations may have any character, those of components may not.
        self._are_free = are_free
        self._given: dict[object, str] = {}
        self._numbers: dict[str, int] = {}
        self._taken: set[str] = set()

    def reserve(self, names: Iterable[str]) -> None:
        """Gives all of these, those that are right as they are first: a name that had to be changed must not take
        another's place."""
        ordered = sorted(names, key=lambda name: not name or NOT_ALLOWED.search(name) is not None)
        for name in ordered:
            self.give(name, name)

    def give(self, key: object, wish: str) -> str:
        """The name under this key; where it has none yet, one that is like `wish` and new."""
        if key not in self._given:
            name = prefixed(self._service, wish if self._are_free else NOT_ALLOWED.sub("_", wish) or "_")
            candidate = name
            while candidate in self._taken:
                # Goes on where it ended the last time: there may be very many that are alike.
                self._numbers[name] = self._numbers.get(name, 1) + 1
                candidate = f"{name}_{self._numbers[name]}"
            self._taken.add(candidate)
            self._given[key] = candidate
        return self._given[key]

    def given(self, key: object) -> str | None:
        """The name under this key, if it has one."""
        return self._given.get(key)


def wish_for(tokens: Sequence[str]) -> str:
    """A readable name for a part that is referred to by where it stands: the last words of its pointer."""
    words = [word for token in tokens for word in re.findall(r"[A-Za-z0-9.-]+", token)]
    return "_".join(words[-6:])[-100:] or "part"
