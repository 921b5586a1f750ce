"""The client's address, scheme and host by trusted hops, with X-Forwarded-* and with Forwarded."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.proxy.trusted_proxies import ClientInfo, elements_of, node_in, resolve_client

PROXY = "10.0.0.1"


def behind(hops: int, for_: str = "", proto: str = "", host: str = "") -> ClientInfo:
    return resolve_client(PROXY, "http", "internal:8000", hops, "x-forwarded", (for_, proto, host))


def forwarded(hops: int, *lines: str) -> ClientInfo:
    return resolve_client(PROXY, "http", "internal:8000", hops, "forwarded", lines)


def value(client: ClientInfo, name: str) -> str:
    (found,) = [value for key, value in client.headers if key == name]
    return found


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("203.0.113.9:_port", "203.0.113.9"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", "unknown"),
        ("_hidden", "_hidden"),
        ("_SEVKISEK.x-1", "_SEVKISEK.x-1"),
        ("", "unknown"),
        ("_", "unknown"),
        ("somebody", "unknown"),
        ("203.0.113.9:", "unknown"),
        ("203.0.113.9:123456", "unknown"),
        ("203.0.113", "unknown"),
        ("0203.0.113.9", "unknown"),
        ("[203.0.113.9]", "unknown"),
        ("[2001:db8::1", "unknown"),
        ('fe80::1%a"b', "fe80::1"),
        ("unix:", "unknown"),
    ],
)
def test_a_node_is_an_address_or_unknown(text: str, node: str) -> None:
    assert node_in(text) == node


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("for=203.0.113.9", [{"for": "203.0.113.9"}]),
        ('For="[2001:db8::1]:4711";Proto=https', [{"for": "[2001:db8::1]:4711", "proto": "https"}]),
        ('for=a , for="b,c;d" ; by=_x', [{"for": "a"}, {"for": "b,c;d", "by": "_x"}]),
        (r'host="a\"b\\c"', [{"host": 'a"b\\c'}]),
        ("for=203.0.113.9:4711;host=shop.test:80", [{"for": "203.0.113.9:4711", "host": "shop.test:80"}]),
        ("", [{}]),
        ("for=a;;proto=https", [{"for": "a", "proto": "https"}]),
        (",for=a", [{}, {"for": "a"}]),
        ("for=a;for=b", None),
        ('for="a', None),
        ('for="a"b', None),
        ("for", None),
        ("for =a", None),
        ("for=", None),
    ],
)
def test_a_line_of_forwarded_is_parsed_by_its_grammar(text: str, elements: list[dict[str, str]] | None) -> None:
    assert elements_of(text) == elements


def test_without_trusted_hops_only_the_connection_counts() -> None:
    client = resolve_client("::ffff:192.0.2.1", "http", "a.test")
    assert client[:4] == ("192.0.2.1", "192.0.2.1", "http", "a.test")
    assert client.headers == (
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", 'for=192.0.2.1;proto=http;host="a.test"'),
        ("X-Forwarded-Host", "a.test"),
    )
    assert resolve_client("", "http", "").headers == (
        ("X-Forwarded-For", "unknown"),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", "for=unknown;proto=http"),
    )


def test_x_forwarded_headers_are_read_by_trusted_hops() -> None:
    client = behind(2, "6.6.6.6, 203.0.113.9:4711, 10.0.0.2", "ftp,https, http", "evil.test, shop.test, inner.test")
    assert client[:4] == (PROXY, "203.0.113.9", "https", "shop.test")
    assert value(client, "X-Forwarded-For") == "203.0.113.9, 10.0.0.2, 10.0.0.1"
    assert value(client, "X-Forwarded-Proto") == "https"
    assert value(client, "X-Forwarded-Host") == "shop.test"
    assert value(client, "Forwarded") == ('for=203.0.113.9;proto=https;host="shop.test", for=10.0.0.2, for=10.0.0.1')
    assert behind(1, "6.6.6.6, 203.0.113.9", "https, http", "a.test, b.test")[1:4] == ("203.0.113.9", "http", "b.test")
    # If there are fewer entries than trusted hops, the first entry is used.
    assert behind(3, "203.0.113.9", "https", "shop.test")[1:4] == ("203.0.113.9", "https", "shop.test")


def test_forwarded_is_read_by_trusted_hops() -> None:
    lines = ('for=6.6.6.6;proto=ftp, for="[2001:db8::1]:4711";proto=https', "for=10.0.0.2;host=inner.test")
    client = forwarded(2, *lines)
    assert client[:4] == (PROXY, "2001:db8::1", "https", "inner.test")
    assert value(client, "X-Forwarded-For") == "2001:db8::1, 10.0.0.2, 10.0.0.1"
    assert value(client, "Forwarded") == (
        'for="[2001:db8::1]";proto=https;host="inner.test", for=10.0.0.2, for=10.0.0.1'
    )
    assert forwarded(1, *lines)[1:4] == ("10.0.0.2", "http", "inner.test")


def test_an_unknown_client_has_the_address_of_its_connection_and_is_forwarded_as_unknown() -> None:
    for client in (behind(2, "unknown, 10.0.0.2"), forwarded(2, "for=unknown, for=10.0.0.2")):
        assert client.address == PROXY
        assert value(client, "X-Forwarded-For") == "unknown, 10.0.0.2, 10.0.0.1"
        assert value(client, "Forwarded").startswith("for=unknown;proto=http;")
    hidden = forwarded(1, "for=_hidden;proto=https")
    assert (hidden.address, hidden.scheme) == (PROXY, "https")
    assert value(hidden, "X-Forwarded-For") == "unknown, 10.0.0.1"
    assert value(hidden, "Forwarded").startswith("for=_hidden;proto=https;")


@pytest.mark.parametrize(
    "line",
    ['for="6.6.6.6, for=203.0.113.9', 'for="x, for="203.0.113.9"', "for=6.6.6.6;for=6.6.6.7, for=203.0.113.9"],
)
def test_a_malformed_line_of_the_client_is_ignored(line: str) -> None:
    client = forwarded(1, line)
    assert client.address == PROXY
    # The malformed line of the client does not invalidate the line that a trusted proxy has added.
    assert forwarded(1, line, "for=203.0.113.9;proto=https")[1:3] == ("203.0.113.9", "https")
    assert forwarded(2, line, "for=203.0.113.9").address == PROXY


def test_invalid_schemes_and_hosts_are_ignored() -> None:
    assert behind(1, proto="javascript", host='x";for=6.6.6.6')[2:4] == ("http", "internal:8000")
    assert behind(1, proto="HTTPS", host="[2001:db8::1]:443")[2:4] == ("https", "[2001:db8::1]:443")
    for host in ("a b", "user@x", "x:abc", "[::1", "x\\", "a/b", "é"):
        assert behind(1, host=host).host == "internal:8000"


TEXTS = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=40)
NODES = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(["unknown", "_h", "", '"', "\\", "[::1]:1", "1.2.3.4:5", '"[::1]"'])
)
LISTS = st.lists(st.one_of(NODES, TEXTS, st.just("https"), st.just("a.test")), max_size=5).map(", ".join)
LINES = st.lists(
    st.one_of(
        TEXTS,
        st.tuples(NODES, TEXTS, st.sampled_from(["http", "https", "x"])).map(
            lambda parts: f'for="{parts[0]}";host="{parts[1]}";proto={parts[2]}'
        ),
    ),
    max_size=4,
).map(tuple)


@given(st.integers(1, 4), LISTS, LISTS, LISTS)
@example(1, "1.2.3.4:5", 'https"', 'x", for=6.6.6.6;host="y')
def test_forwarding_headers_agree_with_the_accepted_client(hops: int, for_: str, proto: str, host: str) -> None:
    check_headers(behind(hops, for_, proto, host), hops)


@given(st.integers(1, 4), LINES)
def test_forwarding_headers_agree_with_the_accepted_client_for_forwarded(hops: int, lines: tuple[str, ...]) -> None:
    check_headers(forwarded(hops, *lines), hops)


def check_headers(client: ClientInfo, hops: int) -> None:
    """Checks that all forwarding headers are valid and name the same client."""
    addresses = value(client, "X-Forwarded-For").split(", ")
    elements = elements_of(value(client, "Forwarded"))
    assert elements is not None
    assert len(elements) == len(addresses) <= hops + 1
    assert addresses[0] == client.address or (addresses[0], client.address) == ("unknown", PROXY)
    assert addresses[-1] == client.peer == PROXY
    for address, element in zip(addresses, elements, strict=True):
        node = node_in(element["for"])
        assert node == address or (address == "unknown" and node.startswith("_"))
    assert [element.get("proto") for element in elements] == [client.scheme] + [None] * (len(elements) - 1)
    assert [element.get("host") for element in elements] == [client.host] + [None] * (len(elements) - 1)
    assert (value(client, "X-Forwarded-Proto"), value(client, "X-Forwarded-Host")) == (client.scheme, client.host)
    assert all(value.isascii() and value.isprintable() for _, value in client.headers)
