"""Which target a request goes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from gateway.config import ServiceSettings
from gateway.errors import Overloaded, UpstreamOpen
from gateway.proxy.breaker import Breaker
from gateway.proxy.target import Target


@dataclass(slots=True, eq=False)
class TargetState:
    """What this worker knows of a target. `is_healthy` is the verdict of the active health checks; it is True until
    `is_health_known`."""

    target: Target
    breaker: Breaker
    weight: int = 1
    in_flight: int = 0
    is_healthy: bool = True
    is_health_known: bool = False
    # For round robin: how much it is this target's turn.
    turn: int = field(default=0)


class Balancer:
    """Chooses among a service's targets: of those that may be asked, by `balancing`. `chance` gives numbers from 0 to
    1, `clock` monotonic seconds."""

    def __init__(self, settings: ServiceSettings, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        weights = settings.weights or (1,) * len(settings.targets)
        self.states = [
            TargetState(Target.parse(url), Breaker(settings.breaker, clock), weight)
            for url, weight in zip(settings.targets, weights, strict=True)
        ]
        self._only = self.states[0] if len(self.states) == 1 else None
        self._min_available = settings.health.min_available
        self._most = settings.max_in_flight_per_target
        self._balancing = settings.balancing
        self._chance = chance

    def choose(self, caller: str, is_streamed: bool = False) -> TargetState:
        """The target for a request of this caller; `is_streamed`: its body is not at hand. Raises UpstreamOpen where
        none may be asked at the moment, Overloaded where all have as much as they may."""
        only = self._only
        if only is not None and not only.breaker.is_open and self._most is None:
            return only
        return self._chosen(self.candidates(is_streamed), caller)

    def candidates(self, is_streamed: bool = False) -> Sequence[TargetState]:
        """Those that `choose` chooses among. Raises UpstreamOpen, Overloaded."""
        allowed = self._allowed(is_streamed)
        if not allowed:
            raise UpstreamOpen(self._seconds_until_next_try())
        usable = self._with_room(self._usable(allowed))
        if not usable:
            raise Overloaded("try again in a moment")
        return usable

    def another(self, caller: str, tried: Collection[TargetState]) -> TargetState | None:
        """A target that this request has not been sent to yet; None where there is none to be asked."""
        usable = self._other_candidates(tried)
        return self._chosen(usable, caller) if usable else None

    def has_another(self, tried: Collection[TargetState]) -> bool:
        """Whether there is such a target at the moment."""
        return bool(self._other_candidates(tried))

    def _other_candidates(self, tried: Collection[TargetState]) -> Sequence[TargetState]:
        # A request that has failed once goes where it is likely to be answered.
        return self._with_room(self._usable(self._allowed(prefers_closed=True, tried=tried)))

    def _allowed(self, prefers_closed: bool, tried: Collection[TargetState] = ()) -> Sequence[TargetState]:
        """Those that a request may be sent to by their breakers. `prefers_closed`: it is to be a probe only where there
        is no other way to send it."""
        states = [state for state in self.states if state.weight]
        untried = [state for state in states if state not in tried]
        closed = [state for state in untried if not state.breaker.is_open]
        if closed and prefers_closed:
            return closed
        is_alone = all(state.breaker.is_open for state in states)
        return [state for state in untried if state.breaker.allows(is_alone)]

    def _usable(self, allowed: Sequence[TargetState]) -> Sequence[TargetState]:
        """Those that are well and don't ask to be left alone, else those that there are."""
        well = [state for state in allowed if state.is_healthy]
        # Where hardly any target seems to be well, the question is more likely to be wrong than all the targets.
        usable = well if len(well) >= max(1, self._min_available) else allowed
        return [state for state in usable if not state.breaker.is_resting] or usable

    def _with_room(self, states: Sequence[TargetState]) -> Sequence[TargetState]:
        return states if self._most is None else [state for state in states if state.in_flight < self._most]

    def _chosen(self, candidates: Sequence[TargetState], caller: str) -> TargetState:
        if len(candidates) == 1:
            return candidates[0]
        if self._balancing == "round_robin":
            return next_in_turn(candidates)
        if self._balancing == "principal":
            return max(candidates, key=lambda state: affinity(state, caller))
        return self._less_busy_of_two(candidates)

    def _less_busy_of_two(self, candidates: Sequence[TargetState]) -> TargetState:
        """Of two random ones: nearly as good as the least busy of all, and workers that don't know of each other don't
        all run to the same one."""
        first, second = self._weighted(candidates), self._weighted(candidates)
        return first if first.in_flight * second.weight <= second.in_flight * first.weight else second

    def _weighted(self, candidates: Sequence[TargetState]) -> TargetState:
        point = self._chance() * sum(state.weight for state in candidates)
        for state in candidates:
            point -= state.weight
            if point < 0:
                return state
        return candidates[-1]

    def _seconds_until_next_try(self) -> int:
        waits = [state.breaker.seconds_until_next_try(is_alone=True) for state in self.states if state.weight]
        return max(1, math.ceil(min(waits)))


def next_in_turn(candidates: Sequence[TargetState]) -> TargetState:
    """Round robin by weight, evenly mixed: 5 and 1 come as a a a b a a."""
    for state in candidates:
        state.turn += state.weight
    chosen = max(candidates, key=lambda state: state.turn)
    chosen.turn -= sum(state.weight for state in candidates)
    return chosen


def affinity(state: TargetState, caller: str) -> float:
    """How much a caller belongs to a target (weighted rendezvous hashing): where one target goes or comes, only its own
    share of callers moves."""
    digest = blake2b(f"{state.target.url} {caller}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    share = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -state.weight / math.log(share)
