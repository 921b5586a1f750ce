"""Parses the bytes that a service sends into an OpenAPI document, within bounds: JSON, or YAML 1.2."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import Any, NoReturn

from gateway.openapi.object_types import METHODS
from gateway.openapi.yaml_text import InvalidYaml, read_yaml

MAX_DEPTH = 100  # of nested containers; the deepest known documents have about 40
MAX_BYTES = 8 * 1024 * 1024
MAX_NODES = 500_000  # values in the document; an operation of FastAPI with its models has about 100
MAX_YAML_EVENTS = 200_000  # keys, values and ends of containers; so many take a second of CPU time
MAX_OPERATIONS = 10_000  # each grows by the annotations of the gateway
SUPPORTED = re.compile(r"3\.[01](\.[0-9].*)?")


class DocumentError(Exception):
    """The document can't be merged. The text is the reason, for a log line."""


def parse_document(raw: bytes, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """An OpenAPI Object of version 3.0.x or 3.1.x, made of dicts with text keys, lists, str, int, finite float, bool
    and None, at most MAX_DEPTH deep. It is a tree, without shared parts. Raises DocumentError, and nothing else."""
    if len(raw) > max_bytes:
        raise DocumentError(f"larger than {max_bytes} bytes")
    document = decoded(raw, max_bytes)
    if not isinstance(document, dict):
        raise DocumentError("not an object")
    if "openapi" not in document:
        version = "Swagger 2.0" if "swagger" in document else "no version"
        raise DocumentError(f"not an OpenAPI 3.0 or 3.1 document: {version}")
    # YAML reads `openapi: 3.1` as a number.
    version = str(document["openapi"])
    if not SUPPORTED.fullmatch(version):
        raise DocumentError(f"not an OpenAPI 3.0 or 3.1 document: version {version[:20]!r}")
    check_document(document)
    return document | {"openapi": version}


def decoded(raw: bytes, max_bytes: int) -> Any:
    try:
        # Not with the codec utf-8-sig: Python imports codecs on first use, and imports in native threads can deadlock
        # (see `system.native_threads`).
        text = raw.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError:
        raise DocumentError("not UTF-8") from None
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise DocumentError(f"nested more than {MAX_DEPTH} deep") from None
    except ValueError:
        pass
    try:
        return read_yaml(text, max_depth=MAX_DEPTH, max_events=MAX_YAML_EVENTS, max_characters=max_bytes)
    except InvalidYaml as error:
        raise DocumentError(f"neither JSON nor usable YAML: {error}") from None


def refuse_constant(name: str) -> NoReturn:
    raise DocumentError(f"{name}, which is not a number in JSON")


def check_document(document: dict[str, Any]) -> None:
    """Raises DocumentError if the document exceeds a bound or has values that JSON does not have. `merge`
    calls this, too, because its documents need not come from `parse_document`."""
    check_tree(document)
    paths = document.get("paths")
    items = [item for item in paths.values() if isinstance(item, dict)] if isinstance(paths, dict) else []
    # A path that is a reference may have an operation for every method.
    count = sum(len(METHODS) if "$ref" in item else sum(method in item for method in METHODS) for item in items)
    if count > MAX_OPERATIONS:
        raise DocumentError(f"more than {MAX_OPERATIONS} operations")


def check_tree(document: Any) -> None:
    """Raises DocumentError if the values can't be written as JSON, or are too many or nested too deeply (including a
    dict that contains itself)."""
    pending, count = [(document, 1)], 0
    while pending:
        node, depth = pending.pop()
        count += 1
        if count > MAX_NODES:
            raise DocumentError(f"more than {MAX_NODES} values")
        if isinstance(node, dict):
            for key in node:
                check_text(key)
            children = list(node.values())
        elif isinstance(node, list):
            children = node
        else:
            check_scalar(node)
            continue
        if depth > MAX_DEPTH:
            raise DocumentError(f"nested more than {MAX_DEPTH} deep")
        pending.extend((child, depth + 1) for child in children)


def check_scalar(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, float):
        # Python parses 1e999 as infinity, which is not JSON.
        if value - value != 0:
            raise DocumentError("a number that is not finite")
    elif value is not None and not isinstance(value, int):
        raise DocumentError(f"a {type(value).__name__}, which JSON does not have")


def check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise DocumentError("a key that is not a text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DocumentError("text that is not Unicode: an unpaired surrogate") from None
