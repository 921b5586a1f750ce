"""What other clients notice of attacks that keep workers busy: python -m tests.benchmarks.attacks [--seconds 5]

One client sends one request after the other, first alone, then during each attack. Prints the median and the 99th
percentile of its response times, and how many workers were lost. The attackers run in their own processes. On a machine
with few cores they also take CPU time from the gateway; the line "busy cores" shows how much that alone costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import TypeVar

from tests.support.client import Connection, request_bytes
from tests.support.faulty_service import FaultyService
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import Received, ScriptedUpstream

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = 64 * 1024

# An attack gets the gateway's port and runs until its process is ended.
Attack = Callable[[int], None]
Result = TypeVar("Result")


def flood(port: int, connections: int, beginning: bytes, again: bytes) -> None:
    """Sends `beginning` and then `again` without end on each connection, and discards all responses."""
    selector = selectors.DefaultSelector()

    def connect() -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, memoryview(beginning))

    for _ in range(connections):
        connect()
    while True:
        for key, events in selector.select():
            client, unsent = key.fileobj, key.data
            assert isinstance(client, socket.socket)
            try:
                if events & selectors.EVENT_READ and not client.recv(PIECE):
                    raise ConnectionResetError
                if events & selectors.EVENT_WRITE:
                    unsent = unsent[client.send(unsent) :] or memoryview(again)
                    selector.modify(client, selectors.EVENT_READ | selectors.EVENT_WRITE, unsent)
            except BlockingIOError:
                pass
            except OSError:
                # The gateway has closed this connection, so a new one takes its place.
                selector.unregister(client)
                client.close()
                connect()


def pipelining(target: str, fields: tuple[tuple[str, str], ...] = (), method: str = "GET") -> Attack:
    data = request_bytes(method, target, fields) * 500
    return lambda port: flood(port, 4, data, data)


def chunks_of(size: int) -> Attack:
    head = request_bytes("POST", "/api/auth/login", [("Transfer-Encoding", "chunked")])
    chunk = b"%x\r\n%b\r\n" % (size, b"a" * size)
    return lambda port: flood(port, 4, head, chunk * (PIECE // len(chunk)))


def partial_heads(port: int) -> None:
    field = b"X-%d: " + b"a" * 16_000 + b"\r\n"
    head = b"GET /api/devices HTTP/1.1\r\nHost: a\r\n" + b"".join(field % number for number in range(94))
    flood(port, 150, head, b"a")


def dribbled_heads(port: int) -> None:
    """Sends heads that never end: 16 kB at once, then a kilobyte every half second."""
    clients: list[socket.socket] = []
    while True:
        while len(clients) < 20:
            clients.append(socket.create_connection(("127.0.0.1", port)))
            clients[-1].sendall(b"GET /api/devices HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 16_000)
        for client in list(clients):
            try:
                client.sendall(b"a" * 100 + b"\r\nX-B: " + b"a" * 900)
            except OSError:
                clients.remove(client)
        time.sleep(0.5)


def asking(path: str) -> Attack:
    """Requests a service whose response never ends."""
    data = request_bytes("GET", path, [bearer()])
    return lambda port: flood(port, 4, data, b"\r\n")


def without_end(beginning: bytes, piece: bytes) -> Callable[[Received, socket.socket], bool]:
    def script(_: Received, connection: socket.socket) -> bool:
        with suppress(OSError):
            connection.sendall(beginning)
            while True:
                connection.sendall(piece)
        return False

    return script


def swallow(_: Received, connection: socket.socket) -> bool:
    with suppress(OSError):
        while connection.recv(PIECE):
            pass
    return False


ATTACKS: dict[str, Attack] = {
    "pipelined GET /nope": pipelining("/nope"),
    "pipelined GET /healthz": pipelining("/healthz"),
    "pipelined bad paths": pipelining("/api/%2e%2e/x"),
    "pipelined preflights": pipelining(
        "/api/devices", (("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")), "OPTIONS"
    ),
    "chunks of 1 byte": chunks_of(1),
    "chunks of 16 bytes": chunks_of(16),
    "chunks of 256 bytes": chunks_of(256),
    "150 partial heads of 1.5 MB": partial_heads,
    "dribbled heads": dribbled_heads,
    "a service that sends 103 without end": asking("/api/rules/interim"),
    "a response in chunks of 1 byte": asking("/api/rules/tiny"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", default="", help="a part of the name of the attacks to run")
    options = parser.parse_args()
    service, hostile = FaultyService(), ScriptedUpstream()
    hostile.reads_bodies = False
    hostile.at["/api/auth/login"] = swallow
    hostile.at["/api/rules/interim"] = without_end(b"", INTERIM * 1000)
    hostile.at["/api/rules/tiny"] = without_end(CHUNKED, b"1\r\na\r\n" * 10_000)
    settings = four_services(service.url)
    for name in ("rules", "auth"):
        settings["services"][name]["targets"] = [hostile.url]
    gateway = GatewayProcess(settings)
    print(f"{'':40}{'p50':>9}{'p99':>9}{'longest':>9}   [ms]   requests lost, workers lost")
    try:
        report("alone", gateway, options.seconds)
        with attack(busy, gateway.port):
            report("busy cores", gateway, options.seconds)
        for name, one in ATTACKS.items():
            if options.only in name:
                with attack(one, gateway.port):
                    report(name, gateway, options.seconds)
    finally:
        gateway.stop()
        service.kill()
        hostile.close()


def report(name: str, gateway: GatewayProcess, seconds: float) -> None:
    taken, lost = in_own_process(times, gateway.port, seconds)
    quantiles = statistics.quantiles(taken * 2, n=100)
    workers = gateway.output().count("Booting worker") - 2
    print(
        f"{name:40}{statistics.median(taken):>9.2f}{quantiles[98]:>9.2f}{max(taken):>9.2f}{lost:>22}{workers:>14}",
        flush=True,
    )


def in_own_process(measure: Callable[[int, float], Result], port: int, seconds: float) -> Result:
    """Measures in a new process, undisturbed by the threads of this one. Returns the result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(measure, port, seconds).result()


def times(port: int, seconds: float) -> tuple[list[float], int]:
    """The duration of each of a client's requests in milliseconds, and how many requests got no 200."""
    data, taken, lost = request_bytes("GET", "/api/devices", [bearer()]), list[float](), 0
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        # Each connection is used for a few requests only, so that both workers get some.
        with Connection(port, timeout=60) as connection:
            for _ in range(20):
                started = time.perf_counter()
                try:
                    connection.send(data)
                    is_lost = connection.reply().status != 200
                except (OSError, HTTPException):
                    is_lost = True
                taken.append((time.perf_counter() - started) * 1000)
                lost += is_lost
                if is_lost or time.monotonic() > ended:
                    break
    return taken, lost


@contextmanager
def attack(one: Attack, port: int) -> Iterator[None]:
    process = multiprocessing.get_context("fork").Process(target=one, args=(port,), daemon=True)
    process.start()
    try:
        # Gives the attack time to reach its full rate.
        threading.Event().wait(0.5)
        yield
    finally:
        process.kill()
        process.join()


def busy(_: int) -> None:
    """Uses a CPU as an attacker does, without sending anything."""
    while True:
        pass


if __name__ == "__main__":
    main()
