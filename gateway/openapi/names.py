"""Makes the names in the merged document. Each consists of the service's name and the name in the service's document,
so that it does not depend on other services."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]")  # in names of components (OpenAPI 3.1.1 4.8.7.1)
LIKE_A_SERVICE_WITH_UNDERSCORES = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*\.")


def prefixed(service: str, name: str) -> str:
    """The name, preceded by the name of its service: `devices_Device`. Two different pairs never give the same result.

    With an underscore alone, service `a` with `b_C` and service `a_b` with `C` would. So a dot follows a service that
    has an underscore (`a_b.C`). Then service `a` with `b.C` would give `a_b.C`, too. So a hyphen follows the service if
    the name begins like `b.` (`a-b.C`)."""
    if "_" in service:
        return f"{service}.{name}"
    separator = "-" if LIKE_A_SERVICE_WITH_UNDERSCORES.match(name) else "_"
    return f"{service}{separator}{name}"


def tag_name(service: str, tag: str) -> str:
    """The new name of a tag: `devices: lamps`, or just `devices` if the tag has the service's name. It has this form
    for people, who read it. It is unique, because no service's name has a colon."""
    return service if tag.casefold() == service else f"{service}: {tag}"


class UniqueNames:
    """Assigns names in the merged document to one service's components or operations: one name per key."""

    def __init__(self, service: str, *, allow_any_characters: bool = False) -> None:
        self._service = service
        # Names of operations may have any characters.
        self._allow_any_characters = allow_any_characters
        self._assigned: dict[object, str] = {}
        self._last_numbers: dict[str, int] = {}
        self._taken: set[str] = set()

    def reserve(self, names: Iterable[str]) -> None:
        """Assigns a name to each of these keys, which are the names in the service's document. Names without forbidden
        characters come first: otherwise `a b`, which becomes `a_b`, could take the name of an existing `a_b`."""
        for name in sorted(names, key=lambda name: not name or NOT_ALLOWED.search(name) is not None):
            self.assign(name, name)

    def assign(self, key: object, suggestion: str) -> str:
        """The name of this key. If it has none yet, it gets a new one that resembles the suggestion."""
        if key not in self._assigned:
            allowed = suggestion if self._allow_any_characters else NOT_ALLOWED.sub("_", suggestion) or "_"
            name = candidate = prefixed(self._service, allowed)
            while candidate in self._taken:
                # Continues from the last number: searching from 1 each time takes quadratic time for equal names.
                self._last_numbers[name] = self._last_numbers.get(name, 1) + 1
                candidate = f"{name}_{self._last_numbers[name]}"
            self._taken.add(candidate)
            self._assigned[key] = candidate
        return self._assigned[key]

    def get(self, key: object) -> str | None:
        """The name of this key; None if it has none."""
        return self._assigned.get(key)


def suggested_name(tokens: Sequence[str]) -> str:
    """A readable name for a part that is referred to by its location: the last words of its pointer."""
    words = [word for token in tokens for word in re.findall(r"[A-Za-z0-9.-]+", token)]
    return "_".join(words[-6:])[-100:] or "part"
