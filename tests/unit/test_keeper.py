"""The keeper of documents goes on, whatever a fetch ends with."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from gateway.documents.keeper import DocumentKeeper
from gateway.errors import Overloaded
from gateway.fetching import Document


class Failing:
    """A source that can't even be asked."""

    key, max_bytes = "one", 1000

    def __init__(self, failure: Exception) -> None:
        self._failure = failure
        self.asked = 0

    def fetch(self, fields: Mapping[str, str]) -> Document:  # noqa: ARG002 - a source's
        self.asked += 1
        raise self._failure

    def check(self, content: bytes) -> None:
        """There is none."""


@pytest.mark.parametrize("failure", [Overloaded("no descriptors"), RuntimeError("anything"), MemoryError()])
def test_what_ends_a_fetch_is_known_and_it_is_not_tried_again_at_once(failure: Exception) -> None:
    source = Failing(failure)
    keeper = DocumentKeeper({"one": source}, None, 60, lambda *_: None, time.time, lambda: 0.5)
    keeper.wait_for_first(30)
    assert keeper.known["one"].failure == (str(failure) or "MemoryError")
    assert source.asked == 1
