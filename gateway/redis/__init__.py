"""Redis, in which gateways share counters, revocations and documents: its client, and the private server that is
started if no Redis is configured.

Other packages use `client`, which uses the other modules: `multiplexed` has the one connection that all requests of a
worker share. `cluster` and `sentinel` are clients of several servers; they ask all servers at once (`first_response`)
and check the `addresses` in the replies. `connection_classes` and `tls` open connections within the timeout.
`private_server` starts a Redis of the gateway's own.
"""

import sys

if "opentelemetry" not in sys.modules:
    # redis-py can count its commands by OpenTelemetry; the gateway never makes it do so. Where the packages for tracing
    # are installed, importing redis imports their metrics SDK as well: 5 % of the CPU time of a start. None is how
    # Python's import system marks a package that can't be imported.
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]
    import redis  # noqa: F401

    del sys.modules["opentelemetry"]
