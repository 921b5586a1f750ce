"""The gateway without all that it tells of requests: no log, no counts. To measure what those cost."""

from gateway import create_app
from gateway.reporting.reporting import reporting_of

app = create_app()
reporting = reporting_of(app)
assert reporting is not None
reporting.notes.readers.clear()
