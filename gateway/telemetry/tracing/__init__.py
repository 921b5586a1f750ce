"""Spans of sampled requests, exported to a collector if `tracing.otlp_endpoint` is set.

`spans` describes a request by OpenTelemetry's semantic conventions, without importing OpenTelemetry. `export` passes
the spans to the OpenTelemetry SDK; only this module needs the SDK (`requirements.txt` in this folder), and it is
imported only if a collector is configured. `gateway.trace_context` reads and writes the headers.
"""
