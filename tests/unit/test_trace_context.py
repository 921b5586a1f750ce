"""W3C Trace Context: what is kept, what starts anew, what a service is told."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.trace_context import Propagation, Trace, read_traceparent, read_tracestate

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE_ID}-{PARENT_ID}-01"
SENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
HEX = "0123456789abcdef"


def begun(
    traceparent: str | None = None, tracestate: str | None = None, *, ratio: float = 1, is_exporting: bool = False
) -> Trace:
    return Propagation(ratio, random.getrandbits, is_exporting=is_exporting).begin(traceparent, tracestate)


def sent(trace: Trace) -> dict[str, str]:
    return dict(trace.fields())


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (GOOD, 1),
        (f"00-{TRACE_ID}-{PARENT_ID}-00", 0),
        (f"00-{TRACE_ID}-{PARENT_ID}-03", 3),
        # Flags that this version does not know are not passed on.
        (f"00-{TRACE_ID}-{PARENT_ID}-ff", 3),
        (f"00-{TRACE_ID}-{PARENT_ID}-fc", 0),
        (f" \t{GOOD}\t ", 1),
        # Of later versions, what this one knows.
        (f"01-{TRACE_ID}-{PARENT_ID}-01", 1),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-will-be-like", 1),
        (f"fe-{TRACE_ID}-{PARENT_ID}-09-", 1),
    ],
)
def test_what_is_kept(value: str, flags: int) -> None:
    assert read_traceparent(value) == (TRACE_ID, PARENT_ID, flags)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-",
        "00",
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"00-{TRACE_ID}-{PARENT_ID}-",
        f"00-{TRACE_ID}-{PARENT_ID}-1",
        f"00-{TRACE_ID}-{PARENT_ID}-001",
        f"00-{TRACE_ID}-{PARENT_ID}-0g",
        f"{GOOD}-",
        f"{GOOD}-more",
        f"{GOOD}.",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"0-{TRACE_ID}-{PARENT_ID}-01",
        f"000-{TRACE_ID}-{PARENT_ID}-01",
        f"0x-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"01-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID.upper()}-01",
        f"00-{TRACE_ID[:-1]}-{PARENT_ID}-01",
        f"00-{TRACE_ID}0-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}0-01",
        f"00_{TRACE_ID}_{PARENT_ID}_01",
        f"01-{TRACE_ID}-{PARENT_ID}-01.more",
        f"01-{TRACE_ID}-{PARENT_ID}-010",
        f"00-{TRACE_ID}-{PARENT_ID}-\uff101",
        # Several fields, as a server joins them.
        f"{GOOD},{GOOD}",
        f"{GOOD}, 00-{'1' * 32}-{PARENT_ID}-01",
        f"01-{TRACE_ID}-{PARENT_ID}-01-x,01-{TRACE_ID}-{PARENT_ID}-01",
        f"{GOOD},",
        f",{GOOD}",
        f"00 -{TRACE_ID}-{PARENT_ID}-01",
        f"{GOOD}\n",
    ],
)
def test_what_starts_anew_without_its_state(value: str) -> None:
    assert read_traceparent(value) is None
    trace = begun(value, "vendor=1")
    assert trace.trace_id != TRACE_ID
    assert trace.parent_id == ""
    assert SENT.fullmatch(sent(trace)["Traceparent"])
    assert "Tracestate" not in sent(trace)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("", ""),
        ("a=1", "a=1"),
        ("a=1,b=2", "a=1,b=2"),
        (" \ta=1 , \tb=2\t", "a=1 , \tb=2"),
        ("a=1,,b=2,", "a=1,,b=2,"),
        (",", ""),
        ("tenant@system=x,0a=1,a*b/c_d-e=~", "tenant@system=x,0a=1,a*b/c_d-e=~"),
        ("a= inner blank", "a= inner blank"),
        (f"{'k' * 200}={'v' * 200}", f"{'k' * 200}={'v' * 200}"),
        ("A=1", ""),
        ("a=1=2", ""),
        ("a", ""),
        ("a=", ""),
        ("a =1", ""),
        ("=1", ""),
        ("a=\x7f", ""),
        ("a=é", ""),
        (f"{'k' * 257}=1", ""),
        (f"a={'v' * 257}", ""),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        # Too long: the long ones go first, from the end; then the last ones.
        (f"a=1,b={'v' * 200},c={'v' * 200},d={'v' * 200}", f"a=1,b={'v' * 200},c={'v' * 200}"),
        (",".join(f"k{n}={'v' * 97}" for n in range(6)), ",".join(f"k{n}={'v' * 97}" for n in range(5))),
    ],
)  # fmt: skip
def test_states(value: str, kept: str) -> None:
    assert read_tracestate(value) == kept
    assert sent(begun(GOOD, value)).get("Tracestate", "") == kept


def test_where_no_spans_are_made_the_service_hangs_from_who_asked() -> None:
    for trace in (begun(GOOD), begun(f"00-{TRACE_ID}-{PARENT_ID}-00", is_exporting=True)):
        assert not trace.is_recorded
        trace.begin_call()
        assert sent(trace)["Traceparent"][:-2] == GOOD[:-2]


def test_where_spans_are_made_each_attempt_is_one() -> None:
    trace = begun(GOOD, "a=1", is_exporting=True)
    seen = {PARENT_ID}
    for _ in range(3):
        trace.begin_call()
        version, trace_id, parent_id, flags = sent(trace)["Traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
        assert sent(trace)["Tracestate"] == "a=1"
        assert parent_id not in seen
        seen.add(parent_id)


def test_the_ratio_is_of_traces_that_start_here() -> None:
    assert {begun(ratio=0).flags for _ in range(50)} == {2}
    assert {begun(ratio=1).flags for _ in range(50)} == {3}
    assert begun(GOOD, ratio=0, is_exporting=True).is_recorded
    # By the lower half of the id, as OpenTelemetry's samplers do.
    for low, flags in [((1 << 62) - 1, 3), (1 << 62, 2)]:
        bits = (7 << 64) | low
        propagation = Propagation(0.25, lambda size, bits=bits: bits % (1 << size), is_exporting=False)  # type: ignore[misc]
        assert propagation.begin(None, None).flags == flags


def test_no_id_is_all_zero() -> None:
    trace = Propagation(1, lambda _: 0, is_exporting=True).begin(None, None)
    trace.begin_call()
    assert SENT.fullmatch(sent(trace)["Traceparent"])


@given(st.one_of(st.text(max_size=80), st.text(HEX + "-", min_size=53, max_size=60)), st.text(max_size=600))
def test_whatever_comes_what_goes_on_is_right(traceparent: str, tracestate: str) -> None:
    fields = sent(begun(traceparent, tracestate, is_exporting=True))
    assert SENT.fullmatch(fields["Traceparent"])
    state = fields.get("Tracestate", "")
    assert len(state) <= 512
    assert all(" " <= character <= "~" or character == "\t" for character in state)


@given(
    st.text(HEX, min_size=2, max_size=2).filter(lambda version: version != "ff"),
    st.text(HEX, min_size=32, max_size=32).filter(lambda one: one.strip("0")),
    st.text(HEX, min_size=16, max_size=16).filter(lambda one: one.strip("0")),
    st.integers(0, 255),
    st.from_regex(
        r"[a-z][a-z0-9]{0,8}=[!-+\--<>-~]{1,30}(,[a-z][a-z0-9]{0,8}=[!-+\--<>-~]{1,30}){0,9}", fullmatch=True
    ),
)
def test_what_is_right_is_kept(version: str, trace_id: str, parent_id: str, flags: int, state: str) -> None:
    fields = sent(begun(f"{version}-{trace_id}-{parent_id}-{flags:02x}", state))
    assert fields == {"Traceparent": f"00-{trace_id}-{parent_id}-{flags & 3:02x}", "Tracestate": state}
