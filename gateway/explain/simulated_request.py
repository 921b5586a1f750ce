"""The simulated request: written as a client would write it, read by the same parser as in the gateway's workers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gunicorn.config import Config
from gunicorn.http.errors import ParseException

from gateway.gunicorn.parse_errors import problem_of
from gateway.gunicorn.parser_settings import PARSER_SETTINGS
from gateway.gunicorn.request_heads import RequestParser
from gateway.gunicorn.wsgi_environ import create

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ABSOLUTE_URL = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
ZEROS = bytes(64 * 1024)
# The words of a class name: `InvalidHTTPVersion`.
WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z]|$)|[A-Z][a-z]+")


class RejectedByParser(Exception):
    """The server's parser rejects the message. `problem` is the response to the client. `reason` names the kind of
    error, as in `invalid request line: the message is malformed or ambiguous`."""

    def __init__(self, error: ParseException) -> None:
        self.problem = problem_of(error)
        # The parser's own text is not shown: it can quote a token.
        kind = WORDS.findall(str(self.problem.__cause__))
        words = " ".join(word if word.isupper() else word.lower() for word in kind)
        self.reason = f"{words}: {self.problem.detail}"
        super().__init__(self.reason)


@dataclass(frozen=True)
class SimulatedRequest:
    """A request and its connection. `target` and `headers` are written into the message unchanged; `body_bytes` is the
    length of the body, None without a body. `address` is the client's end of the connection, `bind` is the
    gateway's end."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body_bytes: int | None
    address: str
    bind: str

    @classmethod
    def to_url(
        cls,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body_bytes: int | None,
        address: str,
        bind: str,
    ) -> SimulatedRequest:
        """The request that a client sends for a URL, or for a path alone. Host and Content-Length are added if they are
        missing in `headers`. The fragment is left out, as no client sends it (RFC 9110 7.1)."""
        target, host = url.partition("#")[0], bind
        if found := ABSOLUTE_URL.fullmatch(target):
            host, rest = found[1].rpartition("@")[2], found[2]
            target = rest if rest.startswith("/") else f"/{rest}"
        names = {name.strip().lower() for name, _ in headers}
        added = [] if "host" in names else [("Host", host)]
        if body_bytes is not None and not names & {"transfer-encoding", "content-length"}:
            added.append(("Content-Length", str(body_bytes)))
        return cls(method, target, [*added, *headers], body_bytes, address, bind)

    @property
    def is_chunked(self) -> bool:
        return any(name.strip().lower() == "transfer-encoding" for name, _ in self.headers)

    @property
    def latin1_headers(self) -> list[tuple[str, str]]:
        """The headers as WSGI has them: each byte is one character (PEP 3333)."""
        return [(name, to_bytes(value).decode("latin-1")) for name, value in self.headers]

    def value(self, name: str) -> str | None:
        """The first value of a field; names are compared without regard to case."""
        return next((value.strip() for key, value in self.headers if key.lower() == name.lower()), None)

    def chunks_of_message(self) -> Iterator[bytes]:
        """The bytes of the message. The body consists of zeros. After the head or the last chunk, zeros follow without
        end: the parser reads only as many of them as Content-Length says."""
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        yield to_bytes("\r\n".join([*lines, "", ""]))
        if self.is_chunked:
            left = self.body_bytes or 0
            while left:
                chunk = ZEROS[:left]
                left -= len(chunk)
                yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
            yield b"0\r\n\r\n"
        while True:
            yield ZEROS


@contextmanager
def parsed(simulated: SimulatedRequest) -> Iterator[WSGIEnvironment]:
    """The WSGI environment that a worker would make of the request. Raises RejectedByParser."""
    config = Config()
    for name, value in PARSER_SETTINGS.items():
        config.set(name, value)
    client = (simulated.address, 0)
    # The parser writes interim responses (100 Continue) to a socket, from which nobody reads here.
    near, far = socket.socketpair()
    with near, far:
        try:
            message = next(RequestParser(config, simulated.chunks_of_message(), client))
        except ParseException as error:
            raise RejectedByParser(error) from error
        environ: dict[str, Any]
        _, environ = create(message, near, client, tuple(simulated.bind.rsplit(":", 1)), config)
        yield environ


def to_bytes(text: str) -> bytes:
    """The bytes of a command-line argument; Python decodes those that are not UTF-8 to surrogates."""
    return text.encode("utf-8", "surrogateescape")
