"""Fixtures shared by all tests."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.gateway import GatewayProcess, four_services, gateways
from tests.support.upstream import ScriptedUpstream

# Otherwise each process would compile the tests and rewrite their assertions again.
sys.dont_write_bytecode = False
# Processes that a shell starts in the background ignore SIGINT, and their children would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Random examples on each run; tests that need more set their own number.
# Hypothesis measures wall time, which says nothing about a test on a busy machine.
settings.register_profile("suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Runs all tests of a file in one process, and all tests of the browser, which is started once."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/browser/"
        return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling | None:
    return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="module")
def module_upstream() -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream()
    yield upstream
    upstream.close()


@pytest.fixture
def upstream(module_upstream: ScriptedUpstream) -> Iterator[ScriptedUpstream]:
    """The module's upstream, reset."""
    module_upstream.reset()
    yield module_upstream
    module_upstream.reset()


@pytest.fixture(scope="module")
def start_gateway() -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways that end with the module."""
    with gateways() as start:
        yield start


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with the built-in services, all at the module's upstream."""
    return start_gateway(four_services(module_upstream.url))
