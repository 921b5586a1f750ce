"""Signs tokens as the issuer of the services does."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "test-secret-0123456789abcdef0123456789abcdef"


def signed(sub: str = "ada@example.com", *, key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token that is valid for an hour; a claim with the value None is left out."""
    payload: dict[str, Any] = {"sub": sub, "user_id": 42, "exp": int(time.time()) + 3600, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm)


def bearer(sub: str = "ada@example.com", **claims: Any) -> tuple[str, str]:
    """The Authorization header of a valid token."""
    return ("Authorization", f"Bearer {signed(sub, **claims)}")
