"""Settings of tokens: who issues them, how they are verified, and what services learn from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from gateway.config.base import Model
from gateway.config.field_types import (
    Audience,
    Bytes,
    CookieName,
    DocumentUrl,
    File,
    IdentityHeader,
    Seconds,
    Secret,
    Text,
)

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519", "Ed448",
]  # fmt: skip
ASYMMETRIC: tuple[Algorithm, ...] = tuple(name for name in get_args(Algorithm) if not name.startswith("HS"))
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class KeySettings(Model):
    """A key source, and what a token that it verifies must contain."""

    secret: Secret | None = None
    """Secret of HS256, HS384 and HS512 tokens, at least 32 bytes."""
    secret_file: File | None = None
    """File with the secret, instead of `secret`."""
    public_key_file: File | None = None
    """PEM file with an RSA, EC or Ed25519 public key or certificate, instead of `secret`."""
    jwks_url: DocumentUrl | None = None
    """URL of the issuer's published keys (JWK set, RFC 7517), instead of `secret`."""
    jwks_ca_file: File | None = None
    """PEM file with the certificate authorities that `jwks_url` is verified with, instead of the public ones."""
    algorithms: tuple[Annotated[Algorithm, Field(title="algorithm")], ...] | None = None
    """Accepted algorithms, of HS256/384/512, RS256/384/512, PS256/384/512, ES256/384/512, EdDSA, Ed25519 and Ed448.
    Default: those that fit the key; of a secret HS256, of a JWK set all that are not HS*."""
    issuer: Text | None = None
    """Required value of `iss`; without it, `iss` is not checked."""
    audience: Audience | None = None
    """Accepted values of `aud`; without it, tokens with an `aud` are refused."""
    token_type: Text | None = None
    """Required `typ` of the token's header, for example `at+jwt`; without it, `typ` is not checked."""
    lifetime_seconds: PositiveSeconds | None = None
    """Lifetime of all tokens of an issuer that leaves out `iat`; `iat` is then `exp` less this time."""

    @property
    def key_sources(self) -> list[str]:
        """The names of the key sources that are set."""
        return [name for name in ("secret", "public_key_file", "jwks_url") if getattr(self, name) is not None]

    def key_errors(self) -> Iterator[str]:
        sources = self.key_sources
        if len(sources) > 1:
            yield f"give {' or '.join(sources)}, not both"
        symmetric = [name.startswith("HS") for name in self.algorithms or ()]
        if self.algorithms == ():
            yield "algorithms: must not be empty"
        elif any(symmetric) and sources not in ([], ["secret"]):
            yield f"algorithms: HS* verifies with a secret, not with {sources[-1]}"
        elif not all(symmetric) and sources in ([], ["secret"]):
            yield "algorithms: only HS* can be verified with a secret; the others need public_key_file"
        if self.jwks_ca_file is not None and self.jwks_url is None:
            yield "jwks_ca_file: needs jwks_url"

    def lifetime_errors(self, longest: float | None) -> Iterator[str]:
        if longest is not None and (self.lifetime_seconds or 0) > longest:
            yield f"lifetime_seconds: is over jwt.max_lifetime_seconds ({longest:g}): all tokens would be refused"


class IssuerSettings(KeySettings):
    """One of several issuers, chosen by a token's `iss`. `issuer` and one key source are required."""

    def conflicts(self) -> Iterator[str]:
        yield from self.key_errors()
        if self.issuer is None:
            yield "issuer: is missing"
        if not self.key_sources:
            yield "secret, public_key_file or jwks_url is missing"


DEFAULT_MAPPING = {"sub": "X-User-Subject", "user_id": "X-User-Id"}


def with_default_mapping(given: object) -> object:
    """Completes the mapping with the default one. Leaves out a claim that is mapped to "", and a default claim if
    another claim is mapped to its header."""
    if not isinstance(given, dict):
        return given
    fields = {field.lower() for field in given.values() if isinstance(field, str)}
    defaults = {claim: field for claim, field in DEFAULT_MAPPING.items() if field.lower() not in fields}
    return {claim: field for claim, field in {**defaults, **given}.items() if field != ""}


