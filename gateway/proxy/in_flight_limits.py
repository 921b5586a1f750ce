"""Limits how many requests of a service may be in flight, and how many of them may be streamed uploads: in all, and per
caller.

A streamed upload is in flight for as long as its client takes to send it, so a few slow clients could keep all others
from a service. Uploads may therefore take only a share of the service's slots, and the uploads of one caller a smaller
share.
"""

from __future__ import annotations

from gateway.config import ServiceSettings
from gateway.errors import Overloaded
from gateway.proxy.trusted_proxies import rate_limit_address


class SlotCounter:
    """Counts taken slots, in all and by caller, against a maximum of each."""

    def __init__(self, maximum: int, maximum_per_caller: int) -> None:
        self._maximum = maximum
        # 0 if one caller may take all slots: callers need not be counted then.
        self._maximum_per_caller = maximum_per_caller if maximum_per_caller < maximum else 0
        self._by_caller: dict[str, int] = {}
        self.taken = 0

    def check(self, caller: str, what: str) -> None:
        """Raises Overloaded if no slot is left for this caller."""
        if self.taken >= self._maximum:
            raise Overloaded(f"the service has reached its limit of {what}; try again in a moment")
        if self._maximum_per_caller and self._by_caller.get(rate_limit_address(caller), 0) >= self._maximum_per_caller:
            raise Overloaded(f"this caller has reached its limit of {what}; try again in a moment")

    def take(self, caller: str) -> None:
        self.taken += 1
        if self._maximum_per_caller:
            caller = rate_limit_address(caller)
            self._by_caller[caller] = self._by_caller.get(caller, 0) + 1

    def release(self, caller: str) -> None:
        self.taken -= 1
        if self._maximum_per_caller:
            caller = rate_limit_address(caller)
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]


class InFlightLimits:
    """The in-flight limits of one service, in this worker. `ForwardRequest.caller` identifies a caller. Addresses of
    one IPv6 network are one caller, as for rate limits."""

    def __init__(self, settings: ServiceSettings) -> None:
        maximum, share = settings.max_in_flight, settings.max_in_flight_per_caller
        self._requests = SlotCounter(maximum, share_of(maximum, share))
        uploads = share_of(maximum, settings.max_uploads_in_flight)
        uploads_per_caller = share_of(maximum, settings.max_uploads_in_flight_per_caller)
        self._uploads = SlotCounter(uploads, min(uploads, uploads_per_caller))

    @property
    def count(self) -> int:
        """The number of requests whose responses have not ended."""
        return self._requests.taken

    def check(self, caller: str) -> None:
        """Raises Overloaded if no slot is left for a request of this caller."""
        self._requests.check(caller, "requests in flight")

    def take(self, caller: str, is_upload: bool) -> InFlightSlot:
        """Takes a slot for a request that is about to be sent. `is_upload` is whether its body is still being received.
        Raises Overloaded."""
        self._requests.check(caller, "requests in flight")
        if is_upload:
            self._uploads.check(caller, "uploads in flight")
            self._uploads.take(caller)
        self._requests.take(caller)
        return InFlightSlot(self._requests, self._uploads if is_upload else None, caller)


class InFlightSlot:
    """A taken slot. `release` must be called once."""

    __slots__ = ("_caller", "_requests", "_uploads")

    def __init__(self, requests: SlotCounter, uploads: SlotCounter | None, caller: str) -> None:
        self._requests = requests
        self._uploads = uploads
        self._caller = caller

    def end_upload(self) -> None:
        """To be called when the body has been received completely: the request no longer counts as an upload."""
        uploads, self._uploads = self._uploads, None
        if uploads is not None:
            uploads.release(self._caller)

    def release(self) -> None:
        self.end_upload()
        self._requests.release(self._caller)


def share_of(maximum: int, share: float) -> int:
    """A share of the slots, at least one."""
    return max(1, int(maximum * share))
