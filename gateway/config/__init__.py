"""The configuration: what can be set, where it comes from, and every mistake in it at once.

`models` are the frozen typed settings with their defaults, `sources` merges built-in mapping, TOML file and
environment, `load` validates the result. Nothing else in the project reads the environment.
"""

from gateway.config.load import adopt, current, load_settings, project_folder, with_key
from gateway.config.models import (
    CorsSettings,
    JwtSettings,
    ProxySettings,
    RateLimitSettings,
    RouteSettings,
    ServerSettings,
    ServiceSettings,
    Settings,
)

__all__ = [
    "CorsSettings",
    "JwtSettings",
    "ProxySettings",
    "RateLimitSettings",
    "RouteSettings",
    "ServerSettings",
    "ServiceSettings",
    "Settings",
    "adopt",
    "current",
    "load_settings",
    "project_folder",
    "with_key",
]
