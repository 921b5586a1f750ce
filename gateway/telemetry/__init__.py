"""Access log, metrics and traces. None of them delays a request: each finished request is queued as a `RequestRecord`,
and a background thread passes the records to all consumers.

Read `request_records` first, then the consumers: `access_log` (with `log_writer`), `request_metrics` and
`span_recorder`. `metrics/` defines every metric, `gauges` updates the metrics of a worker's present state, `tracing/`
builds and exports spans. `telemetry` assembles all of them.

Record: a finished request. Consumer: a function that gets up to 100 records at a time. Number: the name of a worker in
its metrics files. Redaction: replacing the parts of paths that a route's `redact` names."""
