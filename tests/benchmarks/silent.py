"""The gateway without access log, metrics and status figures, to measure what they cost."""

from gateway import create_app
from gateway.telemetry.telemetry import telemetry_of

app = create_app()
telemetry = telemetry_of(app)
assert telemetry is not None
telemetry.records.consumers.clear()
