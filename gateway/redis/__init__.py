"""Redis: the client that gateways share their counters, revocations and documents with, and the private server that is
started if none is configured.

`client` is what other packages use. Below it: `multiplexed`, the one connection that all requests of a worker share;
`cluster` and `sentinel`, the clients of several servers, which ask all of them at once (`first_response`) and check the
`addresses` that these return; `connection_classes` and `tls`, how a connection is made within its timeout.
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
