"""The gateway as it is deployed: `gunicorn wsgi:app` in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.client import Reply, exchange, request_bytes
from tests.support.preloaded import start, start_activated
from tests.support.tokens import SECRET

ROOT = Path(__file__).resolve().parents[2]
# Variables that gateways of tests don't inherit. With PYTHONDONTWRITEBYTECODE each gateway would compile all sources
# again.
UNWANTED = re.compile(r"^(GATEWAY_|REDIS_URL$|PORT$|WEB_CONCURRENCY$|PYTHONDONTWRITEBYTECODE$)")

BUILT_IN = ("AUTH", "LIVESTREAMS", "RULES", "DEVICES")
# A bound port at which nothing listens: connections are refused, and no other process gets it.
_taken = socket.socket()
_taken.bind(("127.0.0.1", 0))
NOWHERE = f"http://127.0.0.1:{_taken.getsockname()[1]}"

SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.1


def clean_environment() -> dict[str, str]:
    """This process's environment without the gateway's settings. GATEWAY_CONFIG names an empty file, so that no
    gateway.toml is read."""
    wanted = {name: value for name, value in os.environ.items() if not UNWANTED.match(name)}
    return wanted | {"GATEWAY_CONFIG": os.devnull}


def variables(settings: Mapping[str, Any], prefix: str = "GATEWAY") -> dict[str, str]:
    """Turns nested tables into environment variables: {"jwt": {"secret": "x"}} becomes {"GATEWAY_JWT__SECRET": "x"}."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{'_' if prefix == 'GATEWAY' else '__'}{key.upper()}"
        if isinstance(value, dict):
            found |= variables(value, name)
        else:
            found[name] = value if isinstance(value, str) else json.dumps(value)
    return found


def built_in_services_nowhere(settings: Mapping[str, Any], environ: Mapping[str, str | None]) -> dict[str, str]:
    """Variables that give the built-in services a target which refuses connections, because a developer may run any
    server at the built-in ports. Settings of the test take precedence. Empty if the gateway may not have built-in
    services."""
    if settings.get("default_services") is False or "GATEWAY_CONFIG" in environ:
        return {}
    return {f"GATEWAY_SERVICES__{name}__TARGETS": json.dumps([NOWHERE]) for name in BUILT_IN}


class GatewayProcess:
    """A running gateway. `settings` has the structure of the TOML file. By default the gateway has a valid secret and
    high limits."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        workers: int = 2,
        environ: Mapping[str, str | None] | None = None,
        arguments: Sequence[str] = (),
        application: str = "wsgi:app",
        listener: socket.socket | None = None,
    ) -> None:
        """With `listener`, the gateway gets this socket by socket activation, as from systemd."""
        defaults = {
            "GATEWAY_JWT__SECRET": SECRET,
            "GATEWAY_SERVER__BIND": "127.0.0.1:0",
            "GATEWAY_RATELIMIT__DEFAULT": "1000000/minute",
            "GATEWAY_RATELIMIT__ANONYMOUS": "1000000/minute",
            "WEB_CONCURRENCY": str(workers),
        }
        defaults |= built_in_services_nowhere(settings, environ or {})
        wanted: dict[str, str | None] = {**clean_environment(), **defaults, **variables(settings), **(environ or {})}
        self._logged: list[dict[str, Any]] = []
        self._read_bytes = 0
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - open as long as the process
        variables_in_force = {name: value for name, value in wanted.items() if value is not None}
        words = ["gunicorn", *arguments, application]
        if listener is None:
            self.process = start(words, variables_in_force, ROOT, (self._output.fileno(), self._output.fileno()))
        else:
            self.process = start_activated(words, variables_in_force, ROOT, self._output.fileno(), listener)
        try:
            self._wait(lambda: "Listening at:" in self.output(), "listen")
            found = re.search(r"Listening at: https?://(?:\[[^\]]*\]|[^:]+):(\d+)", self.output())
            assert found is not None
            self.port = int(found[1])
            self._wait(lambda: self.output().count("Booting worker") >= workers, "start its workers")
        except BaseException:
            self.stop()
            raise

    def output(self) -> str:
        """The gateway's output so far: errors, messages and access log."""
        return os.pread(self._output.fileno(), 1 << 26, 0).decode()

    def access_log(self) -> list[dict[str, Any]]:
        new = os.pread(self._output.fileno(), 1 << 26, self._read_bytes)
        # An incomplete line is read by the next call.
        new = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(new)
        self._logged += [json.loads(line) for line in new.splitlines() if line.startswith(b"{")]
        return list(self._logged)

    def wait_for_log(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits for an access log line for which the condition is true."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [line for line in self.access_log() if condition(line)]
            return bool(found)

        self._wait(look, "log the request")
        return found[-1]

    def request(
        self, method: str, target: str, fields: Iterable[tuple[str, str]] = (), body: bytes | None = None, **more: Any
    ) -> Reply:
        if target.startswith(("/metrics", "/status")):
            # These paths are only served under local host names.
            more.setdefault("host", "localhost")
        return exchange(self.port, request_bytes(method, target, fields, body, **more), method)

    def get(self, target: str, *fields: tuple[str, str]) -> Reply:
        return self.request("GET", target, fields)

    def worker_pids(self) -> list[int]:
        booted = re.findall(r"Booting worker with pid: (\d+)", self.output())
        return [int(pid) for pid in booted if Path(f"/proc/{pid}").exists()]

    def begin_to_stop(self) -> None:
        """Sends SIGTERM without waiting. `stop` waits for the end of the process."""
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Ends the gateway and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.wait()

    def wait_until(self, condition: Callable[[], bool], what: str = "get there", seconds: float = 30) -> None:
        self._wait(condition, what, seconds)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        pause = SHORTEST_PAUSE_SECONDS
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the gateway did not {what}; its output:\n{self.output()}")
            # Pause between two polls; its length does not matter. It grows, so that long waits poll less often.
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, 1.2 * pause)

    @staticmethod
    def pause() -> None:
        time.sleep(SHORTEST_PAUSE_SECONDS)


@contextmanager
def gateways() -> Iterator[Callable[..., GatewayProcess]]:
    """A context that starts gateways, and stops all of them at its end."""
    started: list[GatewayProcess] = []

    def start(settings: Mapping[str, Any], **options: Any) -> GatewayProcess:
        started.append(GatewayProcess(settings, **options))
        return started[-1]

    try:
        yield start
    finally:
        for gateway in started:
            gateway.begin_to_stop()
        for gateway in started:
            gateway.stop()


def four_services(url: str) -> dict[str, Any]:
    """Settings of the built-in services with the same target. Their breakers never open, because many tests let
    services fail."""
    service = {"targets": [url], "breaker": {"failures": 0}}
    return {"services": {name.lower(): dict(service) for name in BUILT_IN}}
