"""Compares a service's document with the merged one, independently of the gateway's code.

The comparison knows only two things about OpenAPI: which values are literal (examples and the like), and which keys map
names to objects. It follows everything else, in both documents and through every reference, and expects the same
content. There are two exceptions: what the gateway changes on purpose, which is listed here again, and what the merged
document lists as dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

Tokens = tuple[str, ...]
LITERALS = frozenset("example examples default enum const dependentRequired value dataValue".split())
NAMED = frozenset(
    "properties patternProperties dependentSchemas dependencies $defs definitions content headers links callbacks "
    "encoding responses examples".split()
)
SCHEMA_KEYS = frozenset(["schema", "itemSchema"])
METHODS = frozenset("get put post delete options head patch".split())
# Keys whose values the gateway replaces. Other tests check them.
NOT_COMPARED = frozenset(
    "security tags operationId servers $id $anchor $dynamicAnchor $dynamicRef operationRef".split()
)
# Parts of responses that the gateway adds or extends.
PROBLEM, DESCRIBED = "application/problem+json", "description"


def differences(given: dict[str, Any], result: dict[str, Any], service: str) -> list[str]:
    """The differences between this service's operations in its own document and in the merged one: missing, changed and
    additional parts. Paths must be the same in both documents."""
    return list(Walk(given, result, service).differences())


class Walk:
    def __init__(self, given: dict[str, Any], result: dict[str, Any], service: str) -> None:
        self._given = given
        self._result = result
        self._is_old = str(given["openapi"]).startswith("3.0")
        entry = result["info"]["x-gateway-services"][service]
        self._dropped = {one["pointer"] for one in entry.get("x-gateway-dropped", [])}
        self._met: set[tuple[int, int]] = set()

    def differences(self) -> Iterator[str]:
        for path, item in self._result["paths"].items():
            given, at = self._resolved(self._given["paths"][path], ("paths", path))
            parameters = item.get("parameters", [])
            yield from self._list(given.get("parameters", []), parameters, (*at, "parameters"))
            for method in METHODS & item.keys():
                yield from self._operation(given[method], item[method], (*at, method))

    def _operation(self, given: Any, result: Any, at: Tokens) -> Iterator[str]:
        for key, value in given.items():
            if key == "responses":
                yield from self._responses(value, result["responses"], (*at, key))
            elif key == "parameters":
                yield from self._list(value, result.get(key, []), (*at, key))
            elif key == DESCRIBED:
                if not result[DESCRIBED].startswith(value.rstrip()):
                    yield f"{at}: another description"
            elif key not in NOT_COMPARED:
                yield from self._member(key, value, result, at)

    def _responses(self, given: Any, result: Any, at: Tokens) -> Iterator[str]:
        for status, response in given.items():
            place = (*at, status)
            written = next((key for key in result if key.lower() == status.lower()), None)
            if written is None:
                yield from self._unlisted(place)
                continue
            theirs, place = self._resolved(response, place)
            ours, _ = resolved(self._result, result[written], ())
            for key, value in theirs.items():
                if key == DESCRIBED:
                    if value and not ours[DESCRIBED].startswith(value.rstrip()):
                        yield f"{place}: another description"
                elif key in ("content", "headers"):
                    for name in value:
                        if name == PROBLEM or name.lower().startswith(("x-ratelimit", "ratelimit")):
                            continue
                        yield from self._named(name, value, ours.get(key, {}), (*place, key), in_schema=False)
                else:
                    yield from self._member(key, value, ours, place)

    def _member(self, key: str, given: Any, result: Mapping[str, Any], at: Tokens, *, in_schema: bool = False) -> Any:
        place = (*at, key)
        if key in NOT_COMPARED or given is None:
            return
        if key not in result:
            yield from self._unlisted(place)
        elif (key in LITERALS and (in_schema or key != "examples")) or (not in_schema and key.startswith("x-")):
            if given != result[key]:
                yield f"{place}: another value"
        elif key in NAMED and isinstance(given, dict):
            for name in given:
                yield from self._named(name, given, result[key], place, in_schema=in_schema)
        else:
            yield from self._any(given, result[key], place, in_schema=in_schema or key in SCHEMA_KEYS)

    def _named(self, name: str, given: Any, result: Any, at: Tokens, *, in_schema: bool) -> Iterator[str]:
        if given[name] is None:
            return
        if name not in result:
            yield from self._unlisted((*at, name))
        else:
            yield from self._any(given[name], result[name], (*at, name), in_schema=in_schema)

    def _any(self, given: Any, result: Any, at: Tokens, *, in_schema: bool) -> Iterator[str]:
        if isinstance(given, list):
            yield from self._list(given, result, at, in_schema=in_schema)
        elif not isinstance(given, dict):
            is_text_of_it = isinstance(given, int | float) and result in (str(given), str(given).lower())
            if given != result and not is_text_of_it:
                yield f"{at}: {given!r} became {result!r}"
        elif in_schema:
            yield from self._schema(given, result, at)
        else:
            yield from self._object(given, result, at)

    def _list(self, given: Any, result: Any, at: Tokens, *, in_schema: bool = False) -> Iterator[str]:
        if not isinstance(result, list):
            yield f"{at}: no list any more"
            return
        left = [
            (index, one)
            for index, one in enumerate(given)
            if one is not None and not self._is_listed((*at, str(index)))
        ]
        if len(left) != len(result):
            yield f"{at}: {len(given)} became {len(result)}"
            return
        for (index, theirs), ours in zip(left, result, strict=True):
            yield from self._any(theirs, ours, (*at, str(index)), in_schema=in_schema)

    def _object(self, given: Any, result: Any, at: Tokens) -> Iterator[str]:
        given, at = self._resolved(given, at)
        result, _ = resolved(self._result, result, ())
        if given is None or self._is_met(given, result):
            if given is None:
                yield from self._unlisted(at)
            return
        for key, value in given.items():
            yield from self._member(key, value, result, at)
        yield from (f"{at}: {key} came out of nothing" for key in result.keys() - given.keys() - NOT_COMPARED)

    def _schema(self, given: Any, result: Any, at: Tokens) -> Iterator[str]:
        if self._is_met(given, result):
            return
        if not isinstance(result, dict):
            yield f"{at}: no schema any more"
            return
        given = in_new_words(given)
        if self._is_old:
            given, result = without_old_words(given, result)
        if isinstance(reference := given.get("$ref"), str):
            target, place = resolved(self._given, given, at)
            if target is None or target is given:
                yield from self._unlisted((*at, "$ref"))
            elif not isinstance(result.get("$ref"), str):
                yield f"{at}: {reference} is not followed"
            else:
                yield from self._any(target, resolved(self._result, result, ())[0], place, in_schema=True)
        mapping = given.get("discriminator", {}).get("mapping", {})
        for value, target in mapping.items():
            found = result["discriminator"].get("mapping", {}).get(value)
            if found is None:
                yield from self._unlisted((*at, "discriminator", "mapping", value))
                continue
            name = target if target.startswith("#") else f"#/components/schemas/{target}"
            theirs, place = resolved(self._given, {"$ref": name}, at)
            yield from self._any(theirs, resolved(self._result, {"$ref": found}, ())[0], place, in_schema=True)
        for key, value in given.items():
            if key not in ("$ref", "discriminator"):
                yield from self._member(key, value, result, at, in_schema=True)
        known = given.keys() | {"x-gateway-unresolved"}
        yield from (f"{at}: {key} came out of nothing" for key in result.keys() - known)

    def _is_met(self, given: Any, result: Any) -> bool:
        pair = (id(given), id(result))
        is_met = pair in self._met
        self._met.add(pair)
        return is_met

    def _resolved(self, node: Any, at: Tokens) -> tuple[Any, Tokens]:
        return resolved(self._given, node, at)

    def _is_listed(self, at: Tokens) -> bool:
        steps = ["/" + token.replace("~", "~0").replace("/", "~1") for token in at]
        return any("".join(steps[:length]) in self._dropped for length in range(1, len(steps) + 1))

    def _unlisted(self, at: Tokens) -> Iterator[str]:
        if not self._is_listed(at):
            yield f"{at}: vanished, and is not listed"


def resolved(root: Any, node: Any, at: Tokens) -> tuple[Any, Tokens]:
    """Follows the references of a node to the end. Returns the node found and its location: the node itself if it is no
    reference, None if the reference can't be resolved. References to schemas are followed by one step only, as a schema
    may have other keywords beside its $ref."""
    seen: list[str] = []
    while isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
        if reference in seen or not reference.startswith("#/"):
            return None, at
        seen.append(reference)
        at = tuple(token.replace("~1", "/").replace("~0", "~") for token in unquote(reference[2:]).split("/"))
        node = root
        for token in at:
            try:
                node = node[int(token)] if isinstance(node, list) else node[token]
            except (KeyError, IndexError, ValueError, TypeError):
                return None, at
        if len(at) > 1 and "schema" in at[1]:
            break
    return node, at


def in_new_words(schema: dict[str, Any]) -> dict[str, Any]:
    """Upgrades a schema by JSON Schema's migration notes from draft 4 to 2020-12."""
    new = dict(schema)
    if isinstance(new.get("items"), list):
        new["prefixItems"] = new.pop("items")
        if "additionalItems" in new:
            new["items"] = new.pop("additionalItems")
    dependencies = new.pop("dependencies", {})
    for key, is_kind in (("dependentRequired", True), ("dependentSchemas", False)):
        of_kind = {name: value for name, value in dependencies.items() if isinstance(value, list) == is_kind}
        if of_kind:
            new[key] = of_kind
    return new


