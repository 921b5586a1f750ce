"""The syntax of limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.limit_syntax import MAX_NUMBER, Algorithm, LimitSpec, parse_limit, parse_limits


def limit(
    text: str, amount: int, seconds: int, algorithm: Algorithm = "sliding", burst: int = 0, by: str = "principal"
) -> LimitSpec:
    return LimitSpec(text, amount, seconds, algorithm, burst, tuple(by.split("+")))


@pytest.mark.parametrize(
    "expected",
    [
        limit("300/minute", 300, 60),
        limit("10 per 5 second", 10, 5),
        limit("10 / 2 hours", 10, 7200),
        limit("5/SECOND", 5, 1),
        limit("5/10s", 5, 10),
        limit("5/10 s", 5, 10),
        limit("300/m", 300, 60),
        limit("300/MIN burst 5", 300, 60, "bucket", 5),
        limit("1000/2h by address", 1000, 7200, by="address"),
        limit("1/d fixed", 1, 86400, "fixed"),
        limit("5/second sliding", 5, 1),
        limit("5/second fixed", 5, 1, "fixed"),
        limit("5/second burst 20", 5, 1, "bucket", 20),
        limit("5/second burst 20 by address", 5, 1, "bucket", 20, "address"),
        limit("1000/hour by claim:tenant+service", 1000, 3600, by="claim:tenant+service"),
        limit("1000/hour fixed by claim:realm.tenant", 1000, 3600, "fixed", by="claim:realm.tenant"),
        limit("1/day by header:X-Api-Key+route+principal", 1, 86400, by="header:X-Api-Key+route+principal"),
    ],
)
def test_a_limit_is_read(expected: LimitSpec) -> None:
    assert parse_limit(expected.text) == expected


def test_what_fits_through_at_once_is_the_amount_or_the_burst() -> None:
    assert [parse_limit(text).capacity for text in ("5/second", "5/second burst 20", "20/second burst 5")] == [5, 20, 5]


def test_one_text_may_hold_several() -> None:
    assert [(one.amount, one.by) for one in parse_limits("10/second; 300/minute by address , 5/day")] == [
        (10, ("principal",)),
        (300, ("address",)),
        (5, ("principal",)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be like"),
        ("300", "must be like"),
        ("300/fortnight", "must be like"),
        ("-1/minute", "must be like"),
        ("1.5/minute", "must be like"),
        ("5/second burst", "must be like"),
        ("5/second burst -1", "must be like"),
        ("5/second fixed burst 3", "must be like"),
        ("5/second by", "must be like"),
        ("5/second by claim: tenant", "must be like"),
        ("0/minute", "numbers must be from 1"),
        ("5/\u017fecond", "must be like"),
        ("1/0 minutes", "numbers must be from 1"),
        ("5/second burst 0", "numbers must be from 1"),
        (f"{MAX_NUMBER + 1}/minute", "numbers must be from 1"),
        (f"5/second burst {MAX_NUMBER + 1}", "numbers must be from 1"),
        ("5/day burst 1000000000", "burst is too large"),
        ("5/second by user", "counts by principal"),
        ("5/second by principal+", "counts by principal"),
        ("5/second by claim:", "counts by principal"),
        ("5/second by header:a:b", "counts by principal"),
    ],
)
def test_invalid_limits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_limits(text)


@given(st.text(st.sampled_from("0123456789/ perminute;by:+burstfixed\n٣é"), max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        limits = parse_limits(text)
    except ValueError:
        return
    assert all(1 <= one.amount <= MAX_NUMBER and one.by for one in limits)
