"""Common parts of the benchmarks: a fast service, a fast client, and the CPU time that a process has used.

All parts are written in Python, so that nothing has to be installed. The client and the service use CPUs of the same
machine, which makes requests/s lower than with a native load generator. CPU time per request is the gateway's own.
"""

from __future__ import annotations

import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import click

CONNECTIONS = 32
FIRST_SECONDS = 20.0
SERVICE = """
import sys
from gevent.server import StreamServer
body = b'{"id": "1", "name": "lamp", "status": "online", "room": "hall"}' * 2
answer = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body
def serve(sock, _):
    while sock.recv(65536):
        sock.sendall(answer)
server = StreamServer(("127.0.0.1", 0), serve)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""


def counted_rounds(number: int) -> Iterator[int]:
    """Numbers from 0, with a progress bar on a terminal."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(range(number), label="Rounds", file=sys.stderr, hidden=hidden) as bar:
        yield from bar


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests per second, the gateway's CPU time per request, and the median response time."""

    per_second: float
    cpu_microseconds: float
    median_milliseconds: float


@contextmanager
def service() -> Iterator[str]:
    """Runs a service that responds at once in its own process. Yields its URL."""
    process = subprocess.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def measure(port: int, request: bytes, seconds: float, master: int) -> Measured:
    """Sends the same request again and again on persistent connections. `master` is the first process of the
    gateway."""
    before, started = cpu_seconds(master), time.perf_counter()
    taken = ask(port, repeat(request), seconds)
    elapsed, cpu = time.perf_counter() - started, cpu_seconds(master) - before
    return Measured(len(taken) / elapsed, cpu / len(taken) * 1e6, statistics.median(taken) * 1000)


def ask(port: int, requests: Iterator[bytes], seconds: float) -> list[float]:
    """Sends these requests on several connections. Returns the duration of each in seconds. Raises AssertionError if a
    response is not a 200."""
    selector, taken = selectors.DefaultSelector(), list[float]()
    sent: dict[Any, float] = {}
    unread: dict[Any, bytes] = {}
    for _ in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ)
        sent[sock], unread[sock] = time.perf_counter(), b""
        sock.sendall(next(requests))
    deadline = time.perf_counter() + seconds
    # A gateway that has just started may need longer for the first response.
    while (now := time.perf_counter()) < deadline or (not taken and now < deadline + FIRST_SECONDS):
        for key, _ in selector.select(1):
            sock = key.fileobj  # type: ignore[assignment] # those that were registered
            unread[sock] += sock.recv(65536)
            if is_whole(unread[sock]):
                now = time.perf_counter()
                taken.append(now - sent[sock])
                sent[sock], unread[sock] = now, b""
                sock.sendall(next(requests))
    for sock in sent:
        sock.close()
    return taken


def is_whole(data: bytes) -> bool:
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    assert head.startswith(b"HTTP/1.1 200"), data[:500]
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process and its living children have used."""
    total = 0.0
    for one in [pid, *children(pid)]:
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def children(pid: int) -> Sequence[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
