"""The limit on file descriptors of a process (RLIMIT_NOFILE), raised for the configured number of connections."""

from __future__ import annotations

import logging
import resource

# A client connection needs two descriptors: its own, and one for the connection to an upstream. The worker needs others
# besides.
DESCRIPTORS_PER_CONNECTION = 2
OTHER_DESCRIPTORS = 100

log = logging.getLogger("gunicorn.error")


def raise_descriptor_limit(connections_per_worker: int) -> None:
    """Raises the soft limit of this process and its workers as far as the hard limit allows: the usual soft limit of
    1024 is reached at about 500 requests at once. Logs a warning where even the hard limit is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = DESCRIPTORS_PER_CONNECTION * connections_per_worker + OTHER_DESCRIPTORS
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning(
            "server.connections_per_worker = %s may need %s descriptors, and this process may have %s (ulimit -n)",
            connections_per_worker,
            needed,
            allowed,
        )
