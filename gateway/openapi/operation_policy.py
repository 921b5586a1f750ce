"""Finds the policy of an operation in a document: the one that its requests get at run time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.config.validators import REFUSED_METHODS
from gateway.route_policy import RoutePolicy

PLACEHOLDER = "{}"  # a key that no path segment equals, because placeholders have names


@dataclass(slots=True)
class Node:
    """A point in the tree of path segments: the policies that end here, those that cover everything below, and the
    children by their segment."""

    here: list[RoutePolicy] = field(default_factory=list)
    below: list[RoutePolicy] = field(default_factory=list)
    children: dict[str, Node] = field(default_factory=dict)


class PolicyTable:
    """The policies of all services by their paths; `policies` are in the order of `route_policy.policies_of`.

    At each segment, a literal is tried before a placeholder, and a placeholder before a policy for everything below. If
    no policy at the end of one branch accepts the method, the next branch is tried. Of several policies at the same
    point, the first one that accepts the method applies. A final slash makes no difference."""

    def __init__(self, policies: Iterable[RoutePolicy]) -> None:
        self._root = Node()
        for policy in policies:
            node = self._root
            for segment in segments_of(policy.path.removesuffix("/**")):
                key = PLACEHOLDER if segment.startswith("{") else segment
                node = node.children.setdefault(key, Node())
            node.here.append(policy)
            if policy.path.endswith("/**"):
                node.below.append(policy)

    def policy_for(self, method: str, template: str) -> RoutePolicy | None:
        """The policy of a request for this path template; None if the gateway does not forward it (404, 405). A
        placeholder in the template stands for a value that no configured path has."""
        method = method.upper()
        # The gateway refuses these methods under every policy.
        if method in REFUSED_METHODS:
            return None
        return search(self._root, segments_of(template), method)


def search(root: Node, segments: list[str], method: str) -> RoutePolicy | None:
    # A stack instead of recursion, because a path may have thousands of segments. The last branch is tried first; the
    # position -1 stands for the policies for everything below a node.
    branches = [(root, 0)]
    while branches:
        node, position = branches.pop()
        if position in (-1, len(segments)):
            if policy := first_for(node.below if position < 0 else node.here, method):
                return policy
            continue
        segment = segments[position]
        branches.append((node, -1))
        # A placeholder does not match an empty segment.
        if segment and PLACEHOLDER in node.children:
            branches.append((node.children[PLACEHOLDER], position + 1))
        if segment in node.children:
            branches.append((node.children[segment], position + 1))
    return None


def first_for(policies: list[RoutePolicy], method: str) -> RoutePolicy | None:
    for policy in policies:
        # Werkzeug accepts HEAD wherever it accepts GET.
        if not policy.methods or method in policy.methods or (method == "HEAD" and "GET" in policy.methods):
            return policy
    return None


def segments_of(path: str) -> list[str]:
    """The segments without a final slash. An empty segment counts: /a//b has three."""
    inner = path.removeprefix("/").removesuffix("/")
    return inner.split("/") if inner else []
