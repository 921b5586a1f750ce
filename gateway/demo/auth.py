"""The sample auth service: registers people, logs them in, and issues tokens."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

import jwt
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from gateway.demo import ADA
from gateway.demo.resources import document, operation, plain_app

TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class Person:
    user_id: int
    salt: bytes
    digest: bytes


def new_id() -> str:
    return secrets.token_urlsafe(16)


def auth_app(secret: str) -> Flask:
    """The auth service; its tokens are HS256, with `sub` (the e-mail), `user_id`, `iat`, `exp` and `jti`."""
    app = plain_app("auth")
    people: dict[str, Person] = {}

    def credentials() -> tuple[str, str] | None:
        given = request.get_json(silent=True)
        if not isinstance(given, dict):
            return None
        email, password = given.get("email"), given.get("password")
        return (email, password) if isinstance(email, str) and isinstance(password, str) and email else None

    def add(email: str, password: str) -> Person:
        salt = secrets.token_bytes(16)
        people[email] = Person(len(people) + 1, salt, hashed(password, salt))
        return people[email]

    def register() -> ResponseReturnValue:
        given = credentials()
        if given is None:
            return jsonify(detail="email and password are required"), 422
        if given[0] in people:
            return jsonify(detail="Email already registered"), 409
        return jsonify(user_id=add(*given).user_id, email=given[0]), 201

    def login() -> ResponseReturnValue:
        email, password = credentials() or ("", "")
        person = people.get(email)
        if person is None or not secrets.compare_digest(person.digest, hashed(password, person.salt)):
            return jsonify(detail="Incorrect email or password"), 401
        return jsonify(access_token=token(email, person), token_type="bearer")  # noqa: S106 - the type, not a secret

    def refresh() -> ResponseReturnValue:
        given = request.get_json(silent=True)
        try:
            claims = jwt.decode(str((given or {}).get("access_token")), secret, ["HS256"])
            person = people[claims["sub"]]
        except (jwt.PyJWTError, KeyError, AttributeError):
            return jsonify(detail="Invalid token"), 401
        return jsonify(access_token=token(claims["sub"], person), token_type="bearer")  # noqa: S106 - the type, not a secret

    def me() -> ResponseReturnValue:
        # Safe to trust: the gateway sets these headers from the verified token and drops those of clients.
        return jsonify(email=request.headers.get("X-User-Subject"), user_id=request.headers.get("X-User-Id"))

    def token(email: str, person: Person) -> str:
        # `flask revoke` needs `iat` to refuse all tokens of a person, and `jti` to refuse one.
        now = int(time.time())
        claims = {"sub": email, "user_id": person.user_id, "iat": now, "exp": now + TOKEN_SECONDS, "jti": new_id()}
        return jwt.encode(claims, secret, "HS256")

    add(*ADA)
    app.add_url_rule("/api/auth/register", "register", register, methods=["POST"])
    app.add_url_rule("/api/auth/login", "login", login, methods=["POST"])
    app.add_url_rule("/api/auth/refresh", "refresh", refresh, methods=["POST"])
    app.add_url_rule("/api/auth/me", "me", me, methods=["GET"])
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(auth_document()))
    return app


def hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=2**12, r=8, p=1)


def auth_document() -> dict[str, Any]:
    """The service's OpenAPI document."""
    text = {"type": "string"}
    schemas = {
        "Credentials": {
            "type": "object",
            "required": ["email", "password"],
            "properties": {"email": text, "password": text},
        },
        "Token": {"type": "object", "properties": {"access_token": text, "token_type": text}},
        "Person": {"type": "object", "properties": {"email": text, "user_id": {"type": ["integer", "string"]}}},
    }

    def with_body(model: str) -> dict[str, Any]:
        schema = {"$ref": f"#/components/schemas/{model}"}
        return {"security": [], "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    token, person = ({"$ref": f"#/components/schemas/{name}"} for name in ("Token", "Person"))
    return document(
        "Auth",
        {
            "/api/auth/register": {"post": operation("register", "201", person) | with_body("Credentials")},
            "/api/auth/login": {"post": operation("login", "200", token) | with_body("Credentials")},
            "/api/auth/refresh": {"post": operation("refresh", "200", token) | with_body("Token")},
            "/api/auth/me": {"get": operation("me", "200", person)},
        },
        schemas,
    )
