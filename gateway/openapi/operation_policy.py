"""Which policy an operation of a document gets: the one that its requests meet at run time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.route_policy import RoutePolicy

# Never forwarded, so no policy covers them, whatever its methods.
REFUSED_METHODS = frozenset(["CONNECT", "TRACE"])
PLACEHOLDER = "{}"  # no segment of a path is this one: placeholders have names


def policy_for(policies: Iterable[RoutePolicy], method: str, template: str) -> RoutePolicy | None:
    """The policy that a request for the path template gets, or None where the gateway does not forward it (404, 405).
    For several templates make one PolicyTable."""
    return PolicyTable(policies).policy_for(method, template)


@dataclass(slots=True)
class Node:
    """What is known at a point of a path: policies that end here, those for all below, and the ways on."""

    here: list[RoutePolicy] = field(default_factory=list)
    below: list[RoutePolicy] = field(default_factory=list)
    on: dict[str, Node] = field(default_factory=dict)


class PolicyTable:
    """The policies of all services, in the order of `policies.policies_of`, by their paths.

    Segment by segment the literal way comes before the placeholder, and that before everything below; where no policy
    at the end of a way takes the method, the next way is tried. Of policies that end at the same point, the first one
    that takes the method counts. A final slash changes nothing."""

    def __init__(self, policies: Iterable[RoutePolicy]) -> None:
        self._root = Node()
        for policy in policies:
            node = self._root
            for segment in segments_of(policy.path.removesuffix("/**")):
                node = node.on.setdefault(PLACEHOLDER if segment.startswith("{") else segment, Node())
            node.here.append(policy)
            if policy.path.endswith("/**"):
                node.below.append(policy)

    def policy_for(self, method: str, template: str) -> RoutePolicy | None:
        """As the function. A placeholder in the template stands for a value that no configured path has."""
        method = method.upper()
        if method in REFUSED_METHODS:
            return None
        return find(self._root, segments_of(template), method)


def find(node: Node, segments: list[str], method: str) -> RoutePolicy | None:
    # A path may have thousands of segments, so the ways down are kept in a list: the last one is tried first.
    ways = [(node, 0)]
    while ways:
        node, position = ways.pop()
        if position < 0:
            if policy := first(node.below, method):
                return policy
            continue
        if position == len(segments):
            if policy := first(node.here, method):
                return policy
            continue
        segment = segments[position]
        ways.append((node, -1))
        # An empty segment is no value for a placeholder.
        if segment and PLACEHOLDER in node.on:
            ways.append((node.on[PLACEHOLDER], position + 1))
        if segment in node.on:
            ways.append((node.on[segment], position + 1))
    return None


def first(policies: list[RoutePolicy], method: str) -> RoutePolicy | None:
    for policy in policies:
        # Werkzeug lets HEAD in wherever GET is.
        if not policy.methods or method in policy.methods or (method == "HEAD" and "GET" in policy.methods):
            return policy
    return None


def segments_of(path: str) -> list[str]:
    """Without one final slash; an empty segment is a segment: /a//b has three."""
    inner = path.removeprefix("/").removesuffix("/")
    return inner.split("/") if inner else []
