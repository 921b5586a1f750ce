"""Places of settings in the tree of the configuration, and how they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

Place = tuple[int | str, ...]


def variable_name(place: Iterable[int | str]) -> str:
    """`GATEWAY_SERVICES__RULES__TARGETS`, which sets services.rules.targets."""
    return "GATEWAY_" + "__".join(str(part).upper() for part in place)


def full_name(place: Iterable[int | str]) -> str:
    """`services.rules.targets[1]`. What is no plain word is quoted, as in TOML."""
    name = ""
    for part in place:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            name += "." * bool(name) + (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part))
    return name
