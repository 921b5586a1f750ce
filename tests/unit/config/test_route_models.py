"""Validation of the settings of a route."""

from __future__ import annotations

import pytest

from tests.support.configuration import (
    devices,
    errors_of,
    loaded,
)


@pytest.mark.parametrize(
    ("path", "names", "error"),
    [
        ("/api/devices/{id}/{token}", ["token", "id"], None),
        ("/api/devices/{id}/**", ["path"], None),
        ("/api/devices/{id}", ["path"], "'path' is not a placeholder of the path (id)"),
        ("/api/devices/{id}/{token}", ["tokens"], "'tokens' is not a placeholder of the path (id, token)"),
        ("/api/devices/id", ["id"], "'id' is not a placeholder of the path (it has none)"),
    ],
)
def test_redacted_placeholders_are_in_the_path(path: str, names: list[str], error: str | None) -> None:
    tree = devices(routes=[{"path": path, "redact": names}])
    if error is None:
        assert loaded(tree).services["devices"].routes[0].redact == tuple(names)
    else:
        assert errors_of(tree) == [f"services.devices.routes[0].redact: {error}"]
