"""The request to be explained: written as its client would, and read by the same parser as in the gateway's workers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config
from gunicorn.http.errors import ParseException

from gateway.errors import GatewayError
from gateway.gunicorn.parse_errors import problem_of
from gateway.gunicorn.parser_settings import MESSAGE_RULES
from gateway.gunicorn.request_heads import RequestParser
from gateway.gunicorn.wsgi_environ import create

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ABSOLUTE = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
ZEROS = bytes(64 * 1024)


class MessageRefused(Exception):
    """The server's parser refuses the message. `problem` is what the client gets, `kind` the parser's word for why."""

    def __init__(self, problem: GatewayError) -> None:
        self.kind = str(problem.__cause__)
        self.problem = problem
        super().__init__(self.kind)


@dataclass(frozen=True)
class SimulatedRequest:
    """A request: `target` and `fields` as they stand in it, `body_bytes` the length of its body, None where it has
    none. `address` is where its connection comes from, `bind` where it goes to."""

    method: str
    target: str
    fields: Sequence[tuple[str, str]]
    body_bytes: int | None
    address: str
    bind: str

    @property
    def is_chunked(self) -> bool:
        return any(name.strip().lower() == "transfer-encoding" for name, _ in self.fields)

    @property
    def written_fields(self) -> list[tuple[str, str]]:
        """The fields as they are read by those who take bytes for characters."""
        return [(name, octets(value).decode("latin-1")) for name, value in self.fields]

    def value(self, name: str) -> str | None:
        """The first value of a field, by any case of its name."""
        return next((value.strip() for key, value in self.fields if key.lower() == name.lower()), None)

    def pieces(self) -> Iterator[bytes]:
        """The message's bytes; its body is zeros, as many as anybody reads."""
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.fields)]
        yield octets("\r\n".join([*lines, "", ""]))
        if self.is_chunked:
            left = self.body_bytes or 0
            while left:
                piece = ZEROS[:left]
                left -= len(piece)
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
            yield b"0\r\n\r\n"
        while True:
            yield ZEROS


def question(
    method: str,
    url: str,
    fields: Sequence[tuple[str, str]],
    body_bytes: int | None,
    address: str,
    bind: str,
) -> SimulatedRequest:
    """The request that a client makes of a URL, or of a path alone: Host and Content-Length are added where they are
    not among `fields`; a fragment is never sent (RFC 9110 7.1)."""
    target, host = url.partition("#")[0], bind
    if found := ABSOLUTE.fullmatch(target):
        host, rest = found[1].rpartition("@")[2], found[2]
        target = rest if rest.startswith("/") else f"/{rest}"
    given = {name.strip().lower() for name, _ in fields}
    own = [] if "host" in given else [("Host", host)]
    if body_bytes is not None and not given & {"transfer-encoding", "content-length"}:
        own.append(("Content-Length", str(body_bytes)))
    return SimulatedRequest(method, target, [*own, *fields], body_bytes, address, bind)


@contextmanager
def received(asked: SimulatedRequest) -> Iterator[WSGIEnvironment]:
    """The request as a worker's application gets it. Raises MessageRefused."""
    config = Config()
    for name, value in MESSAGE_RULES.items():
        config.set(name, value)
    client = (asked.address, 0)
    # What is answered before the answer (100 Continue) goes to nobody.
    near, far = socket.socketpair()
    with near, far:
        try:
            message = next(RequestParser(config, asked.pieces(), client))
        except ParseException as error:
            raise MessageRefused(problem_of(error)) from error
        environ: dict[str, Any]
        _, environ = create(message, near, client, tuple(asked.bind.rsplit(":", 1)), config)
        yield environ


def octets(text: str) -> bytes:
    """The bytes of a text of the command line, where what is not UTF-8 came as surrogates."""
    return text.encode("utf-8", "surrogateescape")
