"""URLs, origins, hosts, networks and listening addresses: valid values, and the errors of invalid ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.configuration import (
    devices,
    errors_of,
    loaded,
)


@pytest.mark.parametrize(
    "host", ["devices.example.com", "devices:8080", "10.0.0.7", "[::1]", "[2001:db8::7]:443", "a_b"]
)
def test_hosts(host: str) -> None:
    assert loaded(devices(host=host)).services["devices"].host == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a:",
        "a:0",
        "a:65536",
        "a:b",
        "::1",
        "[::1",
        "[a]",
        "[::1%25lo]",
        "u@h",
        "http://h",
        "h/x",
        "h,i",
        "é",
        "a\r\nb",
    ],
)
def test_invalid_hosts(host: str) -> None:
    (error,) = errors_of(devices(host=host))
    assert error.startswith("services.devices.host: must be a host and perhaps a port, like devices.example.com")


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
def test_invalid_targets(target: str, said: str) -> None:
    tree = {"services": {"rules": {"targets": ["http://127.0.0.1:1", target]}}}
    assert errors_of(tree) == [f"services.rules.targets[1]: {said}"]


@pytest.mark.parametrize(
    ("target", "used"),
    [
        ("http://h", "http://h"),
        # The scheme is normalized, because the gateway decides by it whether to use TLS.
        ("HTTPS://Host:80/", "https://Host:80"),
        ("http://h/base/", "http://h/base"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://my_service.local.:1", "http://my_service.local.:1"),
        ("http://" + "a" * 63 + ".b", "http://" + "a" * 63 + ".b"),
    ],
)
def test_targets(target: str, used: str) -> None:
    assert loaded(devices(targets=[target])).services["devices"].targets == (used,)


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "localhost:0", "unix:/run/a,b.sock", "fd://3"])
def test_listening_addresses(bind: str) -> None:
    assert loaded({"server": {"bind": bind}}).server.addresses == (bind,)
    assert loaded({"server": {"bind": [bind]}}).server.addresses == (bind,)


def test_several_listening_addresses() -> None:
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
def test_invalid_lists_of_listening_addresses(bind: Any, said: str) -> None:
    assert errors_of({"server": {"bind": bind}}) == [f"server.bind: {said}"]


BIND = "server.bind: must be like 127.0.0.1:8000, [::1]:8000 or unix:/path/to/socket, got"


@pytest.mark.parametrize(
    "bind",
    ["", "8000", ":8000", "localhost", "h:65536", "h:http", "http://h:1", "::1:80", "[h]:1", "u@h:1", "a:1,", "h:1\n"],
)
def test_invalid_listening_addresses(bind: str) -> None:
    assert errors_of({"server": {"bind": bind}}) == [f"{BIND} {bind!r}"]


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.0.0.1/24", "10.0.0.0/24"), ("fe80::1/64", "fe80::/64"), ("10.1.2.3/255.0.0.0", "10.0.0.0/8")],
)
def test_an_address_with_the_length_of_a_network(text: str, network: str) -> None:
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
def test_invalid_urls_of_keys(url: str, said: str) -> None:
    assert errors_of({"jwt": {"jwks_url": url}}) == [f"jwt.jwks_url: {said}"]


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "https://app.example.com", "https://*.example.com", "http://localhost:*", "http://[::1]:3000"],
)
def test_origins(origin: str) -> None:
    assert loaded({"cors": {"origins": [origin]}}).cors.origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        *("app.example.com", "https://app.example.com/", "https://.*", "https://a.*", "https://*", "https://*x.com"),
        *("", "ws://a", "https://a b", "https://a\n", "HTTPS://a"),
    ],
)
def test_invalid_origins(origin: str) -> None:
    (error,) = errors_of({"cors": {"origins": ["https://good.example.com", origin]}})
    assert error.startswith("cors.origins[1]: must be like https://app.example.com")
    assert error.endswith(f"got {origin!r}")


@pytest.mark.parametrize("port", [0, 65536, 99999])
@pytest.mark.parametrize("host", ["http://localhost", "https://*.example.com", "http://[::1]"])
def test_origins_with_invalid_ports(host: str, port: int) -> None:
    origin = f"{host}:{port}"
    assert errors_of({"cors": {"origins": [origin]}}) == [
        f"cors.origins[0]: the port of {origin!r} is not a number from 1 to 65535"
    ]
