"""Rewrites discriminators (OpenAPI 3.1.1 4.8.25). Each value of a discriminator stands for a schema: explicitly by an
entry of `mapping`, or implicitly, if the value is the name of the schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.openapi.references import References, base_within

# The most entries that descendants of schemas add to the mappings of one document, because there can be very many.
MAX_IMPLICIT_VALUES = 50_000
ReferenceTo = Callable[[str, str], str | None]


class Discriminators:
    """Rewrites the discriminators of one document. Adds implicit values to `mapping`, because the merged document
    changes the names of the schemas, but clients still receive the old names as values."""

    def __init__(self, document: dict[str, Any], references: References) -> None:
        components = document.get("components")
        schemas = components.get("schemas") if isinstance(components, dict) else None
        self._schemas: dict[str, Any] = schemas if isinstance(schemas, dict) else {}
        self._references = references
        self._children: dict[str, list[str]] | None = None
        self._values_left = MAX_IMPLICIT_VALUES

    def with_children(self, name: str, schema: Any) -> Any:
        """The component schema of this name. If it has a discriminator, each schema that extends it by allOf, directly
        or through others, is added to the mapping under the name of the extending schema."""
        if not isinstance(schema, dict) or not isinstance(schema.get("discriminator"), dict):
            return schema
        return with_implicit(schema, {child: child for child in self._descendants_of(name)})

    def with_branches(self, schema: dict[str, Any], base: str) -> dict[str, Any]:
        """The schema. If it has a discriminator, each component that its oneOf or anyOf refers to is added to the
        mapping, under the name of the component."""
        if not isinstance(schema.get("discriminator"), dict):
            return schema
        branches = [branch for key in ("oneOf", "anyOf") for branch in as_list(schema.get(key))]
        names = [self._component_of(branch, base) for branch in branches]
        return with_implicit(schema, {name: name for name in names if name is not None})

    def with_new_targets(self, discriminator: dict[str, Any], base: str, reference_to: ReferenceTo) -> dict[str, Any]:
        """The discriminator with the target of each entry of `mapping` replaced by `reference_to(target, base)`. If
        `reference_to` returns None, the entry is left out. A target in the service's document is the name of a
        component schema if there is a schema of that name, else a reference."""
        mapping = discriminator.get("mapping")
        rest = {key: value for key, value in discriminator.items() if key != "mapping"}
        if not isinstance(mapping, dict):
            return rest
        rewritten = {}
        for value, target in mapping.items():
            if isinstance(target, str) and (reference := self._reference_to(target, base, reference_to)):
                rewritten[value] = reference
        return {**rest, "mapping": rewritten} if rewritten else rest

    def _reference_to(self, target: str, base: str, reference_to: ReferenceTo) -> str | None:
        if target in self._schemas:
            escaped = target.replace("%", "%25").replace("~", "~0").replace("/", "~1")
            return reference_to(f"#/components/schemas/{escaped}", "")
        return reference_to(target, base)

    def _component_of(self, schema: Any, base: str) -> str | None:
        if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
            return None
        found = self._references.find(schema["$ref"], base_within(schema, base))
        if found is None or found.tokens[:2] != ("components", "schemas") or len(found.tokens) != 3:
            return None
        return found.tokens[2]

    def _descendants_of(self, name: str) -> list[str]:
        if self._children is None:
            self._children = {}
            for child, schema in self._schemas.items():
                for branch in as_list(schema.get("allOf")) if isinstance(schema, dict) else []:
                    if parent := self._component_of(branch, base_within(schema, "")):
                        self._children.setdefault(parent, []).append(child)
        # Each schema is visited only once, because schemas can extend each other in a circle.
        found: dict[str, None] = {}
        pending = [name]
        while pending and self._values_left > 0:
            for child in self._children.get(pending.pop(), []):
                if child not in found and child != name:
                    found[child] = None
                    self._values_left -= 1
                    pending.append(child)
        return list(found)


def with_implicit(schema: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The schema with these values added to the mapping of its discriminator. `names` has the name of the schema that
    each value stands for. Explicit values take precedence."""
    discriminator = schema["discriminator"]
    mapping = discriminator.get("mapping")
    written = mapping if isinstance(mapping, dict) else {}
    # A schema with an explicit value gets no implicit value in addition.
    targets = {str(target).rpartition("/")[2] for target in written.values()}
    implicit = {name: target for name, target in names.items() if target not in targets and name not in written}
    if not implicit:
        return schema
    return {**schema, "discriminator": {**discriminator, "mapping": {**written, **implicit}}}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
