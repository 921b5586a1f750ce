"""The types of settings: how a value is validated, and how the JSON schema describes what may be written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    SecretStr,
)
from pydantic_core import CoreSchema, core_schema

from gateway.config import address_validators, limit_syntax, redis_url, validators
from gateway.http_fields import TOKEN

HTTP_URL = r"[Hh][Tt][Tt][Pp][Ss]?://[^#\s]+"


@dataclass(frozen=True)
class Form:
    """A named form of strings. `pattern` matches the whole string; `expected` completes the error "must be …".

    With `check`, the pattern is used only in the JSON schema, and `check` validates the value. The pattern must accept
    all that `check` accepts: editors mark other values as errors."""

    name: str
    pattern: str = ""
    expected: str = ""
    check: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        validate = self.match if self.expected else self.check
        return core_schema.no_info_after_validator_function(validate, schema) if validate else schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # The patterns of JSON Schema (ECMA-262) have no (?P<name>…) and no possessive quantifiers.
        pattern = re.sub(r"\?P<\w+>", "?:", self.pattern).replace("++", "+")
        return handler(schema) | {"title": self.name} | ({"pattern": f"^({pattern})$"} if pattern else {})

    def match(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"must be {self.expected}, got {text!r}")
        return text


SIZE = re.compile(r"\s*([0-9]{1,15})\s*([kKmMgG][iI]?)?[bB]?\s*")
# SI prefixes are powers of 1000, IEC prefixes of 1024.
FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_size(given: Any) -> Any:
    """The number of bytes of `"20MB"` or `"64 KiB"`. Values that are not strings are returned unchanged."""
    if not isinstance(given, str):
        return given
    found = SIZE.fullmatch(given)
    if found is None:
        raise ValueError(f'must be a number of bytes, or one with a unit such as "20MB" or "64KiB", got {given!r}')
    return int(found[1]) * FACTORS[(found[2] or "").lower()]


Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Bytes = Annotated[
    int, BeforeValidator(parse_size, json_schema_input_type=int | Annotated[str, Form("size", SIZE.pattern)])
]
Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, Form("file path", check=validators.check_file)]
NewFile = Annotated[Path, Form("file path", check=validators.check_new_file)]

# The JSON schema can only limit characters, which have at most 4 bytes.
MIN_SECRET_CHARACTERS = validators.MIN_SECRET_BYTES // 4
Secret = Annotated[
    SecretStr, AfterValidator(validators.check_secret), Field(json_schema_extra={"minLength": MIN_SECRET_CHARACTERS})
]
Audience = Annotated[
    str | tuple[str, ...],
    PlainValidator(validators.check_audience, json_schema_input_type=Text | Annotated[list[Text], Field(min_length=1)]),
]
CookieName = Annotated[str, Form("cookie name", TOKEN, "a cookie's name (RFC 6265 4.1.1)")]
Scope = Annotated[str, Form("scope", r"[!#-\[\]-~]+", "one scope, without blanks (RFC 6749 3.3)")]

Limit = Annotated[str, Form("limit", rf"(?i:\s*{limit_syntax.RATE}\b.*)", check=limit_syntax.check_limits)]
Plans = dict[Text, tuple[Limit, ...]]

Method = Annotated[str, Form("method", TOKEN, "a method such as GET"), AfterValidator(str.upper)]
RouteMethod = Annotated[Method, AfterValidator(validators.check_route_method)]
HeaderName = Annotated[str, Form("header name", TOKEN, "a header's name (RFC 9110 5.1)")]
HeaderValue = Annotated[SecretStr, AfterValidator(validators.check_header_value)]
# The pattern also accepts "", which removes a claim from the mapping before the values are validated.
IdentityHeader = Annotated[str, Form("header name", "[A-Za-z0-9-]*", check=validators.check_identity_header)]

ServiceName = Annotated[
    str,
    # In the name of a variable, two underscores separate keys. So a service's name has no two in a row, and none at the
    # end.
    Form(
        "service name",
        "[a-z][a-z0-9]*(_[a-z0-9]+)*",
        "named with lower-case letters, digits and single underscores between them",
    ),
]
Prefix = Annotated[
    str,
    Form(
        "path",
        rf"/|(?:/{validators.SEGMENT})+",
        "like /api/devices: no trailing slash, no escapes, no dot segments, no wildcards",
    ),
]
RoutePath = Annotated[
    str,
    Form(
        "path pattern",
        rf"/|(?=.)(?:/(?:{validators.PLACEHOLDER.pattern}|{validators.SEGMENT}))*(?:/\*\*)?",
        "like /api/devices/{id} or /api/devices/admin/**: no trailing slash, no escapes",
    ),
    AfterValidator(validators.check_placeholders),
]
HiddenPath = Annotated[str, Form("path pattern", validators.PATH_PATTERN.pattern, check=validators.check_path_pattern)]
HealthPath = Annotated[str, Form("path", "/.+", check=validators.check_service_path)]
DocumentPath = Annotated[str, Form("path", "(/.+)?", check=validators.check_document_path)]
DriftRule = Annotated[
    str,
    Form(
        "drift rule",
        rf"({'|'.join(validators.DRIFT_KINDS)})( {validators.PATH_PATTERN.pattern})?",
        check=validators.check_drift_rule,
    ),
]

Target = Annotated[str, Form("URL", HTTP_URL, check=address_validators.check_target)]
Collector = Annotated[str, Form("URL", HTTP_URL, check=address_validators.check_collector)]
DocumentUrl = Annotated[str, Form("URL", HTTP_URL, check=address_validators.check_document_url)]
Host = Annotated[str, Form("host", r"[^\s/@]+", check=address_validators.check_authority)]
HostPattern = Annotated[str, Form("host pattern", r"[^\s/@]+", check=address_validators.check_host_pattern)]
Origin = Annotated[
    str,
    Form("origin", rf"\*|null|{address_validators.ORIGIN.pattern}", check=address_validators.check_origin),
]
Network = Annotated[str, Form("network", "[0-9A-Fa-f:./]+", check=address_validators.check_network)]
Address = Annotated[str, Form("address", ".+:.+")]
Bind = Annotated[
    str | tuple[str, ...], PlainValidator(address_validators.check_bind, json_schema_input_type=Address | list[Address])
]
REDIS_SCHEMES = "|".join(map(re.escape, redis_url.SCHEMES))
RedisUrl = Annotated[SecretStr, Form("Redis URL", f"({REDIS_SCHEMES})://.+", check=redis_url.check_redis_url)]
# In a key, braces would be the hash tag of a cluster; * and ? would be wildcards in SCAN.
RedisPrefix = Annotated[str, Form("key prefix", "[A-Za-z0-9._:-]{0,100}", "letters, digits and . _ : - such as shop:")]
WorkerKind = Annotated[str, AfterValidator(validators.check_worker), Field(json_schema_extra={"enum": ["gevent"]})]
