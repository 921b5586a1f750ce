"""Reads the heads of requests: plain ones, which are nearly all, in one step; whatever is not plain, gunicorn's parser
reads, or refuses, from the same bytes.

Two readers of one message must not differ, so plain is only what leaves no choice: HTTP/1.1, a path, whole lines,
fields whose names are tokens, no field twice that may be there once, no transfer coding. Nothing is refused here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from gunicorn.config import Config
from gunicorn.http import message, parser
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import InvalidHeader

from gateway.proxy.headers import NAMES_KNOWN
from gateway.proxy.wire import TEXT, TOKEN
from gateway.serving.message_rules import MESSAGE_RULES
from gateway.system.sockets import wait_for_answer

# A token without _, of which header_map decides.
PLAIN_NAME = TOKEN.replace("_", "")
PLAIN_HEAD = re.compile(
    rf"({PLAIN_NAME}) (/(?!/)[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n((?:{PLAIN_NAME}:{TEXT}\r\n)*+)\r\n"
)
LENGTH = re.compile(r"[0-9]{1,18}")
# They say how the message is to be read, and each may be there once.
DECIDING = frozenset(["HOST", "CONTENT-TYPE", "CONTENT-LENGTH", "CONNECTION"])
NOT_PLAIN = frozenset(["TRANSFER-ENCODING", "EXPECT"])
MOST_BYTES = 8192
MOST_FIELDS = 100


class Request(message.Request):  # type: ignore[misc]
    """A request whose head has been read. `body_length` is None where its body is chunked."""

    body_length: int | None

    def __init__(self, cfg: Config, unreader: Any, peer_addr: Any, req_number: int = 1) -> None:
        data = unreader.take_buffered()
        if not data:
            # It has been answered just now, or just connected.
            wait_for_answer(getattr(unreader, "sock", None))
            data = unreader.chunk()
        if not data:
            # The client has nothing more to ask.
            raise StopIteration
        # gunicorn believes a unix socket's peer about the scheme.
        if isinstance(peer_addr, tuple) and allows_plain(cfg) and self._read_plain(data, unreader):
            self.cfg = cfg
            self.unreader = unreader
            self.peer_addr = self.remote_addr = peer_addr
            self.req_number = req_number
            self.trailers: list[tuple[str, str]] = []
            self.scheme = "https" if is_tls(cfg) else "http"
            self.proxy_protocol_info = None
            self._expected_100_continue = False
        else:
            unreader.unread(data)
            super().__init__(cfg, unreader, peer_addr, req_number)
            if self.version >= (1, 1) and not any(name == "HOST" for name, _ in self.headers):
                # RFC 9112 3.2.
                raise InvalidHeader("HOST", req=self)
            is_chunked = any(name == "TRANSFER-ENCODING" for name, _ in self.headers)
            length = next((value for name, value in self.headers if name == "CONTENT-LENGTH"), "0")
            self.body_length = None if is_chunked else int(length)
            # gunicorn looks at the first of these fields only, and at its value as a whole.
            asks_to_close = any(name == "CONNECTION" and is_close(value) for name, value in self.headers)
            if asks_to_close or self.method == "CONNECT":
                self.force_close()

    def _read_plain(self, data: bytes, unreader: Any) -> bool:
        """Whether the data begins with a plain head, which is read then."""
        head = PLAIN_HEAD.match(data.decode("latin-1"))
        if head is None or head.end() > MOST_BYTES:
            return False
        lines = head[3].split("\r\n")[:-1]
        if len(lines) > MOST_FIELDS:
            return False
        fields, decided = [], {"CONTENT-LENGTH": "0", "CONNECTION": ""}
        seen = set()
        for line in lines:
            sent_name, _, value = line.partition(":")
            name, value = in_capitals(sent_name), value.strip(" \t")
            if name in DECIDING:
                if name in seen:
                    return False
                seen.add(name)
                decided[name] = value
            elif name in NOT_PLAIN:
                return False
            fields.append((name, value))
        if "HOST" not in seen or LENGTH.fullmatch(decided["CONTENT-LENGTH"]) is None:
            return False
        self.method, self.uri = head[1], head[2]
        path, _, query = head[2].partition("?")
        self.path, self.query, self.fragment = path, query, ""
        self.version = (1, 1)
        self.headers = fields
        self.body_length = int(decided["CONTENT-LENGTH"])
        # Behind a CONNECT come the bytes of a tunnel, whatever was answered (RFC 9110 9.3.6).
        self.must_close = self.method == "CONNECT" or is_close(decided["CONNECTION"])
        if head.end() < len(data):
            unreader.unread(data[head.end() :])
        self.body = Body(LengthReader(unreader, self.body_length))
        return True

    def release(self) -> None:
        """Drops what was read of a request that has been answered: gunicorn's parser holds the last request of each
        idle connection."""
        # HTTP/1.0 is asked once more whether the connection goes on.
        self.headers = [] if self.version == (1, 1) else [pair for pair in self.headers if pair[0] == "CONNECTION"]
        self.uri = self.path = self.query = ""
        self.body.fields = self.headers

    def should_close(self) -> bool:
        """Whether the connection ends with the answer to this request, as far as the request says."""
        return bool(self.must_close or (self.version != (1, 1) and super().should_close()))


class RequestParser(parser.RequestParser):  # type: ignore[misc]
    """The requests of a connection."""

    mesg_class = Request

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Reads what is left of the last request's body, if there is anything."""
        is_read = self.mesg is None or getattr(self.mesg.body, "is_read", False)
        return is_read or bool(super().finish_body(deadline, max_bytes))


@lru_cache(maxsize=NAMES_KNOWN)
def in_capitals(name: str) -> str:
    return name.upper()


def is_close(connection: str) -> bool:
    """Whether `close` is among the options of a Connection field (RFC 9112 9.6)."""
    return bool(connection) and any(option.strip(" \t").lower() == "close" for option in connection.split(","))


@lru_cache(maxsize=8)
def allows_plain(cfg: Config) -> bool:
    """Whether gunicorn is set to read messages as they are read here."""
    meant = Config()
    for name, value in MESSAGE_RULES.items():
        meant.set(name, value)
    names = [*MESSAGE_RULES, "proxy_protocol"]
    return all(cfg.settings[name].get() == meant.settings[name].get() for name in names)


@lru_cache(maxsize=8)
def is_tls(cfg: Config) -> bool:
    return bool(cfg.is_ssl)
