"""The slots of a service: how many requests may be in flight, of one caller, and of uploads.

A streamed upload holds its slot for as long as its client likes to send, so that a few slow clients could keep all
others from a service. So the uploads that are still coming in have only a share of the slots, and those of one caller a
smaller one.
"""

from __future__ import annotations

from gateway.config import ServiceSettings
from gateway.errors import Overloaded
from gateway.proxy.forwarding_headers import rate_limit_address


class SlotGroup:
    """Requests that have so many slots together, and so many each caller."""

    def __init__(self, most: int, most_per_caller: int) -> None:
        self._most = most
        # Callers need not be told apart where each may have all of them.
        self._most_per_caller = most_per_caller if most_per_caller < most else 0
        self._by_caller: dict[str, int] = {}
        self.taken = 0

    def check(self, caller: str, what: str) -> None:
        """Raises Overloaded where there is no slot left for this caller."""
        if self.taken >= self._most:
            raise Overloaded(f"the service has as many {what} as it may have; try again in a moment")
        if self._most_per_caller and self._by_caller.get(rate_limit_address(caller), 0) >= self._most_per_caller:
            raise Overloaded(f"this caller has as many {what} as one caller may have; try again in a moment")

    def take(self, caller: str) -> None:
        self.taken += 1
        if self._most_per_caller:
            caller = rate_limit_address(caller)
            self._by_caller[caller] = self._by_caller.get(caller, 0) + 1

    def give_back(self, caller: str) -> None:
        self.taken -= 1
        if self._most_per_caller:
            caller = rate_limit_address(caller)
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]


class InFlightLimits:
    """Of one service, in this worker. `ForwardRequest.caller` identifies a caller; addresses of one IPv6 network are
    one caller, as for rate limits."""

    def __init__(self, settings: ServiceSettings) -> None:
        most, share = settings.max_in_flight, settings.max_in_flight_per_caller
        self._requests = SlotGroup(most, share_of(most, share))
        uploads = share_of(most, settings.max_uploads_in_flight)
        self._uploads = SlotGroup(uploads, min(uploads, share_of(most, settings.max_uploads_in_flight_per_caller)))

    @property
    def taken(self) -> int:
        """Requests whose responses have not ended."""
        return self._requests.taken

    def check(self, caller: str) -> None:
        """Raises Overloaded where there is no slot for a request of this caller."""
        self._requests.check(caller, "requests in flight")

    def take(self, caller: str, is_upload: bool) -> Slot:
        """The slot of a request that the service is to be asked now. `is_upload`: its body is still coming in. Raises
        Overloaded."""
        self._requests.check(caller, "requests in flight")
        if not is_upload:
            self._requests.take(caller)
            return Slot(self._requests, None, caller)
        self._uploads.check(caller, "uploads under way")
        self._requests.take(caller)
        self._uploads.take(caller)
        return Slot(self._requests, self._uploads, caller)


class Slot:
    """A taken slot, which is to be given back once."""

    __slots__ = ("_caller", "_requests", "_uploads")

    def __init__(self, requests: SlotGroup, uploads: SlotGroup | None, caller: str) -> None:
        self._requests = requests
        self._uploads = uploads
        self._caller = caller

    def end_upload(self) -> None:
        """The body is whole: from now on, this is a request as any other."""
        uploads, self._uploads = self._uploads, None
        if uploads is not None:
            uploads.give_back(self._caller)

    def give_back(self) -> None:
        if self._uploads is not None:
            self.end_upload()
        self._requests.give_back(self._caller)


def share_of(most: int, share: float) -> int:
    """So large a share of the slots, and one at least."""
    return max(1, int(most * share))