class JwtSettings(KeySettings):
    """How tokens are verified: one key source, or `issuers` with one each. Without a key source, a random secret is
    generated in `instance/`."""

    issuers: tuple[IssuerSettings, ...] = ()
    """Several issuers, each with its own key source and checks."""
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """Tolerated clock difference when `exp`, `nbf` and `iat` are checked."""
    max_lifetime_seconds: PositiveSeconds | None = None
    """Longest accepted time from `iat` to `exp`; without it, any."""
    required_claims: tuple[Text, ...] = ("exp", "sub")
    """Claims that a token must have, besides `exp` and `sub`, which are always required."""
    max_token_bytes: Annotated[Bytes, Field(ge=256, le=16000)] = 8192
    """Maximum length of a token."""
    cache_size: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Verified tokens that each worker caches until they expire."""
    cache_max_bytes: Annotated[Bytes, Field(ge=65_536, le=1 << 34)] = 32 * 1024 * 1024
    """Memory that the cached tokens of a worker may use."""
    scope_claim: Text | None = None
    """Claim with the scopes, for example `realm_access.roles`. Default: `scope`, else `scp`."""
    cookie: CookieName | None = None
    """Cookie that the token is taken from if a request has no `Authorization` header."""
    cookie_as_authorization: bool = False
    """Forward a valid token of the cookie as `Authorization: Bearer`. Browsers send a cookie also if a page of another
    site starts the request (CSRF). A service that sees only `Authorization` does not notice this, so the cookie should
    have `SameSite`."""
    jwks_refresh_seconds: Seconds = 300
    """Longest time that published keys are cached; they are refreshed in the background before."""
    jwks_cooldown_seconds: Seconds = 30
    """Shortest time between two fetches that unknown key ids cause."""
    claims_to_headers: Annotated[dict[str, IdentityHeader], BeforeValidator(with_default_mapping)] = Field(
        default=DEFAULT_MAPPING
    )
    """Claims that services get as headers. Entries are added to the default ones; `""` removes one. Clients cannot send
    these headers, in any spelling."""

    @property
    def all_issuers(self) -> Sequence[KeySettings]:
        """The settings of all issuers: `issuers`, or these settings if there are none."""
        return self.issuers or (self,)

    @property
    def only_issuer(self) -> str:
        """The configured name of the only issuer; empty if it has no name, or if there are several issuers."""
        return (self.all_issuers[0].issuer or "") if len(self.all_issuers) == 1 else ""

    @property
    def identity_fields(self) -> frozenset[str]:
        """The names of the headers that only the gateway may set, in lower case. The headers of the default mapping are
        always among them: a service may still trust these headers after the mapping has changed."""
        return frozenset(header.lower() for header in (*self.claims_to_headers.values(), *DEFAULT_MAPPING.values()))

    def conflicts(self) -> Iterator[str]:
        if self.issuers:
            # Beside `issuers` these settings would have no effect, and some of them are there to keep callers out.
            own = [name for name in KeySettings.model_fields if getattr(self, name) is not None]
            if self.secret_file is not None:
                own.remove("secret")  # the secret was read from secret_file
            yield from (f"{name}: must be set for each of issuers instead" for name in own)
        else:
            yield from self.key_errors()
            yield from self.lifetime_errors(self.max_lifetime_seconds)
        if self.cookie_as_authorization and self.cookie is None:
            yield "cookie_as_authorization: needs cookie"
        if all(one.jwks_url is None for one in self.all_issuers):
            changed = {"jwks_refresh_seconds", "jwks_cooldown_seconds"}.intersection(self.changed_fields())
            yield from (f"{name}: needs jwks_url" for name in sorted(changed))
        names = set[str | None]()
        for index, one in enumerate(self.issuers):
            if one.issuer in names:
                yield f"issuers[{index}].issuer: {one.issuer!r} is configured twice"
            names.add(one.issuer)
            yield from (f"issuers[{index}].{line}" for line in one.lifetime_errors(self.max_lifetime_seconds))
        claims = dict[str, str]()
        for claim, header in self.claims_to_headers.items():
            if (other := claims.setdefault(header.lower(), claim)) != claim:
                yield f"claims_to_headers: {header!r} can't be set from both {other!r} and {claim!r}"


class RevocationSettings(Model):
    """Revoked tokens. They are looked up in Redis, together with the rate limits."""

    enabled: bool = True
    """Refuse tokens that `flask revoke` has revoked."""
    on_redis_failure: Literal["open", "closed"] = "open"
    """Without Redis, `open` accepts tokens that may have been revoked, and `closed` answers 503."""
    keep_seconds: Annotated[int, Field(ge=60, le=366 * 86400)] = 30 * 86400
    """How long the revocation of all tokens of a subject is stored; at least the lifetime of tokens."""


class IdentitySettings(Model):
    """Signed identity: `X-Gateway-Identity`, a token that the gateway signs for each service."""

    sign: bool = False
    """Send `X-Gateway-Identity` to services, so that they need not trust their network."""
    private_key_file: File | None = None
    """PEM file with the EC, Ed25519 or RSA private key. Default: a key generated in `instance/`. Several gateways need
    the same key."""
    also_published: tuple[File, ...] = ()
    """PEM files of further public keys at `/.well-known/jwks.json`: the next key and the previous one, while the
    private key is replaced."""
    issuer: Text = "gateway"
    """`iss` of these tokens."""
    lifetime_seconds: Annotated[int, Field(ge=10, le=3600)] = 60
    """Longest lifetime of these tokens; never longer than that of the caller's token."""

    def conflicts(self) -> Iterator[str]:
        for name in ("private_key_file", "also_published"):
            if getattr(self, name) and not self.sign:
                yield f"{name}: needs sign = true"
