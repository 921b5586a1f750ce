"""What can be configured about tokens: whose they are, what verifies them, what services are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr, model_validator

from gateway.config.address_validators import check_document_url
from gateway.config.base import HeaderName, Model, Seconds, Text, changed_fields, refuse
from gateway.config.sizes import Bytes
from gateway.config.validators import check_audience, check_cookie_name, check_file, check_secret

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
    "Ed448",
]
File = Annotated[Path, AfterValidator(check_file)]
ASYMMETRIC: tuple[Algorithm, ...] = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519", "Ed448",
)  # fmt: skip


class KeySettings(Model):
    """A key source and what a token verified by it must be. `secret_file` has been read into `secret`."""

    secret: Annotated[SecretStr, AfterValidator(check_secret)] | None = None
    secret_file: File | None = None
    public_key_file: File | None = None
    jwks_url: Annotated[str, AfterValidator(check_document_url)] | None = None
    jwks_ca_file: File | None = None
    algorithms: tuple[Algorithm, ...] | None = None
    issuer: Text | None = None
    audience: Annotated[str | tuple[str, ...], PlainValidator(check_audience)] | None = None
    token_type: Text | None = None
    lifetime_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def key_sources(self) -> list[str]:
        """The names of the key sources that are set."""
        return [name for name in ("secret", "public_key_file", "jwks_url") if getattr(self, name) is not None]

    def key_mistakes(self) -> list[str]:
        sources = self.key_sources
        mistakes = [] if len(sources) < 2 else [f"give {' or '.join(sources)}, not both"]
        symmetric = [name.startswith("HS") for name in self.algorithms or ()]
        if self.algorithms == ():
            mistakes.append("algorithms: must not be empty")
        elif any(symmetric) and sources not in ([], ["secret"]):
            mistakes.append(f"algorithms: HS* verifies with a secret, not with {sources[-1]}")
        elif not all(symmetric) and sources in ([], ["secret"]):
            mistakes.append("algorithms: only HS* can be verified with a secret; the others need public_key_file")
        if self.jwks_ca_file is not None and self.jwks_url is None:
            mistakes.append("jwks_ca_file: goes with jwks_url")
        return mistakes

    def lifetime_mistakes(self, longest: float | None) -> list[str]:
        if longest is None or self.lifetime_seconds is None or self.lifetime_seconds <= longest:
            return []
        return [f"lifetime_seconds: must not be over jwt.max_lifetime_seconds ({longest:g}), or each token is refused"]


class IssuerSettings(KeySettings):
    """One of several issuers; its tokens are known by their `iss`."""

    @model_validator(mode="after")
    def check_together(self) -> Self:
        mistakes = self.key_mistakes()
        if self.issuer is None:
            mistakes.append("issuer: is missing")
        if not self.key_sources:
            mistakes.append("secret, public_key_file or jwks_url is missing")
        refuse(mistakes)
        return self


DEFAULT_MAPPING = {"sub": "X-User-Subject", "user_id": "X-User-Id"}


def with_default_mapping(given: object) -> object:
    """The mapping with what it leaves out of the default one. A claim that goes to no field ("") is left out, and so is
    a default claim whose field another one takes."""
    if not isinstance(given, dict):
        return given
    fields = {field.lower() for field in given.values() if isinstance(field, str)}
    defaults = {claim: field for claim, field in DEFAULT_MAPPING.items() if field.lower() not in fields}
    return {claim: field for claim, field in {**defaults, **given}.items() if field != ""}


class JwtSettings(KeySettings):
    """Who may call. Exactly one key source, or `issuers` with one each; with none, a secret is generated."""

    issuers: tuple[IssuerSettings, ...] = ()
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    max_lifetime_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    required_claims: tuple[Text, ...] = ("exp", "sub")
    max_token_bytes: Annotated[Bytes, Field(ge=256, le=16000)] = 8192
    cache_size: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    cache_max_bytes: Annotated[Bytes, Field(ge=65_536, le=1 << 34)] = 33_554_432
    scope_claim: Text | None = None
    cookie: Annotated[str, AfterValidator(check_cookie_name)] | None = None
    cookie_as_authorization: bool = False
    jwks_refresh_seconds: Seconds = 300
    jwks_cooldown_seconds: Seconds = 30
    claims_to_headers: Annotated[dict[str, HeaderName], BeforeValidator(with_default_mapping)] = Field(
        default=DEFAULT_MAPPING
    )

    @property
    def all_issuers(self) -> Sequence[KeySettings]:
        """Each of `issuers`, or the one that these settings are."""
        return self.issuers or (self,)

    @property
    def only_issuer(self) -> str:
        """The name of the issuer where there is one; empty where it has none, and where there are several."""
        return (self.all_issuers[0].issuer or "") if len(self.all_issuers) == 1 else ""

    @property
    def identity_fields(self) -> frozenset[str]:
        """The fields that only the gateway may set, in lower case. Those of the default mapping too: a service may
        still believe them where the mapping was changed."""
        return frozenset(header.lower() for header in (*self.claims_to_headers.values(), *DEFAULT_MAPPING.values()))

    @model_validator(mode="after")
    def check_together(self) -> Self:
        claims, names = dict[str, str](), set[str | None]()
        if self.issuers:
            # Here they would have no effect, and some of them are what keeps others out.
            own = [name for name in KeySettings.model_fields if getattr(self, name) is not None]
            if self.secret_file is not None:
                # It is where the secret is from.
                own.remove("secret")
            mistakes = [f"{name}: belongs into each of issuers, where there are several" for name in own]
        else:
            mistakes = self.key_mistakes() + self.lifetime_mistakes(self.max_lifetime_seconds)
        if self.cookie_as_authorization and self.cookie is None:
            mistakes.append("cookie_as_authorization: goes with cookie")
        if all(one.jwks_url is None for one in self.all_issuers):
            names_of_fetching = ("jwks_refresh_seconds", "jwks_cooldown_seconds")
            changed = [name for name in names_of_fetching if name in changed_fields(self)]
            mistakes += [f"{name}: goes with jwks_url" for name in changed]
        for index, one in enumerate(self.issuers):
            if one.issuer in names:
                mistakes.append(f"issuers[{index}].issuer: {one.issuer!r} is there already")
            names.add(one.issuer)
            mistakes += [f"issuers[{index}].{line}" for line in one.lifetime_mistakes(self.max_lifetime_seconds)]
        for claim, header in self.claims_to_headers.items():
            other = claims.setdefault(header.lower(), claim)
            if other != claim:
                mistakes.append(f"claims_to_headers: {header!r} can't be set from {other!r} and from {claim!r}")
        refuse(mistakes)
        return self


class RevocationSettings(Model):
    """Tokens that are not good any more before they expire. Looked up in Redis with the quota, in one call."""

    enabled: bool = True
    on_redis_failure: Literal["open", "closed"] = "open"
    keep_seconds: Annotated[int, Field(ge=60, le=366 * 86400)] = 30 * 86400


class IdentitySettings(Model):
    """What services are told of the caller beyond plain fields: a token that the gateway signs for each of them."""

    sign: bool = False
    private_key_file: File | None = None
    # Public keys that are in the key set too: the next one before it is used, the last one after that.
    also_published: tuple[File, ...] = ()
    issuer: Text = "gateway"
    lifetime_seconds: Annotated[int, Field(ge=10, le=3600)] = 60

    @model_validator(mode="after")
    def check_together(self) -> Self:
        if not self.sign:
            keys = ("private_key_file",) * (self.private_key_file is not None) + ("also_published",) * bool(
                self.also_published
            )
            refuse([f"{name}: goes with sign = true" for name in keys])
        return self
