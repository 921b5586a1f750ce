"""Chooses the target for a request, by the breaker, health and load of each target and the service's `balancing`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gateway.config import ServiceSettings
from gateway.errors import Overloaded, UpstreamOpen
from gateway.proxy.breaker import Breaker
from gateway.proxy.target import Target


@dataclass(slots=True, eq=False)
class TargetState:
    """What this worker knows of a target. `is_healthy` is the verdict of the active health checks. Until there is a
    verdict, `is_healthy` is True and `is_health_known` is False."""

    target: Target
    breaker: Breaker
    weight: int = 1
    in_flight: int = 0
    is_healthy: bool = True
    is_health_known: bool = False
    # Round robin chooses the target with the most credit.
    credit: int = 0


class Balancer:
    """Chooses among a service's targets. `chance` returns numbers from 0 to 1, `clock` monotonic seconds."""

    def __init__(self, settings: ServiceSettings, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        weights = settings.weights or (1,) * len(settings.targets)
        self.states = [
            TargetState(Target.parse(url), Breaker(settings.breaker, clock), weight)
            for url, weight in zip(settings.targets, weights, strict=True)
        ]
        self._only = self.states[0] if len(self.states) == 1 else None
        self._min_available = settings.health.min_available
        self._max_in_flight = settings.max_in_flight_per_target
        self._balancing = settings.balancing
        self._chance = chance

    def choose(self, caller: str, is_streamed: bool = False) -> TargetState:
        """The target for a request of this caller. `is_streamed` is whether the request's body is still being received.
        Raises UpstreamOpen if the breakers allow no target, Overloaded if all targets have reached their in-flight
        limit."""
        only = self._only
        if only is not None and not only.breaker.is_open and self._max_in_flight is None:
            return only
        return self._choose_among(self.candidates(is_streamed), caller)

    def candidates(self, is_streamed: bool = False) -> Sequence[TargetState]:
        """The targets among which `choose` chooses. Raises UpstreamOpen or Overloaded."""
        # A streamed upload takes long, so it should not be the probe of a half-open breaker.
        allowed = self._allowed(prefers_closed=is_streamed)
        if not allowed:
            raise UpstreamOpen(self._seconds_until_next_try())
        available = self._below_in_flight_limit(self._preferred(allowed))
        if not available:
            raise Overloaded("try again in a moment")
        return available

    def choose_another(self, caller: str, tried: Collection[TargetState]) -> TargetState | None:
        """A target for a retry, to which this request has not been sent yet; None if there is none."""
        others = self._other_candidates(tried)
        return self._choose_among(others, caller) if others else None

    def has_another(self, tried: Collection[TargetState]) -> bool:
        return bool(self._other_candidates(tried))

    def _other_candidates(self, tried: Collection[TargetState]) -> Sequence[TargetState]:
        # A request that has failed once should not be the probe of a half-open breaker: the probe may fail as well.
        return self._below_in_flight_limit(self._preferred(self._allowed(prefers_closed=True, tried=tried)))

    def _allowed(self, prefers_closed: bool, tried: Collection[TargetState] = ()) -> Sequence[TargetState]:
        """The targets to which breakers allow a request, without those in `tried`. With `prefers_closed`, targets with
        a half-open breaker are included only if no target has a closed one."""
        states = [state for state in self.states if state.weight]
        untried = [state for state in states if state not in tried]
        closed = [state for state in untried if not state.breaker.is_open]
        if closed and prefers_closed:
            return closed
        is_alone = all(state.breaker.is_open for state in states)
        return [state for state in untried if state.breaker.allows(is_alone)]

    def _preferred(self, allowed: Sequence[TargetState]) -> Sequence[TargetState]:
        """Drops unhealthy targets, then targets that have asked for a pause by Retry-After. A step that would drop all
        targets drops none."""
        healthy = [state for state in allowed if state.is_healthy]
        # Panic threshold: with fewer healthy targets than `min_available`, health results are ignored. It is more
        # likely that the check is wrong than that so many targets are unhealthy.
        usable = healthy if len(healthy) >= max(1, self._min_available) else allowed
        return [state for state in usable if not state.breaker.is_resting] or usable

    def _below_in_flight_limit(self, states: Sequence[TargetState]) -> Sequence[TargetState]:
        limit = self._max_in_flight
        return states if limit is None else [state for state in states if state.in_flight < limit]

    def _choose_among(self, candidates: Sequence[TargetState], caller: str) -> TargetState:
        if len(candidates) == 1:
            return candidates[0]
        if self._balancing == "round_robin":
            return next_in_rotation(candidates)
        if self._balancing == "principal":
            return max(candidates, key=lambda state: affinity(state, caller))
        return self._less_busy_of_two(candidates)

    def _less_busy_of_two(self, candidates: Sequence[TargetState]) -> TargetState:
        """The less busy of two random targets. The least busy of all would be little better. Besides, workers do not
        know each other's load, and would all choose the same least busy target."""
        first, second = self._random(candidates), self._random(candidates)
        return first if first.in_flight * second.weight <= second.in_flight * first.weight else second

    def _random(self, candidates: Sequence[TargetState]) -> TargetState:
        """A random target. The chance of each target is proportional to its weight."""
        point = self._chance() * sum(state.weight for state in candidates)
        for state in candidates:
            point -= state.weight
            if point < 0:
                return state
        return candidates[-1]

    def _seconds_until_next_try(self) -> int:
        waits = [state.breaker.seconds_until_next_try(is_alone=True) for state in self.states if state.weight]
        return max(1, math.ceil(min(waits)))


def next_in_rotation(candidates: Sequence[TargetState]) -> TargetState:
    """Smooth weighted round robin: targets a and b with weights 5 and 1 are chosen in the order a a a b a a."""
    for state in candidates:
        state.credit += state.weight
    chosen = max(candidates, key=lambda state: state.credit)
    chosen.credit -= sum(state.weight for state in candidates)
    return chosen


def affinity(state: TargetState, caller: str) -> float:
    """The score of a target for a caller; a caller's target is the one with the highest score (weighted rendezvous
    hashing). If a target is added or removed, callers move only to or from that target."""
    digest = blake2b(f"{state.target.url} {caller}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    share = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -state.weight / math.log(share)
