"""All services' documents as one, or one service's as clients meet it: OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gateway.openapi.fragment import Fragment, build_fragment
from gateway.openapi.gateway_components import shared_components
from gateway.openapi.inputs import GatewayFacts, ServiceDocument
from gateway.openapi.names import tag_name
from gateway.openapi.omissions import NOT_A_FIELD
from gateway.openapi.operation_policy import PolicyTable
from gateway.openapi.reading import DocumentError, check_document
from gateway.openapi.rebuilding import text_of
from gateway.openapi.service_info import about, info_of
from gateway.openapi.structure import SECTIONS

VERSION = "3.1.0"
# From /openapi.json, and from /openapi/devices.json.
ROOT_OF_ALL, ROOT_OF_ONE = ".", ".."
STALE_SINCE = "x-gateway-stale-since"


def merge(parts: Sequence[ServiceDocument], facts: GatewayFacts) -> dict[str, Any]:
    """The document of all services that are not hidden, in the order of `parts`.

    Paths are as clients call them, `servers` is the gateway. Everything else that has a name is prefixed by its
    service's, always: another service, or none, changes no name and no entry of a service. `webhooks` are left out:
    what a service sends by itself does not pass the gateway. `info` lists the services in `x-gateway-services`, also
    those of which no document was ever read (`unavailable`), and those that have none (`none`). The same parts give
    the same document, key by key. It shares values with the parts' documents, which are not changed; raises nothing,
    whatever they contain."""
    shown = [usable(part) for part in parts if not part.hidden]
    return assembled(shown, table_of(parts), facts, gateway_info(facts), ROOT_OF_ALL)


def document_of(name: str, parts: Sequence[ServiceDocument], facts: GatewayFacts) -> dict[str, Any] | None:
    """The document of one service, with the same entries as in the merged one; None where there is no such service, or
    it is hidden. `parts` are all services, as others' prefixes may lie within this one's."""
    for part in parts:
        if part.name == name and not part.hidden:
            shown = usable(part)
            return assembled([shown], table_of(parts), facts, service_info(shown, facts), ROOT_OF_ONE)
    return None


def table_of(parts: Iterable[ServiceDocument]) -> PolicyTable:
    return PolicyTable(policy for part in parts for policy in part.policies)


def assembled(
    parts: Sequence[ServiceDocument], table: PolicyTable, facts: GatewayFacts, info: dict[str, Any], root: str
) -> dict[str, Any]:
    """`root` is the gateway's root, relative to where the document is, so that it is right behind a path prefix, too.
    It ends without a slash, as paths are appended to it (OpenAPI 3.1.1 4.8.5)."""
    paths: dict[str, Any] = {}
    components = shared_components(facts)
    tags, groups, services = [], [], dict[str, Any]()
    for part in parts:
        share = Fragment() if part.document is None else build_fragment(part, dict(part.document), table, facts)
        paths.update(share.paths)
        for section, named in share.components.items():
            components.setdefault(section, {}).update(named)
        own_tags = tags_of(part, share)
        tags += own_tags
        groups.append({"name": title_of(part), "tags": [tag["name"] for tag in own_tags]})
        services[part.name] = service_entry(part) | share.omissions.entry
    return {
        "openapi": VERSION,
        "info": info | {"x-gateway-services": services},
        "servers": [{"url": root}],
        "tags": tags,
        # How viewers that know it show the tags of one service together.
        "x-tagGroups": groups,
        "paths": paths,
        "components": {section: components[section] for section in SECTIONS.values() if section in components},
    }


def usable(part: ServiceDocument) -> ServiceDocument:
    """The part, without its document where that is none that `reading.read` would have returned."""
    if part.document is None:
        return part
    try:
        check_document(dict(part.document))
    except DocumentError:
        return replace(part, document=None)
    return part


def gateway_info(facts: GatewayFacts) -> dict[str, Any]:
    info = {"title": facts.title, "version": facts.version}
    return info | {"description": facts.description} if facts.description else info


def service_info(part: ServiceDocument, facts: GatewayFacts) -> dict[str, Any]:
    version = text_of(info_of(part.document).get("version"))
    return {"title": title_of(part), "version": version or facts.version} | about(info_of(part.document))


def service_entry(part: ServiceDocument) -> dict[str, Any]:
    """What `x-gateway-services` says of a service."""
    entry: dict[str, Any] = {"title": title_of(part), "prefix": part.prefix}
    if part.document is None:
        return entry | {"state": state_without_document(part)}
    if version := text_of(info_of(part.document).get("version")):
        entry["version"] = version
    entry |= about(info_of(part.document))
    if isinstance(documentation := part.document.get("externalDocs"), dict):
        entry["externalDocs"] = documentation
    if part.stale_since is None:
        return entry | {"state": "current"}
    return entry | {"state": "stale", STALE_SINCE: part.stale_since}


def state_without_document(part: ServiceDocument) -> str:
    return "unavailable" if part.has_document else "none"


def tags_of(part: ServiceDocument, share: Fragment) -> list[dict[str, Any]]:
    """The service's own entry, then those of its tags that its operations have: first as it lists them."""
    entry: dict[str, Any] = {"name": part.name, "description": title_of(part)}
    if part.document is None:
        entry |= {"x-gateway-state": state_without_document(part)}
    elif part.stale_since is not None:
        entry |= {STALE_SINCE: part.stale_since}
    entries = {part.name: entry}
    listed = part.document.get("tags") if part.document is not None else None
    known = {
        name: (index, tag)
        for index, tag in enumerate(listed if isinstance(listed, list) else [])
        if isinstance(tag, dict) and (name := text_of(tag.get("name")))
    }
    used = set(share.tags)
    for own_name in [*(name for name in known if name in used), *share.tags]:
        name = tag_name(part.name, own_name)
        index, tag = known.get(own_name, (0, {}))
        kept = {}
        for key, value in tag.items():
            if key.startswith("x-") or (key == "externalDocs" and isinstance(value, dict)):
                kept[key] = value
            elif key == "description" and (description := text_of(value)):
                kept[key] = description
            elif key != "name" and value not in (None, ""):
                share.omissions.add((((None, "tags"), str(index)), key), NOT_A_FIELD)
        # What is said of the service as a whole comes before what it says by itself.
        entries[name] = {"name": name, **kept} if name not in entries else kept | entries[name]
    return list(entries.values())


def title_of(part: ServiceDocument) -> str:
    return part.title or text_of(info_of(part.document).get("title")) or part.name
