"""What is told of requests, behind their backs: a finished one leaves a note, and waits for nobody.

`notes` has them read for many at once: by `access_log` (whose lines `log_writer` writes), `request_metrics` and
`span_recorder`. `gauges` looks how the worker is at the moment, `service_watch` tells what becomes of a service's
targets. `reporting` brings them together.
"""
