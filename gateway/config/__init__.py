"""The configuration: what can be set, where it comes from, and every error in it at once.

`models` are the frozen typed settings with their defaults, `sources` merges built-in mapping, TOML file and
environment, `load` validates the result, `origins` tells where each value comes from. Nothing else in the project
reads the environment.
"""

from gateway.config.load import adopt, current, load_settings, project_folder, with_keys
from gateway.config.models import CorsSettings, DocsSettings, RateLimitSettings, Settings
from gateway.config.route_models import OnRedisFailure, RouteSettings, Undocumented
from gateway.config.server_models import AdminSettings, LogSettings, ProxySettings, ServerSettings, TracingSettings
from gateway.config.service_models import ServiceSettings
from gateway.config.target_models import BreakerSettings, HealthSettings
from gateway.config.token_models import (
    IdentitySettings,
    IssuerSettings,
    JwtSettings,
    KeySettings,
    RevocationSettings,
)

__all__ = [
    "AdminSettings",
    "BreakerSettings",
    "CorsSettings",
    "DocsSettings",
    "HealthSettings",
    "IdentitySettings",
    "IssuerSettings",
    "JwtSettings",
    "KeySettings",
    "LogSettings",
    "OnRedisFailure",
    "ProxySettings",
    "RateLimitSettings",
    "RevocationSettings",
    "RouteSettings",
    "ServerSettings",
    "ServiceSettings",
    "Settings",
    "TracingSettings",
    "Undocumented",
    "adopt",
    "current",
    "load_settings",
    "project_folder",
    "with_keys",
]
