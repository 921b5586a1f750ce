"""Single values: what each setting takes, and what is said about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.config import load_settings
from tests.support.configuration import ORDERS, devices, errors_in, errors_of, loaded
from tests.support.tokens import SECRET


@pytest.mark.parametrize(
    "secret",
    [
        '["0123456789012345678901234567890123456789"]',
        "[0123456789012345678901234567890123456789",
        '{"a": "0123456789012345678901234567890123456789"}',
        "{0123456789012345678901234567890123456789",
        "0123456789012345678901234567890123456789",
        "1e400000000000000000000000000000000000000",
        '"01234567890123456789012345678901234567"',
        "true                                    ",
        "pässwörter-sind-auch-nur-buchstaben",
    ],
)
def test_a_secret_is_taken_as_it_is_written(secret: str) -> None:
    found = load_settings({"GATEWAY_JWT__SECRET": secret}).jwt.secret
    assert found is not None
    assert found.get_secret_value() == secret


def test_a_secret_has_at_least_32_bytes() -> None:
    # Bytes, not letters.
    for good in ("x" * 32, "ä" * 16):
        assert loaded({"jwt": {"secret": good}}).jwt.secret is not None
    for bad in ("", "x" * 31, "ä" * 15 + "x"):
        assert errors_of({"jwt": {"secret": bad}}) == ["jwt.secret: must have at least 32 bytes (RFC 7518 3.2)"]


def test_texts_that_look_like_something_else_stay_texts() -> None:
    jwt = loaded({}, GATEWAY_JWT__ISSUER="123", GATEWAY_JWT__AUDIENCE="null").jwt
    assert (jwt.issuer, jwt.audience) == ("123", "null")


def test_one_audience_or_several() -> None:
    assert loaded({"jwt": {"audience": "one"}}).jwt.audience == "one"
    assert loaded({"jwt": {"audience": ["one", "two"]}}).jwt.audience == ("one", "two")


@pytest.mark.parametrize(
    ("tree", "error"),
    [
        ({"foo": 1}, "foo: there is no such setting"),
        ({"jwt": {"secrett": "x"}}, "jwt.secrett: there is no such setting"),
        ({"jwt_secret": "x"}, "jwt_secret: there is no such setting"),
        ({"jwt": {"": "x"}}, 'jwt."": there is no such setting'),
        (devices(target="x"), "services.devices.target: there is no such setting"),
        (
            devices(routes=[{"path": "/api/devices/x", "method": "GET"}]),
            "services.devices.routes[0].method: there is no such setting",
        ),
        ({"services": {"device": {"targets": ["http://h"]}}}, "services.device.prefix: is missing"),
        ({"services": {"orders": {"prefix": "/api/orders"}}}, "services.orders.targets: is missing"),
        (devices(routes=[{"auth": "none"}]), "services.devices.routes[0].path: is missing"),
        (devices(routes={"0": {"limits": []}}), "services.devices.routes: must be a list"),
        (devices(prefix={"x": "y"}), "services.devices.prefix: must be a string"),
        ({"jwt": "[1]"}, "jwt: must be a table"),
        ({"services": "[1]"}, "services: must be a table"),
        ({"services": {"devices": "5"}}, "services.devices: must be a table"),
        (devices(targets="null"), "services.devices.targets: must be a list"),
        (devices(targets=[8004]), "services.devices.targets[0]: must be a string"),
        (devices(targets=[]), "services.devices.targets: must not be empty"),
        ({"server": {"workers": "many"}}, "server.workers: must be an integer"),
        ({"server": {"workers": "0"}}, "server.workers: must be greater than or equal to 1"),
        (
            devices(max_body_bytes="100 parsecs"),
            'services.devices.max_body_bytes: must be a number of bytes, or one with a unit such as "20MB" or "64KiB", '
            "got '100 parsecs'",
        ),
        (devices(read_timeout_seconds="30s"), "services.devices.read_timeout_seconds: must be a number"),
        (devices(read_timeout_seconds="nan"), "services.devices.read_timeout_seconds: must be a finite number"),
        (devices(read_timeout_seconds="0"), "services.devices.read_timeout_seconds: must be greater than 0"),
        (devices(strip_prefix="maybe"), "services.devices.strip_prefix: must be true or false"),
        (devices(auth="optional"), "services.devices.auth: must be 'required' or 'none'"),
        ({"default_services": "maybe"}, "default_services: must be true or false"),
        (
            {"ratelimit": {"on_redis_failure": "ignore"}},
            "ratelimit.on_redis_failure: must be 'local', 'open' or 'closed'",
        ),
        ({"jwt": {"issuer": ""}}, "jwt.issuer: must not be empty"),
        ({"jwt": {"audience": ""}}, "jwt.audience: must be a string, or a list of strings, none of them empty"),
        ({"jwt": {"audience": "[]"}}, "jwt.audience: must be a string, or a list of strings"),
        ({"jwt": {"audience": "[1]"}}, "jwt.audience: must be a string, or a list of strings, none of them empty"),
        ({"jwt": {"required_claims": [""]}}, "jwt.required_claims[0]: must not be empty"),
        ({"jwt": {"public_key_file": ""}}, "jwt.public_key_file: must be the path of a file"),
        (
            devices(scopes=["read write"]),
            "services.devices.scopes[0]: must be one scope, without blanks (RFC 6749 3.3), got 'read write'",
        ),
        (devices(scopes=[""]), "services.devices.scopes[0]: must be one scope, without blanks (RFC 6749 3.3), got ''"),
    ],
)
def test_a_single_mistake(tree: Mapping[str, Any], error: str) -> None:
    assert errors_of(tree) == [error]


LIKE = "must be like http://host:port"
PARTS = "must be a scheme, a host and perhaps a port and a path"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("ftp://h", "scheme must be http or https, got 'ftp'"),
        ("localhost:8004", f"{LIKE}, got 'localhost:8004'"),
        ("127.0.0.1:8004", f"{LIKE}, got '127.0.0.1:8004'"),
        ("", f"{LIKE}, got ''"),
        ("http://", f"{LIKE}, got 'http://'"),
        ("http:///path", f"{LIKE}, got 'http:///path'"),
        (" http://h", f"{LIKE}, got ' http://h'"),
        ("http://h\n", f"{LIKE}, got 'http://h\\n'"),
        ("http://h h", f"{LIKE}, got 'http://h h'"),
        ("http://[::1", f"{LIKE}, got 'http://[::1'"),
        ("http://[::g]", f"{LIKE}, got 'http://[::g]'"),
        ("http://[fe80::1%25eth0]", f"{LIKE}, got 'http://[fe80::1%25eth0]'"),
        ("http://a..b", f"{LIKE}, got 'http://a..b'"),
        ("http://-a", f"{LIKE}, got 'http://-a'"),
        ("http://" + "a" * 64, f"{LIKE}, got 'http://{'a' * 64}'"),
        ("http://bücher.example", f"{LIKE}, got 'http://bücher.example'"),
        ("http://h:0", "the port of 'http://h:0' is not a number from 1 to 65535"),
        ("http://h:65536", "the port of 'http://h:65536' is not a number from 1 to 65535"),
        ("http://h:http", "the port of 'http://h:http' is not a number from 1 to 65535"),
        ("http://h:", "the port of 'http://h:' is not a number from 1 to 65535"),
        ("http://h?x", f"{PARTS}, got 'http://h?**********'"),
        ("http://h/#", f"{PARTS}, got 'http://h/#'"),
        ("http://h/a/../b", f"{PARTS}, got 'http://h/a/../b'"),
        ("http://h/a%2Fb", f"{PARTS}, got 'http://h/a%2Fb'"),
        ("http://h//", f"{PARTS}, got 'http://h//'"),
        ("http://user:pass@h", "must not have a user, a password or any other @ in it"),
    ],
)
def test_targets_that_are_refused(target: str, said: str) -> None:
    tree = {"services": {"rules": {"targets": ["http://127.0.0.1:1", target]}}}
    assert errors_of(tree) == [f"services.rules.targets[1]: {said}"]


@pytest.mark.parametrize(
    ("target", "used"),
    [
        ("http://h", "http://h"),
        # The scheme decides about TLS, so it has one spelling afterwards.
        ("HTTPS://Host:80/", "https://Host:80"),
        ("http://h/base/", "http://h/base"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://my_service.local.:1", "http://my_service.local.:1"),
        ("http://" + "a" * 63 + ".b", "http://" + "a" * 63 + ".b"),
    ],
)
def test_targets_that_are_taken(target: str, used: str) -> None:
    assert loaded(devices(targets=[target])).services["devices"].targets == (used,)


SCHEMES = "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"
SENTINEL = "redis+sentinel://host1:26379,host2:26379/name-of-the-master/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p%40ss@h:6380/15",
        "redis://user:pass@[::1]:6379/0?client_name=gateway",
        "rediss://h/1?ssl_cert_reqs=none&ssl_check_hostname=False&ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock",
        "unix://user:pass@/run/redis.sock?db=2",
        "redis+sentinel://h1,h2:26380,[::1]/main",
        "rediss+sentinel://user:p%40ss@h1:1/main/3?sentinel_password=x&ssl_ca_certs=/etc/ca.pem",
        "redis+cluster://h1:7000,h2:7001",
        "rediss+cluster://user:pass@h1?ssl_cert_reqs=none",
    ],
)
def test_redis_urls_that_are_taken(url: str) -> None:
    found = load_settings({"REDIS_URL": url}).redis_url
    assert found is not None
    assert found.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", f"scheme must be one of {SCHEMES}, got 'http'"),
        # redis-py doesn't know this spelling either.
        ("REDIS://h", f"scheme must be one of {SCHEMES}, got 'REDIS'"),
        ("localhost:6379", "must be a URL like redis://host:6379/0, special characters in it written as %40"),
        ("redis://:pass word@h", "must be a URL like redis://host:6379/0, special characters in it written as %40"),
        ("redis:///0", "must be like redis://host:6379/0"),
        ("redis://h:0", "must be like redis://host:6379/0"),
        ("redis://h/zero", "the path must be a database's number: redis://host:6379/0"),
        ("redis://h?timeout=1", "the query of a redis:// URL may have only db, username, password, client_name"),
        ("redis://h?ssl_password=", "the query of a redis:// URL may have only db, username, password, client_name"),
        ("rediss://h?ssl_cert_reqs=maybe", "the value of ssl_cert_reqs in the query is not valid"),
        ("unix://", "must be like unix:///path/to/socket"),
        ("redis+sentinel://h1,h2", f"must be like {SENTINEL}"),
        ("redis+sentinel://h1,/main", f"must be like {SENTINEL}"),
        ("redis+sentinel://h1:x/main", f"must be like {SENTINEL}"),
        ("redis+sentinel://h1/main/zero", f"must be like {SENTINEL}"),
        ("redis+cluster://", "must be like redis+cluster://host1:6379,host2:6379"),
        ("redis+cluster://h1/0", "must be like redis+cluster://host1:6379,host2:6379"),
        (
            "redis+cluster://h1?db=1",
            "the query of a redis+cluster:// URL may have only username, password, client_name",
        ),
    ],
)
def test_redis_urls_that_are_refused(url: str, said: str) -> None:
    assert errors_in({"REDIS_URL": url}) == [f"redis_url: {said}"]


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "localhost:0", "unix:/run/a,b.sock", "fd://3"])
def test_addresses_to_listen_at(bind: str) -> None:
    assert loaded({"server": {"bind": bind}}).server.addresses == (bind,)
    assert loaded({"server": {"bind": [bind]}}).server.addresses == (bind,)


def test_several_addresses_to_listen_at() -> None:
    for several in (["[::1]:1", "127.0.0.1:1", "unix:/run/gateway.sock"], ["fd://3", "fd://4"]):
        assert loaded({"server": {"bind": several}}).server.addresses == tuple(several)


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("a:1,b:2", """must be a list if there are several addresses: ["a:1", "b:2"], got 'a:1,b:2'"""),
        ("a:1, [::]:2", """must be a list if there are several addresses: ["a:1", "[::]:2"], got 'a:1, [::]:2'"""),
        (["a:1", "b:2,c:3"], """must be a list if there are several addresses: ["b:2", "c:3"], got 'b:2,c:3'"""),
        ([], 'must be an address, or a list of addresses such as ["127.0.0.1:8000", "[::1]:8000"]'),
        ([1], 'must be an address, or a list of addresses such as ["127.0.0.1:8000", "[::1]:8000"]'),
        (["a:1", "a:1"], "must not have an address twice"),
        (["fd://3", "a:1"], "must not have fd:// addresses and others in one list"),
        (["a:1", "a"], "must be like 127.0.0.1:8000, [::1]:8000 or unix:/path/to/socket, got 'a'"),
    ],
)
def test_lists_of_addresses_that_are_refused(bind: Any, said: str) -> None:
    assert errors_of({"server": {"bind": bind}}) == [f"server.bind: {said}"]


BIND = "server.bind: must be like 127.0.0.1:8000, [::1]:8000 or unix:/path/to/socket, got"


@pytest.mark.parametrize(
    "bind",
    ["", "8000", ":8000", "localhost", "h:65536", "h:http", "http://h:1", "::1:80", "[h]:1", "u@h:1", "a:1,", "h:1\n"],
)
def test_addresses_that_nobody_can_listen_at(bind: str) -> None:
    assert errors_of({"server": {"bind": bind}}) == [f"{BIND} {bind!r}"]


@pytest.mark.parametrize("port", ["http", "65536", "-1", "80 ", "tcp://10.0.0.1:80"])
def test_a_port_that_is_none(port: str) -> None:
    assert errors_in({"PORT": port}) == [f"server.bind: PORT must be a port, a number from 0 to 65535, got {port!r}"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1000B", 1000),
        ("64k", 64_000),
        ("20MB", 20_000_000),
        ("20 mb", 20_000_000),
        ("64KiB", 65_536),
        ("1 GiB", 1 << 30),
        ("2Mi", 2 << 20),
        (7, 7),
    ],
)
def test_sizes_may_have_units(text: str | int, size: int) -> None:
    assert loaded(devices(max_body_bytes=text)).services["devices"].max_body_bytes == size


@pytest.mark.parametrize("text", ["", "MB", "1.5MB", "-1", "1TB", "1e6", "20 M B", "1" * 20, "²MB"])
def test_sizes_that_are_none(text: str) -> None:
    (line,) = errors_of(devices(max_body_bytes=text))
    assert line.startswith("services.devices.max_body_bytes: must be a number of bytes")


def test_all_settings_in_bytes_take_units() -> None:
    tree = {
        "jwt": {"max_token_bytes": "4KiB", "cache_max_bytes": "1MiB"},
        "docs": {"max_bytes": "1MiB"},
        "server": {"max_head_bytes": "16KiB", "min_body_bytes_per_second": "1KiB"},
    }
    found = loaded(tree)
    assert (found.jwt.max_token_bytes, found.jwt.cache_max_bytes, found.docs.max_bytes) == (4096, 1 << 20, 1 << 20)
    assert (found.server.max_head_bytes, found.server.min_body_bytes_per_second) == (16384, 1024)
    # Limits are those of the numbers.
    assert errors_of({"server": {"max_head_bytes": "1GiB"}}) == [
        "server.max_head_bytes: must be less than or equal to 1048576"
    ]


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.0.0.1/24", "10.0.0.0/24"), ("fe80::1/64", "fe80::/64"), ("10.1.2.3/255.0.0.0", "10.0.0.0/8")],
)
def test_an_address_with_a_networks_length_proposes_the_network(text: str, network: str) -> None:
    said = f"{text!r} has host bits set: write '{network}', or the address alone"
    tree = {"admin": {"allow": [text]}, "ratelimit": {"exempt_addresses": [text]}}
    assert errors_of(tree) == [f"ratelimit.exempt_addresses[0]: {said}", f"admin.allow[0]: {said}"]
    assert loaded({"admin": {"allow": [network]}}).admin.allow == (network,)


KEYS = "https://id.example.com/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("id.example.com/keys", f"must be like {KEYS}, got 'id.example.com/keys'"),
        ("ftp://id.example.com/keys", "scheme must be http or https, got 'ftp'"),
        ("https:///keys", f"must be like {KEYS}, got 'https:///keys'"),
        ("https://u:hunter2@id/keys", "'https://**********@id/keys' has a user or a password, which are not sent"),
        ("https://id/keys#a", "'https://id/keys#**********' has a fragment (#), which is never sent"),
        (
            "https://id:99999/keys?k=hunter2",
            "the port of 'https://id:99999/keys?**********' is not a number from 1 to 65535",
        ),
    ],
)
def test_urls_of_keys_that_are_refused_are_told_with_the_reason(url: str, said: str) -> None:
    assert errors_of({"jwt": {"jwks_url": url}}) == [f"jwt.jwks_url: {said}"]


@pytest.mark.parametrize(
    "limit", ["1/minute", "10 per 5 second", "10/second; 300/minute", "5/2 hours", "1000000000/day"]
)
def test_limits_that_are_taken(limit: str) -> None:
    found = loaded({"ratelimit": {"default": limit}, **devices(limits=[limit])})
    assert (found.ratelimit.default, found.services["devices"].limits) == (limit, (limit,))


@pytest.mark.parametrize(
    "limit",
    [
        *(
            "",
            "lots",
            "-1/minute",
            "1/fortnight",
            "300",
            "1/minute; nonsense",
            "0/minute",
            "1 per 0 minute",
            "1/00 day",
        ),
        *("1000000001/day", "1/100 year", "1" * 5000 + "/minute"),
    ],
)
def test_limits_that_are_refused(limit: str) -> None:
    told = errors_of({"ratelimit": {"default": limit, "anonymous": limit}, **devices(limits=["1/minute", limit])})
    names = ["ratelimit.default", "ratelimit.anonymous", "services.devices.limits[1]"]
    assert [line.partition(": ")[0] for line in told] == names
    assert all(line.endswith(f"got {limit.rpartition('; ')[2]!r}") for line in told)


@pytest.mark.parametrize(
    "header",
    [
        "Authorization", "host", "Content-Length", "X-Request-Id", "X-Forwarded-For", "Cookie", "X_User", "X User",
        "X.User", "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-Url", "Proxy", "Proxy-Authorization",
        "HTTP2-Settings", "X-Real-IP", "CF-Connecting-IP", "X-Gateway-Identity", "X-Gateway-User",
        "X_Forwarded_Host", "Content-Type", "Max-Forwards",
    ],
)  # fmt: skip
def test_headers_that_a_claim_can_not_be_written_into(header: str) -> None:
    (error,) = errors_of({"jwt": {"claims_to_headers": {"sub": header}}})
    assert error.startswith("jwt.claims_to_headers.sub: ")
    assert repr(header) in error


@pytest.mark.parametrize("header", ["X-User", "X-Forwarded-User", "X-Forwarded-Email", "Remote-User"])
def test_headers_that_a_claim_can_be_written_into(header: str) -> None:
    assert loaded({"jwt": {"claims_to_headers": {"sub": header}}}).jwt.claims_to_headers["sub"] == header


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "https://app.example.com", "https://*.example.com", "http://localhost:*", "http://[::1]:3000"],
)
def test_origins_that_are_taken(origin: str) -> None:
    assert loaded({"cors": {"origins": [origin]}}).cors.origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("app.example.com", "https://app.example.com/", "https://.*", "https://a.*", "https://*", "https://*x.com"),
        *("", "ws://a", "https://a b", "https://a\n", "HTTPS://a"),
    ],
)
def test_origins_that_are_refused(origin: str) -> None:
    (error,) = errors_of({"cors": {"origins": ["https://good.example.com", origin]}})
    assert error.startswith("cors.origins[1]: must be like https://app.example.com")
    assert error.endswith(f"got {origin!r}")


@pytest.mark.parametrize("port", [0, 65536, 99999])
@pytest.mark.parametrize("host", ["http://localhost", "https://*.example.com", "http://[::1]"])
def test_origins_with_ports_that_there_are_not(host: str, port: int) -> None:
    origin = f"{host}:{port}"
    assert errors_of({"cors": {"origins": [origin]}}) == [
        f"cors.origins[0]: the port of {origin!r} is not a number from 1 to 65535"
    ]


def test_credentials_are_not_for_any_page() -> None:
    told = errors_of({"cors": {"origins": ["*", "null"], "credentials": True}})
    assert told == [
        'cors: credentials = true can\'t be combined with origins = ["*"]: list the origins',
        'cors: credentials = true can\'t be combined with the origin "null", which any page can have',
    ]
    assert loaded({"cors": {"origins": ["https://*.example.com"], "credentials": True}}).cors.credentials


def test_fields_of_cors_are_names() -> None:
    fields = ["X-Request-Id", "Content-Length", "*"]
    cors = loaded({"cors": {"expose_headers": fields, "allow_headers": fields}}).cors
    assert cors.expose_headers == cors.allow_headers == tuple(fields)
    spoiled = {"expose_headers": ["X-A, X-B"], "allow_headers": ["X-C X-D"], "methods": ["GET,POST"]}
    names = [line.partition(": ")[0] for line in errors_of({"cors": spoiled})]
    assert names == ["cors.methods[0]", "cors.allow_headers[0]", "cors.expose_headers[0]"]


@pytest.mark.parametrize("name", ["none", "None", "hs256", "HS1", ""])
def test_algorithms_that_there_are_not(name: str) -> None:
    (error,) = errors_of({"jwt": {"algorithms": ["HS256", name]}})
    assert error.startswith("jwt.algorithms[1]: must be 'HS256', ")


SYMMETRIC = "jwt.algorithms: HS* verifies with a secret, not with public_key_file"
ASYMMETRIC = "jwt.algorithms: only HS* can be verified with a secret; the others need public_key_file"


@pytest.mark.parametrize(
    ("jwt", "error"),
    [
        ({"algorithms": ["RS256"]}, ASYMMETRIC),
        ({"secret": SECRET, "algorithms": ["HS256", "ES256"]}, ASYMMETRIC),
        ({"public_key_file": "/key.pem", "algorithms": ["RS256", "HS256"]}, SYMMETRIC),
        ({"algorithms": []}, "jwt.algorithms: must not be empty"),
    ],
)
def test_algorithms_fit_the_source_of_keys(jwt: dict[str, Any], error: str) -> None:
    assert errors_of({"jwt": jwt}) == [error]


def test_one_source_of_keys_and_one_claim_for_a_header() -> None:
    claims = {"sub": "X-User", "user_id": "x-user"}
    jwt = {"secret": SECRET, "public_key_file": "/key.pem", "algorithms": ["HS256"], "claims_to_headers": claims}
    assert errors_of({"jwt": jwt}) == [
        "jwt: give secret or public_key_file, not both",
        SYMMETRIC,
        "jwt.claims_to_headers: 'x-user' can't be set from both 'sub' and 'user_id'",
    ]


def test_services_in_the_file_are_as_strict(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("configuration") / "gateway.toml"
    path.write_text(
        "redis_url = 5\n[jwt]\nsecret = 12345678901234567890123456789012\nissuer = 2020-01-01\n"
        f"[services.orders]\nprefix = '{ORDERS['prefix']}'\ntargets = 'http://h'\nmax_in_flight = 1.5\nauth = false\n"
    )
    assert errors_in({"GATEWAY_CONFIG": str(path)}) == [
        "redis_url: must be a string",
        "jwt.secret: must be a string",
        "jwt.issuer: must be a string",
        "services.orders.targets: must be a list",
        "services.orders.auth: must be 'required' or 'none'",
        "services.orders.max_in_flight: must be an integer",
    ]


def test_there_is_one_kind_of_worker() -> None:
    assert loaded({"server": {"worker": "gevent"}}).server.worker == "gevent"
    assert errors_of({"server": {"worker": "gthread"}}) == [
        "server.worker: must be gevent, which is the only kind of worker, got 'gthread'"
    ]
