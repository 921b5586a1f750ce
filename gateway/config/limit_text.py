"""A limit as it is written: `300/minute`, `5/10s burst 20`, `1000/hour fixed by claim:tenant+service`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from limits import parse

Algorithm = Literal["sliding", "fixed", "bucket"]

MAX_NUMBER = 10**9  # requests, and seconds: far beyond any use, and exact in every counter
# What a bucket holds is counted in this many parts; doubles, which Redis counts in, hold whole numbers up to here.
MAX_BUCKET_PARTS = 2**53
LIMIT = re.compile(
    r"(?P<amount>[0-9]+)\s*(?:/|\s+per\s+)\s*(?:(?P<multiple>[0-9]+)\s*)?(?P<unit>[a-z]+)"
    r"(?:\s+(?:(?P<algorithm>sliding|fixed)|burst\s+(?P<burst>[0-9]{1,12})))?"
    r"(?:\s+by\s+(?P<by>\S+))?",
    re.IGNORECASE,
)
# As people write them, beside those of `limits`: second, minute, hour, day, month, year.
UNITS = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day"}
DIMENSION = re.compile(r"principal|address|service|route|claim:\S+|header:[!#$%&'*.^_`|~0-9A-Za-z-]+")
SEPARATOR = re.compile("[,;|]")
EXAMPLES = '"300/minute", "5/second burst 20" or "1000/hour by claim:tenant+service"'


@dataclass(frozen=True, slots=True)
class LimitText:
    """`amount` in `window_seconds`; of a bucket, that is how fast it fills, and `burst` what it holds. `by` names what
    is counted apart: `principal`, `address`, `service`, `route`, `claim:PATH`, `header:NAME`."""

    text: str
    amount: int
    window_seconds: int
    algorithm: Algorithm
    burst: int
    by: tuple[str, ...]

    @property
    def capacity(self) -> int:
        """The most that can be taken at once."""
        return self.burst if self.algorithm == "bucket" else self.amount


def parse_limits(text: str) -> list[LimitText]:
    """The limits of a text, which may hold several: `10/second; 300/minute`. Raises ValueError."""
    return [parse_limit(part.strip()) for part in SEPARATOR.split(text)]


def parse_limit(text: str) -> LimitText:
    found = LIMIT.fullmatch(text)
    if found is None:
        raise ValueError(f"must be like {EXAMPLES}, got {text!r}")
    unit = UNITS.get(found["unit"].lower(), found["unit"])
    try:
        rate = parse(f"{found['amount']}/{found['multiple'] or ''}{unit}")
    except ValueError:
        raise ValueError(f"must be like {EXAMPLES}, got {text!r}") from None
    amount, window_seconds, burst = rate.amount, rate.get_expiry(), int(found["burst"] or 0)
    by = tuple(found["by"].split("+")) if found["by"] else ("principal",)
    if wrong := [one for one in by if not DIMENSION.fullmatch(one)]:
        raise ValueError(f"counts by principal, address, service, route, claim:NAME or header:NAME, got {wrong[0]!r}")
    # limits takes "1 per 0 minute" for one minute.
    numbers = [amount, window_seconds, *(int(found[name]) for name in ("multiple", "burst") if found[name])]
    if not all(1 <= number <= MAX_NUMBER for number in numbers):
        raise ValueError(f"numbers must be from 1 to {MAX_NUMBER}, got {text!r}")
    if burst * window_seconds * 1000 > MAX_BUCKET_PARTS:
        raise ValueError(f"has too large a burst for so long a period, got {text!r}")
    algorithm: Algorithm = "fixed" if (found["algorithm"] or "").lower() == "fixed" else "sliding"
    return LimitText(text, amount, window_seconds, "bucket" if burst else algorithm, burst, by)


def check_limit(text: str) -> str:
    parse_limits(text)
    return text
