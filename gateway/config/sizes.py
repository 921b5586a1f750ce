"""Sizes in bytes as people write them: 104857600, "100 MiB", "20MB"."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

SIZE = re.compile(r"([0-9]{1,15})\s*([kmg]i?)?b?", re.IGNORECASE)
# SI's prefixes are powers of 1000, IEC's of 1024.
FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def bytes_of(given: Any) -> Any:
    """The number of bytes; what is no text is left to further checks."""
    if not isinstance(given, str):
        return given
    found = SIZE.fullmatch(given.strip())
    if found is None:
        raise ValueError(f'must be a number of bytes, or one with a unit such as "20MB" or "64KiB", got {given!r}')
    return int(found[1]) * FACTORS[(found[2] or "").lower()]


Bytes = Annotated[int, BeforeValidator(bytes_of)]
