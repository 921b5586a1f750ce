"""The syntax of the URL of Redis."""

from __future__ import annotations

import pytest

from gateway.config import load_settings
from tests.support.configuration import (
    errors_in,
)

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
def test_redis_urls(url: str) -> None:
    found = load_settings({"REDIS_URL": url}).redis_url
    assert found is not None
    assert found.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", f"scheme must be one of {SCHEMES}, got 'http'"),
        # The scheme must be in lower case, because redis-py refuses upper case.
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
def test_invalid_redis_urls(url: str, said: str) -> None:
    assert errors_in({"REDIS_URL": url}) == [f"redis_url: {said}"]
