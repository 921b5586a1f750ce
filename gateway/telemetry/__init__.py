"""Access log, metrics and traces, written behind the request: each finished request is queued as a `RequestRecord`,
and a background thread passes the records to all consumers.

Read `request_records` first, then the consumers: `access_log` (with `log_writer`), `request_metrics` and
`span_recorder`. `metrics/` defines every metric, `gauges` updates those of a worker's present state, `tracing/` builds
and exports spans. `telemetry` assembles all of them.

Record: a finished request. Consumer: a function that gets up to 100 records at a time. Number: names a worker's metrics
files. Redaction: replacing what a route's `redact` names in paths.
"""
