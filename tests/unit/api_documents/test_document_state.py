"""The state of a document is read back as it was written; anything else is refused."""

from __future__ import annotations

import json

import pytest

from gateway.api_documents.document_state import DocumentState


def test_state_is_read_as_it_was_written() -> None:
    for state in (
        DocumentState(),
        DocumentState("0f", '"a"', "Tue", 1.5, 2.5, "down"),
        DocumentState("0f").after_failure("down", 7),
    ):
        assert DocumentState.from_json(state.to_json()) == state


@pytest.mark.parametrize(
    "text",
    [
        *(json.dumps({name: 5}) for name in ("version", "etag", "last_modified", "failure")),
        *(f'{{"{name}": {value}}}' for name in ("checked_at", "stale_since") for value in ('"x"', "1e300", "NaN", -1)),
        '{"checked_at": null}',
        '{"other": 1}',
        "[" * 100_000,
        "null",
        "[]",
        "",
    ],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        DocumentState.from_json(text)


@pytest.mark.parametrize("etag", ['"a\x01"', '"\xe9"', '"' + "a" * 1000 + '"', "\n", " ", ""])
def test_invalid_validators_are_not_sent_back(etag: str) -> None:
    assert DocumentState("0f", etag).validators == {}
    assert DocumentState("0f", "", etag).validators == {}


def test_validators_are_removed_after_a_failure() -> None:
    state = DocumentState("0f", '"a"', "Tue", 1)
    assert state.validators == {"If-None-Match": '"a"'}
    assert state.after_failure("status 400", 2).validators == {}
