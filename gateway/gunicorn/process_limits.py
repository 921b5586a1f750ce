"""What a worker has of the system: as many descriptors as may be, and memory, shared where it can be."""

from __future__ import annotations

import gc
import logging
import resource

# What a worker needs beside its clients' connections: for each of those one to a service, and some for itself.
DESCRIPTORS_PER_CONNECTION = 2
OWN_DESCRIPTORS = 100

log = logging.getLogger("gunicorn.error")


def raise_descriptor_limit(connections_per_worker: int) -> None:
    """Takes as many descriptors as this process is allowed, for itself and its workers: the usual soft limit of 1024
    is a few hundred requests at once. Tells where they are too few for the configured connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_PER_CONNECTION * connections_per_worker + OWN_DESCRIPTORS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "server.connections_per_worker = %s may need %s descriptors, and this process may have %s (ulimit -n)",
            connections_per_worker,
            wanted,
            allowed,
        )


def share_memory() -> None:
    """Before workers are forked: what is there by now is theirs, too, and stays shared as long as nobody writes to it.
    The garbage collector would, looking through it again and again, and once more when a worker ends."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    # A request leaves one small cycle, by Werkzeug's search for its mapping; most of what is looked through is
    # remembered tokens, which stay.
    gc.set_threshold(10_000, 20, 20)
