"""The JSON that workers publish to Redis. It is validated when it is read: anybody with access to Redis may have
written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gateway.proxy.breaker import State as BreakerState
from gateway.status.latency import BUCKETS
from gateway.status.rolling_stats import SLOTS
from gateway.tokens.key_source import KeyState

Health = Literal["healthy", "unhealthy", "unknown", "not checked"]
RedisState = Literal["ok", "down", "not configured"]

Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=2048)]


class Slot(NamedTuple):
    """A slot in the form that `rolling_stats.Slot.to_json` writes. `buckets` has the buckets that are not empty, by
    their index."""

    number: Count
    requests: Count
    errors: Count
    refusals: Count
    codes: Annotated[dict[Name, Count], Field(max_length=100)]
    buckets: dict[Annotated[int, Field(ge=0, lt=BUCKETS)], Count]


class Report(BaseModel):
    # Further fields are ignored, as other versions of the gateway may have them.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class TargetReport(Report):
    """A target as one worker sees it. `open_seconds` is the time until an open breaker lets a request through.
    `is_paused` is true if the target requested a pause with Retry-After."""

    url: Name
    health: Health
    breaker: BreakerState
    open_seconds: Amount
    is_paused: bool
    in_flight: int


class ServiceReport(Report):
    prefix: Name
    in_flight: int
    targets: tuple[TargetReport, ...]
    running: Slot | None = None


class KeyReport(Report):
    """The keys of one issuer. `age_seconds` is None if the keys are configured or were never loaded."""

    issuer: Name
    state: KeyState
    age_seconds: Amount | None


class WorkerReport(Report):
    """The state of a worker at the time `at`, in seconds since 1970 by the worker's clock. `build` is a hash of the
    code, `configuration` is a hash of the settings."""

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


# The finished slots of each service, oldest first.
History = Mapping[str, tuple[Slot, ...]]
HISTORY: TypeAdapter[dict[Name, tuple[Slot, ...]]] = TypeAdapter(
    dict[Name, Annotated[tuple[Slot, ...], Field(max_length=SLOTS)]]
)


def read_report(text: bytes | str) -> WorkerReport:
    """Parses and validates a report. Raises ValueError."""
    return WorkerReport.model_validate_json(text)


def read_history(text: bytes | str) -> History:
    """Parses and validates a history. Raises ValueError."""
    return HISTORY.validate_json(text)
