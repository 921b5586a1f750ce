"""Checks at the start that the gateway's uses of private parts of libraries still work. Without these checks an
upgraded library could disable a part of the gateway, such as the verification of tokens, without an error.

`overrides` lists methods of libraries that the gateway replaces, with the functions that must call them. `behaviour`
calls libraries and checks the results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import gateway.redis  # noqa: F401 - must import redis first, as it leaves out parts of redis
from gateway.errors import LibraryMismatch
from gateway.library_checks import behaviour
from gateway.library_checks.overrides import OVERRIDES, check_override, check_settings

# Each check, with the name of the package that it checks.
CHECKS: list[tuple[str, Callable[[], None]]] = [
    *((library, partial(check_override, *one)) for library, listed in OVERRIDES.items() for one in listed),
    ("gunicorn", check_settings),
    ("gunicorn", behaviour.check_request_parser),
    ("gevent", behaviour.check_sockets),
    ("Werkzeug", behaviour.check_responses),
    ("Flask-Limiter", behaviour.check_limiter),
    ("PyJWT", behaviour.check_tokens),
    ("redis", behaviour.check_redis_connection),
    ("prometheus_client", behaviour.check_metrics_files),
]


def check_libraries() -> None:
    """Raises LibraryMismatch with a line for each check that fails. Takes a few milliseconds."""
    mismatches = []
    for library, check in CHECKS:
        try:
            check()
        except Exception as error:
            # Mostly an AttributeError, whose text names the missing attribute.
            reason = str(error) or type(error).__name__
            mismatches.append(f"{library} {version_of(library)}: {reason}")
    if mismatches:
        raise LibraryMismatch(list(dict.fromkeys(mismatches)))


def version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "of an unknown version"
