"""Parses the URL of Redis: one server, sentinels that know the current master, or the nodes of a cluster.

Error messages never contain a password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

from pydantic import SecretStr

from gateway.config.address_validators import is_host, is_port, split_url

Kind = Literal["server", "sentinel", "cluster"]

# For each scheme: the kind, and whether TLS is used.
MULTI_NODE_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
SCHEMES = ("redis", "rediss", "unix", *MULTI_NODE_SCHEMES)
# Options in the query of a URL that the gateway passes to redis-py. They are checked here, as redis-py reports a wrong
# option only when it connects.
OPTIONS = {"db": "[0-9]+", "username": ".+", "password": ".+", "client_name": r"[!-~]+"}
TLS_OPTIONS = {
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": "(?i:true|false)",
    "ssl_ca_certs": ".+",
    "ssl_ca_path": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "ssl_password": ".+",
}
SENTINEL_OPTIONS = {"sentinel_username": ".+", "sentinel_password": ".+"}
SENTINEL_PORT, SERVER_PORT = 26379, 6379
EXAMPLES: dict[Kind, str] = {
    "server": "redis://host:6379/0",
    "sentinel": "redis+sentinel://host1:26379,host2:26379/name-of-the-master/0",
    "cluster": "redis+cluster://host1:6379,host2:6379",
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is. `url` is the URL of one server, as redis-py accepts it; sentinels and clusters have `nodes` (host
    and port) instead. `options` are keyword arguments of redis-py's connections, `sentinel_options` those of its
    connections to sentinels."""

    kind: Kind
    url: str = field(repr=False)
    is_tls: bool = False
    nodes: tuple[tuple[str, int], ...] = ()
    master: str = ""
    options: dict[str, str | int | bool] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, str | int | bool] = field(default_factory=dict, repr=False)


def check_redis_url(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


def parse_redis_url(text: str) -> RedisAddress:
    """Parses the URL of a single server, of sentinels or of a cluster. Raises ValueError if it is invalid."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme in MULTI_NODE_SCHEMES and re.fullmatch(r"[!-~]+", text):
        return parse_multi_node(scheme, rest)
    parts = split_url(text)
    if not separator or parts is None:
        raise ValueError("must be a URL like redis://host:6379/0, special characters in it written as %40")
    if scheme not in SCHEMES:
        # Upper case is refused, as redis-py does not accept it.
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    if scheme == "unix" and not parts.path:
        raise ValueError("must be like unix:///path/to/socket")
    if scheme != "unix" and (not parts.hostname or not is_port(parts)):
        raise ValueError(f"must be like {EXAMPLES['server']}")
    if scheme != "unix" and not re.fullmatch("/?|/[0-9]+", parts.path):
        raise ValueError(f"the path must be a database's number: {EXAMPLES['server']}")
    read_options(scheme, parts.query, OPTIONS | (TLS_OPTIONS if scheme == "rediss" else {}))
    return RedisAddress("server", text, scheme == "rediss")


def parse_multi_node(scheme: str, rest: str) -> RedisAddress:
    """Parses the address of sentinels or of a cluster: several hosts. With sentinels, the path has the name of the
    master and the database."""
    kind, is_tls = MULTI_NODE_SCHEMES[scheme]
    location, _, query = rest.partition("?")
    authority, _, path = location.partition("/")
    user, at, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    master, _, database = path.partition("/")
    nodes = tuple(node_of(host, SENTINEL_PORT if kind == "sentinel" else SERVER_PORT) for host in hosts.split(","))
    is_valid_path = re.fullmatch(r"[^/]+(/[0-9]*)?", path) if kind == "sentinel" else not path
    if not is_valid_path or None in nodes:
        raise ValueError(f"must be like {EXAMPLES[kind]}")
    allowed = {name: pattern for name, pattern in OPTIONS.items() if name != "db"}
    allowed |= (TLS_OPTIONS if is_tls else {}) | (SENTINEL_OPTIONS if kind == "sentinel" else {})
    for_sentinels = SENTINEL_OPTIONS | TLS_OPTIONS
    given = read_options(scheme, query, allowed)
    options: dict[str, str | int | bool] = {
        name: value.lower() == "true" if name == "ssl_check_hostname" else value
        for name, value in given.items()
        if name not in SENTINEL_OPTIONS
    }
    if at:
        options |= {key: unquote(value) for key, value in (("username", username), ("password", password)) if value}
    if kind == "sentinel":
        options["db"] = int(database or 0)
    return RedisAddress(
        kind=kind,
        url="",
        is_tls=is_tls,
        nodes=tuple(node for node in nodes if node is not None),
        master=unquote(master),
        options=options,
        # TLS connections to sentinels use the same authority and the same client certificate.
        sentinel_options={
            name.removeprefix("sentinel_"): value
            for name, value in {**given, **options}.items()
            if name in for_sentinels
        },
    )


def node_of(text: str, default_port: int) -> tuple[str, int] | None:
    parts = split_url("//" + text)
    if parts is None or not parts.hostname or not is_host(parts.hostname) or not is_port(parts):
        return None
    return parts.hostname, parts.port or default_port


def read_options(scheme: str, query: str, allowed: dict[str, str]) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in given.items():
        if name not in allowed:
            raise ValueError(f"the query of a {scheme}:// URL may have only {', '.join(allowed)}")
        if not re.fullmatch(allowed[name], value):
            raise ValueError(f"the value of {name} in the query is not valid")
    return given
