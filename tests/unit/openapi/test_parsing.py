"""Any bytes of a service become a document or a DocumentError."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.openapi import DocumentError, parse_document
from gateway.openapi.parsing import MAX_DEPTH

HEAD = 'openapi: "3.1.0"\n'


def yaml(text: str) -> dict[str, Any]:
    return parse_document((HEAD + text).encode())


def reason(raw: bytes | str, **more: int) -> str:
    with pytest.raises(DocumentError) as caught:
        parse_document(raw.encode() if isinstance(raw, str) else raw, **more)
    return str(caught.value)


def test_json_is_parsed_unchanged() -> None:
    document: dict[str, Any] = {"openapi": "3.0.3", "x": [1, 2.5, None, True, "é😀", {"200": {}}], "": {}}
    assert parse_document(json.dumps(document).encode()) == document
    assert parse_document(b"\xef\xbb\xbf" + json.dumps(document, ensure_ascii=False).encode()) == document


def test_yaml_is_parsed_by_the_core_schema() -> None:
    text = """
day: 2026-01-01
moment: 2026-01-01T10:00:00Z
words: [yes, no, on, off, y, 'true', "1", 1_000, 012, 1:30, .inf, 0b1, =]
numbers: [1, -2, 0x1F, 0o17, 1.5, .5, 1e3, 012]
others: [true, False, null, ~, ]
empty:
text: |
  a
  b
"""
    found = yaml(text)
    assert found["day"] == "2026-01-01"
    assert found["moment"] == "2026-01-01T10:00:00Z"
    assert found["words"] == ["yes", "no", "on", "off", "y", "true", "1", "1_000", 12, "1:30", ".inf", "0b1", "="]
    assert found["numbers"] == [1, -2, 31, 15, 1.5, 0.5, 1000.0, 12]
    assert found["others"] == [True, False, None, None]
    assert found["empty"] is None
    assert found["text"] == "a\nb\n"


def test_yaml_keys_are_texts() -> None:
    assert list(yaml("200: a\n1.0: b\nno: c\nnull: d\n2026-01-01: e\n")) == [
        "openapi", "200", "1.0", "no", "null", "2026-01-01",
    ]  # fmt: skip


def test_yaml_versions_that_look_like_numbers_are_texts() -> None:
    assert parse_document(b"openapi: 3.1")["openapi"] == "3.1"
    assert parse_document(b"openapi: 3.0.2")["openapi"] == "3.0.2"


def test_aliases_are_copies() -> None:
    found = yaml("a: &a {x: [1]}\nb: *a\nc: {<<: *a, y: 2}\nd: {x: own, <<: [*a, {z: 3}]}\n")
    assert found["b"] == {"x": [1]}
    assert found["c"] == {"x": [1], "y": 2}
    assert found["d"] == {"x": "own", "z": 3}
    assert found["a"] is not found["b"]
    assert found["a"]["x"] is not found["c"]["x"]


def laughter(shape: str) -> str:
    lines = ["a0: &a0 {k: lol}"]
    for level in range(1, 60):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} " + shape.format(inner))
    return HEAD + "\n".join(lines)


def test_aliases_that_would_expand_without_bound_are_refused() -> None:
    started = time.process_time()
    assert "expand to too much text" in reason(laughter("[{}]"), max_bytes=1_000_000)
    # The size of merge keys is bounded. With PyYAML's own loader it is not.
    assert parse_document(laughter("{{<<: [{}]}}").encode())["a59"] == {"k": "lol"}
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "YAML"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"<html><body>Not found</body></html>", "not an object"),
        (b"{}", "no version"),
        (b'{"swagger": "2.0"}', "Swagger 2.0"),
        (b'{"openapi": "3.2.0"}', "3.2.0"),
        (b'{"openapi": "2.0"}', "2.0"),
        (b'{"openapi": "3.10.0"}', "3.10.0"),
        (b'{"openapi": null}', "None"),
        (b'{"openapi": ["3.1.0"]}', "version"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b'{"openapi": "3.1.0", "x": NaN}', "NaN"),
        (b'{"openapi": "3.1.0", "x": 1e999}', "finite"),
        (b'{"openapi": "3.1.0", "x": "\\ud800"}', "Unicode"),
        (b'{"openapi": "3.1.0", "\\udfff": 1}', "Unicode"),
        (b'openapi: "3.1.0"\nx: !!python/object/apply:os.system [id]', "tag"),
        (b'openapi: "3.1.0"\nx: !!timestamp 2026-01-01', "tag"),
        (b'openapi: "3.1.0"\n---\nb: 1', "2 documents"),
        (b'openapi: "3.1.0"\nx: &x [*x]', "alias"),
        (b'openapi: "3.1.0"\nx: &x {a: *x}', "alias"),
        (b'openapi: "3.1.0"\nx: *nobody', "alias"),
        (b'openapi: "3.1.0"\n? [a]\n: b', "key"),
        (b'openapi: "3.1.0"\nx: {<<: 1}', "<<"),
        (b'openapi: "3.1.0"\nx: [', "YAML"),
    ],
)
def test_other_content_is_refused(raw: bytes, why: str) -> None:
    assert why in reason(raw)


def test_size_is_bounded() -> None:
    raw = json.dumps({"openapi": "3.1.0"}).encode()
    assert parse_document(raw, max_bytes=len(raw)) == {"openapi": "3.1.0"}
    assert "larger than" in reason(raw, max_bytes=len(raw) - 1)
    assert "values" in reason('{"openapi": "3.1.0", "x": [' + "1," * 600_000 + "1]}")
    assert "values" in reason(HEAD + "x: [" + "a," * 210_000 + "a]")


@pytest.mark.parametrize("depth", [MAX_DEPTH, 10_000, 400_000])
@pytest.mark.parametrize(("start", "opening", "closing", "end"), [
    ('{"openapi": "3.1.0", "x": ', "[", "]", "}"),
    ('{"openapi": "3.1.0", "x": ', '{"a":', "}", "}"),
    (HEAD + "x: ", "[", "]", ""),
    (HEAD + "x: ", "{a: ", "}", ""),
    (HEAD + "x: ", "- ", "", ""),
])  # fmt: skip
def test_depth_is_bounded(depth: int, start: str, opening: str, closing: str, end: str) -> None:
    if opening == "- ":
        start = HEAD + "x:\n "
    inner = "1" if "{" in opening or closing == "" else ""
    text = start + opening * depth + inner + closing * depth + end
    why = reason(text)
    assert "deep" in why or "YAML" in why


def test_deepest_document_is_parsed() -> None:
    depth = MAX_DEPTH - 1
    assert parse_document(('{"openapi": "3.1.0", "x": ' + "[" * depth + "]" * depth + "}").encode())
    assert parse_document((HEAD + "x: " + "[" * depth + "]" * depth).encode())


def survives(raw: bytes) -> None:
    try:
        document = parse_document(raw)
    except DocumentError:
        return
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    survives(raw)
    survives(HEAD.encode() + raw)


@settings(deadline=None)
@given(st.text(alphabet="ab0-:,&*<>!|?[]{}'\"#%@\\ \n\t.~", max_size=60))
def test_any_yaml_is_parsed_or_refused(text: str) -> None:
    survives((HEAD + text).encode())
    survives((HEAD + "x: " + text).encode("utf-8", "surrogatepass"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    survives(json.dumps({"openapi": "3.1.0", "x": value}).encode())
    survives(json.dumps(value).encode())
