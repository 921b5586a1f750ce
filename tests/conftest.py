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

# Bytecode is written. Otherwise each process of pytest-xdist would compile the tests and rewrite their assertions
# again.
sys.dont_write_bytecode = False
# Processes that a shell starts in the background ignore SIGINT, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Each run uses new random examples; tests that need more of them set their own number. There is no deadline, because
# Hypothesis measures wall time, which depends on how busy the machine is.
settings.register_profile("suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives all tests of a file to one process. All tests of the browser go to one process, too, so that it is started
    once."""

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
    """The upstream of the module, without the requests and scripts of earlier tests."""
    module_upstream.reset()
    yield module_upstream
    module_upstream.reset()


@pytest.fixture(scope="module")
def start_gateway() -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways, which are stopped at the end of the module."""
    with gateways() as start:
        yield start


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with the built-in services, all at the module's upstream."""
    return start_gateway(four_services(module_upstream.url))
