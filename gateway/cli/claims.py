"""Claims on the command line: NAME=VALUE."""

from __future__ import annotations

import json
from typing import Any

import click


def claim_of(text: str) -> tuple[str, Any]:
    """Name and value; the value is JSON where it can be read as that, else a text. Raises BadParameter."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise click.BadParameter(f"must be NAME=VALUE, got {text!r}", param_hint="--claim")
    try:
        claim = json.loads(value)
        # Python also reads and writes NaN and Infinity, and nobody else takes a token with them.
        json.dumps(claim, allow_nan=False)
    except (ValueError, RecursionError):
        return name, value
    return name, claim
