"""The gateway's URL rules behave as Werkzeug's own rules, also in features that only an application uses, like
`url_for`."""

from __future__ import annotations

import pytest
from flask import url_for

from gateway.application import build
from gateway.config import load_settings
from tests.support.tokens import SECRET


@pytest.mark.parametrize(
    ("values", "url"),
    [({"item": "a b"}, "/extra/a%20b"), ({"item": "a", "page": "2"}, "/extra/a?page=2")],
    ids=["path", "query"],
)
def test_url_for_builds_urls(values: dict[str, str], url: str) -> None:
    app = build(load_settings({"GATEWAY_JWT__SECRET": SECRET}))
    app.add_url_rule("/extra/<item>", "extra", lambda item: item)
    with app.test_request_context("/"):
        assert url_for("extra", **values) == url  # type: ignore[arg-type]
