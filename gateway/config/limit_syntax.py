"""A limit as it is written: `300/minute`, `5/10s burst 20`, `1000/hour fixed by claim:tenant+service`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["sliding", "fixed", "bucket"]

# The largest number of requests and of seconds: far beyond any use, and exact in every counter.
MAX_NUMBER = 10**9
# Buckets are counted in thousandths of a request times the period, in Redis with doubles. These are exact for integers
# up to this one.
MAX_BUCKET_PARTS = 2**53
UNITS = {1: "s sec second seconds", 60: "m min minute minutes", 3600: "h hour hours", 86400: "d day days"}
UNITS |= {30 * 86400: "month months", 360 * 86400: "year years"}
UNIT_SECONDS = {name: seconds for seconds, names in UNITS.items() for name in names.split()}
RATE = (
    r"(?P<amount>[0-9]{1,12})\s*(?:/|\s+per\s+)\s*(?:(?P<multiple>[0-9]{1,12})\s*)?"
    rf"(?P<unit>{'|'.join(UNIT_SECONDS)})"
)
LIMIT = re.compile(
    rf"{RATE}(?:\s+(?:(?P<algorithm>sliding|fixed)|burst\s+(?P<burst>[0-9]{{1,12}})))?(?:\s+by\s+(?P<by>\S+))?",
    re.IGNORECASE | re.ASCII,
)
DIMENSION = re.compile(r"principal|address|service|route|claim:\S+|header:[!#$%&'*.^_`|~0-9A-Za-z-]+")
SEPARATOR = re.compile("[,;|]")
EXAMPLES = '"300/minute", "5/second burst 20" or "1000/hour by claim:tenant+service"'


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """A parsed limit: `amount` requests in `window_seconds`. A bucket holds `burst` requests and refills at that rate.

    `by` names what requests are counted by: `principal`, `address`, `service`, `route`, `claim:PATH`, `header:NAME`.
    Each combination of their values has its own counter."""

    text: str
    amount: int
    window_seconds: int
    algorithm: Algorithm
    burst: int
    by: tuple[str, ...]

    @property
    def capacity(self) -> int:
        """The highest cost that a single request can be charged."""
        return self.burst if self.algorithm == "bucket" else self.amount


def parse_limits(text: str) -> list[LimitSpec]:
    """The limits of a string, which may hold several: `10/second; 300/minute`. Raises ValueError."""
    return [parse_limit(part.strip()) for part in SEPARATOR.split(text)]


def parse_limit(text: str) -> LimitSpec:
    """Parses a single limit. Raises ValueError."""
    found = LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(f"must be like {EXAMPLES}, got {text!r}")
    amount, multiple, burst = int(found["amount"]), int(found["multiple"] or 1), int(found["burst"] or 0)
    window_seconds = multiple * UNIT_SECONDS[found["unit"].lower()]
    by = tuple(found["by"].split("+")) if found["by"] else ("principal",)
    if unknown := [one for one in by if not DIMENSION.fullmatch(one)]:
        raise ValueError(f"counts by principal, address, service, route, claim:NAME or header:NAME, got {unknown[0]!r}")
    numbers = (amount, window_seconds, burst if found["burst"] else 1)
    if not all(1 <= number <= MAX_NUMBER for number in numbers):
        raise ValueError(f"numbers must be from 1 to {MAX_NUMBER}, got {text!r}")
    if burst * window_seconds * 1000 > MAX_BUCKET_PARTS:
        raise ValueError(f"burst is too large for so long a period, got {text!r}")
    algorithm: Algorithm = "fixed" if (found["algorithm"] or "").lower() == "fixed" else "sliding"
    return LimitSpec(text, amount, window_seconds, "bucket" if burst else algorithm, burst, by)


def check_limits(text: str) -> str:
    parse_limits(text)
    return text
