"""Merges the documents of all services into one OpenAPI 3.1 document, or renders that of one service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.openapi.fragment import Fragment, FragmentBuilder
from gateway.openapi.gateway_components import shared_components
from gateway.openapi.inputs import GatewayFacts, ServiceDocument
from gateway.openapi.names import tag_name
from gateway.openapi.object_copy import text_of
from gateway.openapi.object_types import SECTIONS
from gateway.openapi.omissions import NOT_A_FIELD
from gateway.openapi.operation_policy import PolicyTable, policy_table
from gateway.openapi.parsing import DocumentError, check_document
from gateway.openapi.service_info import info_fields, info_of

VERSION = "3.1.0"
# The gateway's root, relative to /openapi.json and to /openapi/devices.json.
ROOT_FROM_MERGED, ROOT_FROM_SERVICE = ".", ".."
STALE_SINCE = "x-gateway-stale-since"


def merge(parts: Sequence[ServiceDocument], facts: GatewayFacts) -> dict[str, Any]:
    """The document of all services that are not hidden, in the order of `parts`.

    Paths are as clients call them; `servers` is the gateway. All other names are prefixed with the name of the service,
    even if they are unique, so that adding or removing a service changes nothing of other services. `webhooks` are left
    out, because the requests that a service sends do not pass the gateway. `info.x-gateway-services` lists all shown
    services, including those whose document was never fetched (state `unavailable`) and those that have none (`none`).

    The same parts give the same document, key by key. The result shares values with the documents of the parts, which
    are not changed. Never raises, whatever the documents contain."""
    shown = [with_valid_document(part) for part in parts if not part.hidden]
    return assemble(
        shown, policy_table(parts), facts, {"title": facts.title, "version": facts.version}, ROOT_FROM_MERGED
    )


def document_of(name: str, parts: Sequence[ServiceDocument], facts: GatewayFacts) -> dict[str, Any] | None:
    """The document of one service, with the same entries as in the merged one; None if the service does not exist or is
    hidden. `parts` are all services, because the prefix of another service may be below the prefix of this service."""
    for part in parts:
        if part.name == name and not part.hidden:
            shown = with_valid_document(part)
            return assemble([shown], policy_table(parts), facts, service_info(shown, facts), ROOT_FROM_SERVICE)
    return None


def assemble(
    parts: Sequence[ServiceDocument], table: PolicyTable, facts: GatewayFacts, info: dict[str, Any], root: str
) -> dict[str, Any]:
    """Builds the document of these services. `root` is the gateway's root relative to the document's URL, so that it
    stays correct if a proxy in front of the gateway adds a path prefix. It has no final slash, because clients append
    paths to it (OpenAPI 3.1.1 4.8.5)."""
    paths: dict[str, Any] = {}
    components = shared_components(facts)
    tags, groups, services = [], [], dict[str, Any]()
    for part in parts:
        fragment = Fragment()
        if part.document is not None:
            fragment = FragmentBuilder(part, dict(part.document), table, facts).build()
        paths.update(fragment.paths)
        for section, named in fragment.components.items():
            components.setdefault(section, {}).update(named)
        own_tags = tags_of(part, fragment)
        tags += own_tags
        groups.append({"name": title_of(part), "tags": [tag["name"] for tag in own_tags]})
        services[part.name] = service_entry(part) | fragment.omissions.entry
    return {
        "openapi": VERSION,
        "info": info | {"x-gateway-services": services},
        "servers": [{"url": root}],
        "tags": tags,
        # Some viewers show the tags of a group together.
        "x-tagGroups": groups,
        "paths": paths,
        "components": {section: components[section] for section in SECTIONS.values() if section in components},
    }


def with_valid_document(part: ServiceDocument) -> ServiceDocument:
    """The part. Its document is removed if `parse_document` would refuse it, so that `merge` never raises."""
    if part.document is None:
        return part
    try:
        check_document(dict(part.document))
    except DocumentError:
        return replace(part, document=None)
    return part


def service_info(part: ServiceDocument, facts: GatewayFacts) -> dict[str, Any]:
    version = text_of(info_of(part.document).get("version"))
    return {"title": title_of(part), "version": version or facts.version} | info_fields(info_of(part.document))


def service_entry(part: ServiceDocument) -> dict[str, Any]:
    """The service's entry in `x-gateway-services`."""
    entry: dict[str, Any] = {"title": title_of(part), "prefix": part.prefix}
    if part.document is None:
        return entry | {"state": state_without_document(part)}
    if version := text_of(info_of(part.document).get("version")):
        entry["version"] = version
    entry |= info_fields(info_of(part.document))
    if isinstance(documentation := part.document.get("externalDocs"), dict):
        entry["externalDocs"] = documentation
    if part.stale_since is None:
        return entry | {"state": "current"}
    return entry | {"state": "stale", STALE_SINCE: part.stale_since}


def state_without_document(part: ServiceDocument) -> str:
    return "unavailable" if part.has_document else "none"


def tags_of(part: ServiceDocument, fragment: Fragment) -> list[dict[str, Any]]:
    """The Tag Objects of a service: one for the service itself, then those of its operations. Tags of operations that
    the document lists come before the others, in the order of the document."""
    own_entry: dict[str, Any] = {"name": part.name, "description": title_of(part)}
    if part.document is None:
        own_entry |= {"x-gateway-state": state_without_document(part)}
    elif part.stale_since is not None:
        own_entry |= {STALE_SINCE: part.stale_since}
    entries = {part.name: own_entry}
    given = part.document.get("tags") if part.document is not None else None
    listed = {
        name: (index, tag)
        for index, tag in enumerate(given if isinstance(given, list) else [])
        if isinstance(tag, dict) and (name := text_of(tag.get("name")))
    }
    used = set(fragment.tags)
    for tag in [*(name for name in listed if name in used), *fragment.tags]:
        name = tag_name(part.name, tag)
        entry = tag_fields(*listed.get(tag, (0, {})), fragment)
        # For a tag with the service's name, the title of the service is the description.
        entries[name] = {"name": name, **entry} if name not in entries else entry | entries[name]
    return list(entries.values())


def tag_fields(index: int, tag: dict[str, Any], fragment: Fragment) -> dict[str, Any]:
    """The valid fields of a Tag Object except its name."""
    fields = {}
    for key, value in tag.items():
        if key.startswith("x-") or (key == "externalDocs" and isinstance(value, dict)):
            fields[key] = value
        elif key == "description" and (description := text_of(value)):
            fields[key] = description
        elif key != "name" and value not in (None, ""):
            fragment.omissions.add((((None, "tags"), str(index)), key), NOT_A_FIELD)
    return fields


def title_of(part: ServiceDocument) -> str:
    return text_of(info_of(part.document).get("title")) or part.name
