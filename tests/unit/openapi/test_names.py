"""Names of different services never collide, and don't depend on other services."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.openapi.names import UniqueNames, prefixed, suggested_name, tag_name

services = st.from_regex(r"[ab][ab0]?(_[ab0]){0,2}", fullmatch=True)
names = st.text(alphabet="abA0._-", max_size=6)


def test_name_begins_with_its_service() -> None:
    assert prefixed("devices", "Device") == "devices_Device"
    assert prefixed("devices", "list_devices") == "devices_list_devices"
    assert prefixed("big_devices", "Device") == "big_devices.Device"
    assert prefixed("devices", "common.Device") == "devices-common.Device"


@settings(deadline=None)
@given(services, names, services, names)
@example("a", "b_C", "a_b", "C")
@example("a", "b.C", "a_b", "C")
@example("a", "b_c.D", "a_b", "c.D")
def test_two_pairs_never_make_the_same_name(service: str, name: str, other_service: str, other_name: str) -> None:
    if (service, name) != (other_service, other_name):
        assert prefixed(service, name) != prefixed(other_service, other_name)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="aB _/~é$.", max_size=4), unique=True))
def test_changed_names_are_valid_and_unique(given_names: list[str]) -> None:
    made = UniqueNames("s")
    made.reserve(given_names)
    found = [made.assign(name, name) for name in given_names]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in found)
    # A valid name stays unchanged, whatever names come before it.
    assert all(
        new == prefixed("s", old) for old, new in zip(given_names, found, strict=True) if re.fullmatch(r"[aB_.]+", old)
    )


def test_key_has_one_name() -> None:
    made = UniqueNames("s")
    assert [made.assign(1, "A"), made.assign(2, "A"), made.assign(1, "B")] == ["s_A", "s_A_2", "s_A"]
    assert made.get(2) == "s_A_2"
    assert made.get(3) is None


@pytest.mark.parametrize(("tag", "name"), [("lamps", "s: lamps"), ("S", "s"), ("", "s: "), ("s: x", "s: s: x")])
def test_tag_names(tag: str, name: str) -> None:
    assert tag_name("s", tag) == name


def test_suggested_name_is_readable_and_short() -> None:
    assert suggested_name(("paths", "/a/{id}", "get", "responses", "200")) == "paths_a_id_get_responses_200"
    assert len(suggested_name(["x" * 1000])) == 100
    assert suggested_name(()) == "part"
