"""Adds up the reports and histories of all workers to the figures that `/status` shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.status.publisher import REPORT_TTL_SECONDS
from gateway.status.report_schema import History, KeyReport, Slot, TargetReport, WorkerReport
from gateway.status.rolling_stats import SLOT_SECONDS, SLOTS
from gateway.status.series import Period, series
from gateway.status.service_health import health_of_service

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class WorkerData:
    """What one worker published. `report` is None if the worker has ended. `history` is empty if the worker is new."""

    report: WorkerReport | None
    history: History


def summarize(workers: Sequence[WorkerData], now: float) -> dict[str, Any]:
    """Returns the gateways with their workers, the services with their targets, Redis and the keys, as `/status` shows
    them. `now` is in seconds since 1970."""
    alive = [one.report for one in workers if one.report is not None]
    shifted = [shifted_slots(one, now) for one in workers]
    # Reports are some seconds old: requests since then are not in them.
    lags = [min(max(0.0, now - one.at), REPORT_TTL_SECONDS) for one in alive if not is_skewed(one, now)]
    running = int(now // SLOT_SECONDS)
    period = Period(
        running,
        running_seconds=now - running * SLOT_SECONDS - (sum(lags) / len(lags) if lags else 0.0),
        complete_until=int((now - max(lags, default=0.0)) // SLOT_SECONDS),
    )
    numbers = [slot.number for services in shifted for slots in services.values() for slot in slots]
    begins = [now - number * SLOT_SECONDS for number in numbers if number < running]
    age = max([one.uptime_seconds for one in alive] + begins, default=0.0)
    names = sorted({name for one in alive for name in one.services})
    services = []
    for name in names:
        reports = [one.services[name] for one in alive if name in one.services]
        targets = [target for one in reports for target in one.targets]
        slots = [slot for worker in shifted for slot in worker.get(name, ())]
        service = {
            "name": name,
            "prefix": reports[0].prefix,
            "in_flight": sum(one.in_flight for one in reports),
            **series(slots, period, age),
            "targets": [target_of(url, seen) for url, seen in grouped(targets, lambda one: one.url).items()],
        }
        services.append({**service, **health_of_service(service)})
    gateways = map(gateway_of, grouped(alive, lambda one: one.gateway).values())
    keys = [key for one in alive for key in one.keys]
    return {
        "slot_seconds": SLOT_SECONDS,
        "window_seconds": SLOTS * SLOT_SECONDS,
        "gateways": sorted(gateways, key=lambda one: (one["host"], one["id"])),
        "services": services,
        "redis": redis_of(alive),
        "keys": [keys_of(issuer, seen) for issuer, seen in grouped(keys, lambda one: one.issuer).items()],
    }


def is_skewed(report: WorkerReport, now: float) -> bool:
    """Whether the clock of the worker's machine differs from this one: a report that has not expired can be neither
    this old nor from the future."""
    return not -1.0 <= now - report.at <= REPORT_TTL_SECONDS + SLOT_SECONDS


def shifted_slots(worker: WorkerData, now: float) -> dict[str, list[Slot]]:
    """Returns the worker's finished and running slots of each service. If the worker's clock differs, the slots get the
    numbers that they would have by the clock of this machine."""
    report = worker.report
    shift = round((now - report.at) / SLOT_SECONDS) if report is not None and is_skewed(report, now) else 0
    services: dict[str, dict[int, Slot]] = {
        name: {slot.number: slot for slot in slots} for name, slots in worker.history.items()
    }
    for name, service in (report.services if report is not None else {}).items():
        if service.running is not None:
            # A running slot that is also in the history has finished since the report. The history's slot is more
            # complete, and stays.
            services.setdefault(name, {}).setdefault(service.running.number, service.running)
    return {
        name: [slot._replace(number=slot.number + shift) for slot in slots.values()] for name, slots in services.items()
    }


def grouped(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def gateway_of(reports: Sequence[WorkerReport]) -> dict[str, Any]:
    first = max(reports, key=lambda one: one.at)
    workers = [
        {
            **one.model_dump(include={"pid", "rss_bytes", "redis", "build", "configuration"}),
            "uptime_seconds": round(one.uptime_seconds, 1),
            "in_flight": sum(service.in_flight for service in one.services.values()),
        }
        for one in sorted(reports, key=lambda one: one.pid)
    ]
    return {
        "id": first.gateway,
        "host": first.host,
        "build": first.build,
        "configuration": first.configuration,
        "workers": workers,
    }


def target_of(url: str, seen: Sequence[TargetReport]) -> dict[str, Any]:
    """Sums up how all workers that have the target see it."""
    breakers = Counter(one.breaker for one in seen)
    health = Counter(one.health for one in seen)
    return {
        "url": url,
        "workers": len(seen),
        # "unknown" comes after the others: a worker that has just started knows no health yet, and then the results of
        # other workers count.
        "health": next(state for state in ("unhealthy", "healthy", "unknown", "not checked") if health[state]),
        "unhealthy_in": health["unhealthy"],
        "breaker": next((state for state in ("open", "half-open") if breakers[state]), "closed"),
        "open_in": breakers["open"],
        "half_open_in": breakers["half-open"],
        # The time until the first of the workers lets a request through again.
        "open_seconds": round(min((one.open_seconds for one in seen if one.breaker == "open"), default=0.0), 1),
        "paused_in": sum(one.is_paused for one in seen),
        "in_flight": sum(one.in_flight for one in seen),
    }


def redis_of(alive: Sequence[WorkerReport]) -> dict[str, Any]:
    states = Counter(one.redis for one in alive)
    state = "down" if states["down"] else "ok" if states["ok"] else "not configured"
    return {"state": state, "workers": len(alive), "down_in": states["down"]}


def keys_of(issuer: str, seen: Sequence[KeyReport]) -> dict[str, Any]:
    """Sums up an issuer's keys: the worst state and the oldest age of all workers."""
    states: Mapping[str, int] = Counter(one.state for one in seen)
    ages = [one.age_seconds for one in seen if one.age_seconds is not None]
    # From worst to best, except that "ok" hides "never loaded": a worker loads keys only with its first token.
    order = ("failing", "ok", "never loaded", "fixed")
    return {
        "issuer": issuer,
        "state": next(state for state in order if states.get(state)),
        "workers": len(seen),
        "failing_in": states.get("failing", 0),
        "never_loaded_in": states.get("never loaded", 0),
        "age_seconds": round(max(ages), 1) if ages else None,
    }
