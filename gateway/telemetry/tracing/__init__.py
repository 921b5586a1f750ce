"""Traces that a request is part of: kept or started, passed on, and told as spans where a collector is configured.

`trace_context` reads and writes W3C's fields, `spans` says what happened in OpenTelemetry's words, `export` hands it
to the OpenTelemetry SDK; `gateway.telemetry` has it done when an answer has gone out. Only `export` needs the SDK, and
it is imported where there is a collector alone: others need not even install it (`requirements.txt` here lists it).
"""
