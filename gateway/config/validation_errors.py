"""The mistakes in a configuration: each once, by its full name, in the words of a configuration file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.config.origins import Origins
from gateway.config.places import Place, full_name
from gateway.config.suggestions import suggestion
from gateway.config.validators import STAND_IN_SECRET

# pydantic's words are Python's.
MESSAGES = {
    "extra_forbidden": "there is no such setting",
    "missing": "is missing",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "string_type": "must be a text",
    "path_type": "must be a text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}

# A key source that is wrong is still the one that was meant, and algorithms must fit it.
KEY_SOURCES = {
    "secret": STAND_IN_SECRET,
    "public_key_file": "/stand-in",
    "jwks_url": "https://stand-in.invalid/",
}


def printable_name(name: str) -> str:
    return name if name.isascii() and name.isprintable() else json.dumps(name)


class ValidationErrors:
    """What is wrong so far; it begins with settings that could not even be read, by their places. `model` is what is
    validated, `origins` where its values come from."""

    def __init__(self, unreadable: Mapping[Place, str], origins: Origins, model: type[BaseModel]) -> None:
        self._origins = origins
        self._model = model
        self._lines: list[str] = []
        self._unreadable = [f"{full_name(place)}: {message}" for place, message in unreadable.items()]
        self._told: set[Place] = set(unreadable)
        self._replaced: set[Place] = set()

    @property
    def lines(self) -> list[str]:
        return self._unreadable + self._lines

    def _lines_with_help(self, place: Place, item: ErrorDetails) -> Iterator[str]:
        """What is wrong there, the name that was most likely meant, and the variable that is to be mended."""
        for line in lines_of(place, item):
            source = self._origins.mended_at(line.partition(": ")[0])
            proposal = ""
            if item["type"] in ("extra_forbidden", "model_type", "model_attributes_type"):
                meant = source[0] if source and item["type"] == "extra_forbidden" else place
                proposal = suggestion(self._model, meant, is_variable=source is not None)
            yield f"{line}{proposal}{f' (from {printable_name(source[1].name)})' if source else ''}"

    def add_and_prune(self, found: Iterable[ErrorDetails], tree: dict[str, Any]) -> bool:
        """Adds what validation found in the tree and takes it out; False where there was nothing left to take out."""
        items = [(place_of(item), item) for item in found]
        here = {place for place, _ in items}
        for place, item in items:
            if not self._is_told(place, item["type"], here):
                self._lines += self._lines_with_help(place, item)
        self._told |= here
        pruned = [self._prune(tree, place, item["type"]) for place, item in items]
        return any(pruned)

    def _is_told(self, place: Place, kind: str, here: set[Place]) -> bool:
        """Whether it is but the trace of others: what was taken out is missing, what lost all it had is empty."""
        if place in self._told:
            return True
        return kind in ("missing", "too_short", "no_services") and any(
            other != place and other[: len(place)] == place for other in self._told | here
        )

    def _prune(self, tree: dict[str, Any], place: Place, kind: str) -> bool:
        """Takes the setting at `place` out of the tree, with its table where the table is nothing without it."""
        if place not in self._replaced and put_stand_in(tree, place):
            self._replaced.add(place)
            return True
        steps = list(place[:-1] if kind == "missing" else place)
        # A list is one value: without one of its items it would be another one.
        while steps and not isinstance(parent := descend(tree, steps[:-1]), dict):
            steps.pop()
        if not steps or steps[-1] not in parent:
            return False
        del parent[steps[-1]]
        return True


def place_of(item: ErrorDetails) -> Place:
    """Where the setting is. For the name of a table's entry pydantic adds a mark of its own."""
    place = item["loc"]
    return place[:-1] if place[-1:] == ("[key]",) and item["type"] != "extra_forbidden" else place


def put_stand_in(tree: dict[str, Any], place: Place) -> bool:
    """Puts what is right in the place of a setting that others beside it need, so that they are still looked at."""
    match place:
        case ("services", _, "targets", *_):
            if isinstance(service := descend(tree, place[:2]), dict):
                service["targets"] = ["https://stand-in.invalid"]
                return True
        case ("services", _, "routes", int(index), "path"):
            if isinstance(route := descend(tree, place[:4]), dict):
                route["path"] = f"{descend(tree, [*place[:2], 'prefix'])}/stand-in-{index}"
                return True
        case ("jwt", *_, str(key)) if key in KEY_SOURCES and isinstance(table := descend(tree, place[:-1]), dict):
            table[key] = KEY_SOURCES[key]
            return True
        case ("jwt", "issuers", int(index), "issuer") if isinstance(table := descend(tree, place[:-1]), dict):
            table["issuer"] = f"stand-in-{index}"
            return True
        case ("services", str(name)):
            if isinstance(service := descend(tree, place), dict):
                tree["services"][name] = {key: service[key] for key in ("prefix", "targets") if key in service}
                return True
    return False


def descend(tree: Any, steps: Iterable[int | str]) -> Any:
    for step in steps:
        try:
            tree = tree[step]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def lines_of(place: Place, item: ErrorDetails) -> Iterator[str]:
    name = full_name(place)
    for line in message_of(item).split("\n"):
        # A check over several settings starts with the name of the one that it means.
        if line.startswith("services"):
            yield line
        elif re.match(r"[a-z_]+(\[\d+\])?(\.[a-z_]+)*: ", line):
            yield f"{name}.{line}" if name else line
        else:
            yield f"{name}: {line}" if name else line


def message_of(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind in MESSAGES:
        return MESSAGES[kind]
    message = item["msg"].replace("Input should be", "must be")
    return message[0].lower() + message[1:]
