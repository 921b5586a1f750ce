"""An identity provider for tests: it signs tokens, publishes its keys, and fails as a test configures it."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import get_default_algorithms

from tests.support.upstream import Received, ScriptedUpstream

EC_CURVES: dict[str, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]] = {
    "ES256": ec.SECP256R1,
    "ES384": ec.SECP384R1,
    "ES512": ec.SECP521R1,
}


def new_key(algorithm: str) -> PrivateKeyTypes:
    if algorithm in EC_CURVES:
        return ec.generate_private_key(EC_CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


class Issuer:
    """Publishes `keys` in their order. `sign` takes the id of the key to sign with."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = ScriptedUpstream(tls)
        self._server.script = self._answer
        self.url = self._server.url
        self.jwks_url = self.url + "/jwks.json"
        self.keys: dict[str, tuple[str, Any]] = {}
        self.published: list[dict[str, Any]] = []
        self.content: bytes | None = None
        self.status = 200
        self.is_hanging = False
        self._released = threading.Event()

    @property
    def fetches(self) -> int:
        return len(self._server.requests)

    def wait_for_fetches(self, count: int) -> bool:
        return self._server.wait_until(lambda: self.fetches >= count)

    def add_key(self, kid: str, algorithm: str = "ES256", **fields: Any) -> dict[str, Any]:
        """Adds and publishes a new key; `fields` replace members of its JWK (None removes one)."""
        key = new_key(algorithm)
        self.keys[kid] = (algorithm, key)
        public: dict[str, Any] = json.loads(get_default_algorithms()[algorithm].to_jwk(key.public_key()))
        public |= {"kid": kid, "alg": algorithm, "use": "sig"} | fields
        public = {name: value for name, value in public.items() if value is not None}
        self.published.append(public)
        return public

    def withdraw(self, kid: str) -> None:
        self.published = [key for key in self.published if key.get("kid") != kid]

    def token(self, kid: str, sub: str = "ada@example.com", *, algorithm: str | None = None, **claims: Any) -> str:
        own, key = self.keys[kid]
        payload = {"sub": sub, "iss": self.url, "exp": int(time.time()) + 3600, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key, algorithm or own, headers={"kid": kid})

    def hang(self) -> None:
        self.is_hanging = True
        self._released.clear()

    def go_on(self) -> None:
        """Makes the issuer respond again. Requests that were hanging get no response."""
        self.is_hanging = False
        self._released.set()

    def close(self) -> None:
        self._released.set()
        self._server.close()

    def _answer(self, _: Received, connection: socket.socket) -> bool:
        if self.is_hanging:
            self._released.wait(30)
            return False
        body = json.dumps({"keys": self.published}).encode() if self.content is None else self.content
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (self.status, len(body)) + body)
        return True
