"""Bytes to an OpenAPI document, whatever a service sends: JSON, or YAML by its 1.2 core schema."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import Any, NoReturn

from gateway.openapi.structure import METHODS
from gateway.openapi.yaml_text import YamlRefused, read_yaml

MAX_DEPTH = 100  # containers in containers; the deepest real documents have about forty
MAX_BYTES = 8 * 1024 * 1024
MAX_NODES = 500_000  # values in the document; one operation of FastAPI's with its models has about a hundred
MAX_YAML_EVENTS = 200_000  # keys, values and ends of lists; a second of CPU
MAX_OPERATIONS = 10_000  # each grows, as it tells what the gateway does with it
SUPPORTED = re.compile(r"3\.[01](\.[0-9].*)?")


class DocumentError(Exception):
    """Not a document that can be merged. The text says why, in words that fit into a log line."""


def read(raw: bytes, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The document: an OpenAPI Object of version 3.0.x or 3.1.x, made of str-keyed dicts, lists, str, int, finite
    float, bool and None, at most MAX_DEPTH deep; a tree, without shared parts. Raises DocumentError, and nothing
    else."""
    if len(raw) > max_bytes:
        raise DocumentError(f"larger than {max_bytes} bytes")
    document = parsed(raw, max_bytes)
    if not isinstance(document, dict):
        raise DocumentError("not an object")
    if "openapi" not in document:
        version = "Swagger 2.0" if "swagger" in document else "no version"
        raise DocumentError(f"not an OpenAPI 3.0 or 3.1 document: {version}")
    # Hand-written YAML says `openapi: 3.1`, which is a number.
    version = str(document["openapi"])
    if not SUPPORTED.fullmatch(version):
        raise DocumentError(f"not an OpenAPI 3.0 or 3.1 document: version {version[:20]!r}")
    check_document(document)
    return document | {"openapi": version}


def parsed(raw: bytes, max_bytes: int) -> Any:
    try:
        # Not by the codec that drops the mark: Python would have to import it first, while other threads do (see
        # background.run_in_native_thread).
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
    except YamlRefused as refused:
        raise DocumentError(f"neither JSON nor usable YAML: {refused}") from None


def refuse_constant(name: str) -> NoReturn:
    raise DocumentError(f"{name}, which is no number of JSON's")


def check_document(document: dict[str, Any]) -> None:
    """Raises DocumentError for what can't be merged within bounds; for documents that `read` has not made."""
    check_tree(document)
    paths = document.get("paths")
    items = [item for item in paths.values() if isinstance(item, dict)] if isinstance(paths, dict) else []
    # What a path that is a reference has is not known here.
    count = sum(len(METHODS) if "$ref" in item else sum(method in item for method in METHODS) for item in items)
    if count > MAX_OPERATIONS:
        raise DocumentError(f"more than {MAX_OPERATIONS} operations")


def check_tree(document: Any) -> None:
    """Raises DocumentError for what can't be written as JSON again, and for too much: values in values (a dict that
    contains itself too), text that is not Unicode, numbers that are not finite."""
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
        # 1e999 is JSON, but what Python makes of it is not.
        if value - value != 0:
            raise DocumentError("a number that is not finite")
    elif value is not None and not isinstance(value, int):
        raise DocumentError(f"a {type(value).__name__}, which JSON does not have")


def check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise DocumentError("a key that is not text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DocumentError("text that is not Unicode: half of a surrogate pair") from None
