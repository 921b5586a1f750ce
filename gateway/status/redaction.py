"""The configuration in force, to be shown: nothing in it that is secret, or may be."""

from __future__ import annotations

import re
from typing import Any

from gateway.config import Settings, load_settings
from gateway.config.key_paths import full_name
from gateway.config.origins import leaves_of
from gateway.url_redaction import MASK, redact_url

# Texts under such names are secrets, whatever type they are given.
SECRET_NAME = re.compile(r"secret|passw|passphrase|credential|authorization|api_?key|headers$", re.IGNORECASE)
# Names that go on services' or clients' fields, and nothing else, in spite of their own.
HARMLESS = frozenset({"claims_to_headers", "allow_headers", "expose_headers"})
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/")


def masked_configuration(settings: Settings) -> dict[str, Any]:
    """All settings as in the TOML file, with a mask where a secret is set."""
    # A SecretStr is written as a mask by itself.
    tree: dict[str, Any] = settings.model_dump(mode="json", warnings=False)
    if settings.redis_url is not None:
        tree["redis_url"] = redact_url(settings.redis_url.get_secret_value())
    return {name: masked(name, value) for name, value in tree.items()}


def names_not_default(settings: Settings) -> list[str]:
    """The settings that are neither defaults nor the built-in mapping's, by their full names."""
    built_in = dict(leaves_of(load_settings({}).model_dump(mode="json")))
    given = settings.model_dump(mode="json", warnings=False, exclude_defaults=True)
    return [full_name(place) for place, value in leaves_of(given) if built_in.get(place, given) != value]


def masked(name: str, value: Any) -> Any:
    """The value of a setting of that name; within a secret one, all texts are."""
    # A file's path is none, whatever is in it.
    is_secret = SECRET_NAME.search(name) is not None and name not in HARMLESS and not name.endswith("_file")
    if isinstance(value, dict):
        return {key: masked(name if is_secret else str(key), one) for key, one in value.items()}
    if isinstance(value, list):
        return [masked(name, one) for one in value]
    if not isinstance(value, str):
        return value
    if is_secret:
        return MASK
    return redact_url(value) if URL.match(value) else value
