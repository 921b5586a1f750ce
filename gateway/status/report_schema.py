"""What a worker tells the others of itself. What comes out of Redis is checked as if anybody could have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gateway.proxy.breaker import State as BreakerState
from gateway.status.latency import BUCKETS
from gateway.status.rolling_stats import SLOTS
from gateway.tokens.key_source import KeyState

Health = Literal["well", "unwell", "unknown", "not asked"]
RedisState = Literal["ok", "down", "not configured"]

Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=2048)]


class Slot(NamedTuple):
    """`recent.Slot` as it is passed on. `buckets` has those that are not empty, by their index."""

    number: Count
    requests: Count
    errors: Count
    refusals: Count
    codes: Annotated[dict[Name, Count], Field(max_length=100)]
    buckets: dict[Annotated[int, Field(ge=0, lt=BUCKETS)], Count]


class Report(BaseModel):
    # Another version of the gateway may tell more.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class TargetReport(Report):
    """`open_seconds` is until when a request may try, where the breaker is open. `is_resting`: it asked for a pause."""

    url: Name
    health: Health
    breaker: BreakerState
    open_seconds: Amount
    is_resting: bool
    in_flight: int


class ServiceReport(Report):
    prefix: Name
    in_flight: int
    targets: tuple[TargetReport, ...]
    running: Slot | None = None


class KeyReport(Report):
    """The keys of one issuer. `age_seconds` is None where they don't age, or were never loaded."""

    issuer: Name
    state: KeyState
    age_seconds: Amount | None


class WorkerReport(Report):
    """How a worker is at the moment `at` (seconds since 1970, as it sees it). `build` and `configuration` are tags by
    which is seen if two gateways are the same."""

    gateway: Name
    host: Name
    pid: Count
    build: Name
    configuration: Name
    at: Amount
    uptime_seconds: Amount
    rss_bytes: Count | None
    redis: RedisState
    keys: tuple[KeyReport, ...]
    services: dict[Name, ServiceReport]


# The finished slots of each service, the oldest first.
History = Mapping[str, tuple[Slot, ...]]
HISTORY: TypeAdapter[dict[Name, tuple[Slot, ...]]] = TypeAdapter(
    dict[Name, Annotated[tuple[Slot, ...], Field(max_length=SLOTS)]]
)


def read_report(text: bytes | str) -> WorkerReport:
    """Raises ValueError."""
    return WorkerReport.model_validate_json(text)


def read_history(text: bytes | str) -> History:
    """Raises ValueError."""
    return HISTORY.validate_json(text)