def without_old_words(given: dict[str, Any], result: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both schemas without the keywords that OpenAPI 3.0 and 3.1 express differently. Other tests check these."""
    given, result = dict(given), dict(result)
    if given.pop("nullable", False):
        if isinstance(result.get("anyOf"), list) and {"type": "null"} in result["anyOf"] and len(result["anyOf"]) == 2:
            result |= result.pop("anyOf")[0]
        if isinstance(result.get("type"), list):
            result["type"] = next(iter(one for one in result["type"] if one != "null"), "null")
        result["enum"], given["enum"] = [
            [one for one in side.get("enum", []) if one is not None] for side in (result, given)
        ]
    if "$ref" in given:
        given = {key: value for key, value in given.items() if key in ("$ref", "description", "title")}
        result = {key: value for key, value in result.items() if key in given}
    for key in ("example", "examples", "exclusiveMinimum", "exclusiveMaximum", "minimum", "maximum"):
        given.pop(key, None)
        result.pop(key, None)
    if given.get("format") == "byte":
        del given["format"], result["contentEncoding"]
    return given, result


def dangling(node: Any, root: Any) -> Iterator[str]:
    """All references that can't be resolved, also below unknown keywords."""
    if isinstance(node, list):
        for item in node:
            yield from dangling(item, root)
    elif isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str) and resolved(root, node, ())[0] is None:
            yield reference
        for key, value in node.items():
            if key not in LITERALS or (key == "examples" and isinstance(value, dict)):
                yield from dangling(value, root)
