"""Redacts the configuration in force: every value that is or may be a secret is masked."""

from __future__ import annotations

import re
from typing import Any

from gateway.config import Settings, load_settings
from gateway.config.key_paths import full_name
from gateway.config.origins import leaves_of
from gateway.url_redaction import MASK, redact_url

# In settings whose names match, every string is masked.
SECRET_NAME = re.compile(r"secret|passw|passphrase|credential|authorization|api_?key|headers$", re.IGNORECASE)
# Settings whose names match SECRET_NAME, but which contain only names of headers.
HEADER_NAME_SETTINGS = frozenset({"claims_to_headers", "allow_headers", "expose_headers"})
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/")


def redacted_configuration(settings: Settings) -> dict[str, Any]:
    """All settings, in the structure of the TOML file."""
    # pydantic dumps a SecretStr as a mask.
    tree: dict[str, Any] = settings.model_dump(mode="json", warnings=False)
    if settings.redis_url is not None:
        tree["redis_url"] = redact_url(settings.redis_url.get_secret_value())
    return {name: redacted(name, value) for name, value in tree.items()}


def names_not_default(settings: Settings) -> list[str]:
    """The full names of the settings that differ from the defaults and the built-in services."""
    built_in = dict(leaves_of(load_settings({}).model_dump(mode="json")))
    given = settings.model_dump(mode="json", warnings=False, exclude_defaults=True)
    return [full_name(path) for path, value in leaves_of(given) if built_in.get(path, given) != value]


def redacted(name: str, value: Any) -> Any:
    """Returns the value of the setting `name`. If the name is that of a secret, every string in the value is masked."""
    # The path of a file with a secret is not a secret itself.
    is_secret = SECRET_NAME.search(name) is not None and name not in HEADER_NAME_SETTINGS and not name.endswith("_file")
    if isinstance(value, dict):
        return {key: redacted(name if is_secret else str(key), one) for key, one in value.items()}
    if isinstance(value, list):
        return [redacted(name, one) for one in value]
    if not isinstance(value, str):
        return value
    if is_secret:
        return MASK
    return redact_url(value) if URL.match(value) else value
