"""W3C Trace Context: which traces are continued, which start here, and what upstreams receive."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.trace_context import Propagator, Trace, read_traceparent, read_tracestate

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE_ID}-{PARENT_ID}-01"
SENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
HEX = "0123456789abcdef"


def started(
    traceparent: str | None = None, tracestate: str | None = None, *, ratio: float = 1, is_exporting: bool = False
) -> Trace:
    return Propagator(ratio, random.getrandbits, is_exporting=is_exporting).start_trace(traceparent, tracestate)


def sent(trace: Trace) -> dict[str, str]:
    return dict(trace.headers())


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE_ID}-{PARENT_ID}-00", 0),
        (f"00-{TRACE_ID}-{PARENT_ID}-03", 3),
        # Unknown flags are not forwarded.
        (f"00-{TRACE_ID}-{PARENT_ID}-ff", 3),
        (f"00-{TRACE_ID}-{PARENT_ID}-fc", 0),
        (f" \t{VALID}\t ", 1),
        # Of a later version, those parts are used that version 00 has.
        (f"01-{TRACE_ID}-{PARENT_ID}-01", 1),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-will-be-like", 1),
        (f"fe-{TRACE_ID}-{PARENT_ID}-09-", 1),
    ],
)
def test_a_valid_traceparent_is_continued(value: str, flags: int) -> None:
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
        f"{VALID}-",
        f"{VALID}-more",
        f"{VALID}.",
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
        # A server joins several header fields in this form.
        f"{VALID},{VALID}",
        f"{VALID}, 00-{'1' * 32}-{PARENT_ID}-01",
        f"01-{TRACE_ID}-{PARENT_ID}-01-x,01-{TRACE_ID}-{PARENT_ID}-01",
        f"{VALID},",
        f",{VALID}",
        f"00 -{TRACE_ID}-{PARENT_ID}-01",
        f"{VALID}\n",
    ],
)
def test_an_invalid_traceparent_starts_a_trace_without_the_clients_state(value: str) -> None:
    assert read_traceparent(value) is None
    trace = started(value, "vendor=1")
    assert trace.trace_id != TRACE_ID
    assert trace.parent_id == ""
    assert SENT.fullmatch(sent(trace)["Traceparent"])
    assert "Tracestate" not in sent(trace)


@pytest.mark.parametrize(
    ("value", "forwarded"),
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
        # If the state is too long, long members are removed first, from the end. If that is not enough, the last
        # members are removed.
        (f"a=1,b={'v' * 200},c={'v' * 200},d={'v' * 200}", f"a=1,b={'v' * 200},c={'v' * 200}"),
        (",".join(f"k{n}={'v' * 97}" for n in range(6)), ",".join(f"k{n}={'v' * 97}" for n in range(5))),
    ],
)  # fmt: skip
def test_a_valid_state_is_forwarded_and_shortened_to_512_bytes(value: str, forwarded: str) -> None:
    assert read_tracestate(value) == forwarded
    assert sent(started(VALID, value)).get("Tracestate", "") == forwarded


def test_without_spans_the_upstreams_parent_is_the_clients_span() -> None:
    for trace in (started(VALID), started(f"00-{TRACE_ID}-{PARENT_ID}-00", is_exporting=True)):
        assert not trace.is_recorded
        trace.start_attempt()
        assert sent(trace)["Traceparent"][:-2] == VALID[:-2]


def test_with_spans_each_attempt_has_a_span_id() -> None:
    trace = started(VALID, "a=1", is_exporting=True)
    seen = {PARENT_ID}
    for _ in range(3):
        trace.start_attempt()
        version, trace_id, parent_id, flags = sent(trace)["Traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
        assert sent(trace)["Tracestate"] == "a=1"
        assert parent_id not in seen
        seen.add(parent_id)


def test_the_sample_ratio_applies_to_traces_that_start_here() -> None:
    assert {started(ratio=0).flags for _ in range(50)} == {2}
    assert {started(ratio=1).flags for _ in range(50)} == {3}
    assert started(VALID, ratio=0, is_exporting=True).is_recorded
    # The lower half of the id decides about sampling, as in OpenTelemetry's samplers.
    for low, flags in [((1 << 62) - 1, 3), (1 << 62, 2)]:
        bits = (7 << 64) | low
        propagator = Propagator(0.25, lambda size, bits=bits: bits % (1 << size), is_exporting=False)  # type: ignore[misc]
        assert propagator.start_trace(None, None).flags == flags


def test_no_id_is_all_zero() -> None:
    trace = Propagator(1, lambda _: 0, is_exporting=True).start_trace(None, None)
    trace.start_attempt()
    assert SENT.fullmatch(sent(trace)["Traceparent"])


@given(st.one_of(st.text(max_size=80), st.text(HEX + "-", min_size=53, max_size=60)), st.text(max_size=600))
def test_whatever_a_client_sends_the_forwarded_headers_are_valid(traceparent: str, tracestate: str) -> None:
    fields = sent(started(traceparent, tracestate, is_exporting=True))
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
def test_valid_headers_are_forwarded(version: str, trace_id: str, parent_id: str, flags: int, state: str) -> None:
    fields = sent(started(f"{version}-{trace_id}-{parent_id}-{flags:02x}", state))
    assert fields == {"Traceparent": f"00-{trace_id}-{parent_id}-{flags & 3:02x}", "Tracestate": state}
