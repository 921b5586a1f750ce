"""The gateway with a delay: it merges no documents until the file named by the variable RELEASED_BY exists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gevent.monkey import get_original

RELEASED_BY = "RELEASED_BY"

# Tests import this module, too, but only a gateway has this variable.
if RELEASED_BY in os.environ:
    from gateway.api_documents import catalog
    from gateway.routes.docs import views as docs

    # Requests for a document don't wait for the first merge, as no test needs that.
    docs.FIRST_SECONDS = 0.05
    usual, sleep = catalog.make_snapshot, get_original("time", "sleep")

    def make_snapshot(*given: Any) -> catalog.Snapshot:
        while not Path(os.environ[RELEASED_BY]).exists():
            sleep(0.01)
        return usual(*given)

    catalog.make_snapshot = make_snapshot  # type: ignore[assignment] # it takes whatever the usual one takes
    from wsgi import app  # noqa: F401 - builds everything
