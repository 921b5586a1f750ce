"""The configuration: typed settings, their sources, and their validation. Nothing else reads the environment.

`models` and the other models are the frozen settings, with their defaults and descriptions; `field_types` and the
validators define what a value may be. `sources` merges the built-in services, the TOML file and the environment. `load`
validates the result and reports all errors at once. `origins` records the source of each value. `json_schema` and
`reference` describe the models, for editors and in docs/configuration.md.
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
