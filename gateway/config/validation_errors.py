"""The errors in a configuration: each once, with the full name of the setting, in the terms of a TOML file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.config.key_paths import KeyPath, Tree, descend, full_name
from gateway.config.origins import Origins
from gateway.config.suggestions import similar_service, suggestion
from gateway.config.validators import SUBSTITUTE_SECRET

# pydantic's own messages use Python's terms.
MESSAGES = {
    kind: message
    for message, kinds in {
        "there is no such setting": "extra_forbidden",
        "is missing": "missing",
        "must not be empty": "too_short string_too_short",
        "must be a list": "tuple_type",
        "must be a table": "dict_type model_type",
        "must be a string": "string_type path_type",
        "must be true or false": "bool_type bool_parsing",
        "must be an integer": "int_type int_parsing int_from_float",
        "must be a number": "float_type float_parsing",
    }.items()
    for kind in kinds.split()
}


class ValidationErrors:
    """Collects errors over several rounds of validation. `unreadable` has the errors of values that could not even be
    read."""

    def __init__(self, unreadable: Mapping[KeyPath, str], origins: Origins, model: type[BaseModel]) -> None:
        self._origins = origins
        self._model = model
        self.lines = [f"{full_name(path)}: {message}" for path, message in unreadable.items()]
        self._reported: set[KeyPath] = set(unreadable)
        self._substituted: set[KeyPath] = set()

    def add_and_prune(self, found: Iterable[ErrorDetails], tree: Tree) -> bool:
        """Adds the errors of a round, and removes the invalid values from the tree. Returns False if no value could be
        removed."""
        items = [(path_of(item), item) for item in found]
        here = {path for path, _ in items}
        for path, item in items:
            if not self._is_consequence(path, item["type"], here):
                self.lines += self._lines_with_help(path, item, tree)
        self._reported |= here
        pruned = [self._prune(tree, path, item["type"]) for path, item in items]
        return any(pruned)

    def _is_consequence(self, path: KeyPath, kind: str, here: set[KeyPath]) -> bool:
        """Whether an error only follows from another one: a value that was removed is missing, or its list or table has
        become empty."""
        if path in self._reported:
            return True
        return kind in ("missing", "too_short", "no_services") and any(
            other != path and other[: len(path)] == path for other in self._reported | here
        )

    def _lines_with_help(self, path: KeyPath, item: ErrorDetails, tree: Tree) -> Iterator[str]:
        """The lines of the error. Each adds the name that was most likely meant, and the variable or secret file to
        correct."""
        for line in lines_of(path, item):
            source = self._origins.outside_the_file(line.partition(": ")[0])
            proposal = ""
            if item["type"] in ("extra_forbidden", "model_type", "model_attributes_type"):
                given = source[0] if source and item["type"] == "extra_forbidden" else path
                proposal = suggestion(self._model, given, is_variable=source is not None)
            elif item["type"] == "missing":
                proposal = similar_service(path, tree)
            yield f"{line}{proposal}{f' (from {printable(source[1].name)})' if source else ''}"

    def _prune(self, tree: Tree, path: KeyPath, kind: str) -> bool:
        """Removes an invalid value from the tree, or replaces it with a substitute. If a required value is missing,
        removes its table. False if there is nothing to remove."""
        if path not in self._substituted and put_substitute(tree, path):
            self._substituted.add(path)
            return True
        steps = list(path[:-1] if kind == "missing" else path)
        # A list is removed as a whole: without one of its items it would be a different list.
        while steps and not isinstance(parent := descend(tree, steps[:-1]), dict):
            steps.pop()
        if not steps or steps[-1] not in parent:
            return False
        del parent[steps[-1]]
        return True


def path_of(item: ErrorDetails) -> KeyPath:
    """The path of the setting. pydantic appends `[key]` if the error is in the name of an entry."""
    path = item["loc"]
    return path[:-1] if path[-1:] == ("[key]",) and item["type"] != "extra_forbidden" else path


def put_substitute(tree: Tree, path: KeyPath) -> bool:
    """Replaces an invalid value with a valid one if the checks of other settings need a value here. Returns False if no
    check does."""
    value: Any
    match path:
        case ("services", _, "targets", *_):
            path, value = path[:3], ["https://substitute.invalid"]
        case ("services", _, "routes", int(index), "path"):
            value = f"{descend(tree, [*path[:2], 'prefix'])}/substitute-{index}"
        case ("services", str()) if isinstance(service := descend(tree, path), dict):
            value = {key: service[key] for key in ("prefix", "targets") if key in service}
        case ("jwt", "issuers", int(index), "issuer"):
            value = f"substitute-{index}"
        # An invalid secret, key file or JWKS URL gets a substitute of the same kind: the allowed `algorithms` depend on
        # the kind of key.
        case ("jwt", *_, "secret"):
            value = SUBSTITUTE_SECRET
        case ("jwt", *_, "public_key_file"):
            value = "/substitute"
        case ("jwt", *_, "jwks_url"):
            value = "https://substitute.invalid/"
        case _:
            return False
    if not isinstance(table := descend(tree, path[:-1]), dict):
        return False
    table[path[-1]] = value
    return True


def lines_of(path: KeyPath, item: ErrorDetails) -> Iterator[str]:
    name = full_name(path)
    for line in message_of(item).split("\n"):
        # The message of a check across several settings begins with the name of the wrong setting: the full name, or
        # the name below the model that has the check.
        if line.startswith("services"):
            yield line
        else:
            is_below = re.match(r"[a-z_]+(\[\d+\])?(\.[a-z_]+)*: ", line)
            yield f"{name}{'.' if is_below else ': '}{line}" if name else line


def message_of(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind in MESSAGES:
        return MESSAGES[kind]
    message = item["msg"].replace("Input should be", "must be")
    return message[0].lower() + message[1:]


def printable(name: str) -> str:
    return name if name.isascii() and name.isprintable() else json.dumps(name)
