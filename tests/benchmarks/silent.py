"""The gateway without all that it tells of requests: no log, no counts. To measure what those cost."""

from gateway import create_app
from gateway.telemetry.telemetry import telemetry_of

app = create_app()
telemetry = telemetry_of(app)
assert telemetry is not None
telemetry.records.consumers.clear()
