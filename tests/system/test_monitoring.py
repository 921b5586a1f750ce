"""The alert rules and the dashboard, evaluated by a real Prometheus that scrapes a real gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.documentation import PAGES
from tests.support.gateway import GatewayProcess
from tests.support.issuer import Issuer
from tests.support.prometheus import ALERTS, DASHBOARD, Prometheus, expressions_of, program, prometheus, promtool
from tests.support.redis import RedisServer, free_port
from tests.support.upstream import ScriptedUpstream, answering

StartGateway = Callable[..., GatewayProcess]

RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
PANELS = json.loads(DASHBOARD.read_text())["panels"]
# The traffic below fulfils the conditions of these alerts.
FULFILLED = frozenset(
    "GatewayErrors GatewayBreakerOpen GatewayTargetUnhealthy GatewayRedisDown GatewayQuotaFallbacks "
    "GatewayRevocationsUnseen GatewayTokensRefused GatewayQuotaRefusals GatewayDocumentStale".split()
)
# Prometheus and histograms add these labels.
KNOWN_LABELS = frozenset(["job", "instance", "le"])
DOCUMENT = b'{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/api/livestreams": {"get": {}}}}'


@dataclass
class Setting:
    """A gateway whose traffic sets every metric, and a Prometheus that scrapes it."""

    gateway: GatewayProcess
    redis: RedisServer
    issuer: Issuer
    prometheus: Prometheus

    def make_traffic(self) -> None:
        """Sends requests with all kinds of outcomes: answered, refused, retried, over a limit, failed, with a forged
        token."""
        good = ("Authorization", f"Bearer {self.issuer.token('k1')}")
        forged = ("Authorization", f"Bearer {self.issuer.token('k1')[:-8]}AAAAAAAA")
        for _ in range(15):
            self.gateway.get("/api/devices", good)
            self.gateway.get("/api/devices", forged)
            self.gateway.get("/api/devices", forged)
            self.gateway.get("/api/livestreams/undocumented", good)
            self.gateway.get("/api/rules", good)
        self.gateway.get("/api/devices")
        self.gateway.get("/openapi.json")


@pytest.fixture(scope="module")
def setting(
    start_gateway: StartGateway, module_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    program("prometheus")
    issuer = Issuer()
    issuer.add_key("k1", "ES256")
    fine = answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT) + DOCUMENT)
    module_upstream.at["/openapi.json"] = fine
    good, dead = module_upstream.url, [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    breaker = {"failures": 2, "open_seconds": 1, "max_open_seconds": 1}
    services: dict[str, dict[str, Any]] = {
        "devices": {
            "targets": [good, dead[0]],
            "breaker": breaker,
            # There are fewer healthy targets than min_available, so the dead target is used as well, and requests are
            # retried.
            "health": {"path": "/health", "interval_seconds": 0.5, "unhealthy_after": 1, "min_available": 2},
            "balancing": "round_robin",
        },
        "rules": {"targets": [dead[1]], "breaker": breaker},
        "livestreams": {"targets": [good], "limits": ["4/minute"], "undocumented": "log"},
        "auth": {"targets": [good]},
    }
    with RedisServer() as redis:
        gateway = start_gateway(
            {
                "services": services,
                "jwt": {"jwks_url": issuer.jwks_url, "issuer": issuer.url},
                "docs": {"refresh_seconds": 1},
            },
            environ={"REDIS_URL": redis.url, "GATEWAY_JWT__SECRET": None},
        )
        with prometheus(tmp_path_factory.mktemp("prometheus"), gateway.port) as server:
            yield Setting(gateway, redis, issuer, server)
    issuer.close()


@pytest.fixture(scope="module")
def seen(setting: Setting) -> Setting:
    """The setting, once every panel has data and the conditions of the expected alerts are fulfilled."""
    expressions = expressions_of(PANELS) | {rule["alert"]: rule["expr"] for rule in RULES if rule["alert"] in FULFILLED}
    empty = dict(expressions)

    def has_seen(*but: str) -> bool:
        setting.make_traffic()
        for name, expression in list(empty.items()):
            if setting.prometheus.query(expression):
                del empty[name]
        return empty.keys() <= set(but)

    without_redis = {name for name, one in expressions.items() if "redis" in one.lower()}
    without_redis |= {name for name, one in expressions.items() if re.search("fallbacks|unseen", one)}
    try:
        setting.gateway.wait_until(lambda: has_seen(*without_redis), "have data for all that needs Redis")
        setting.redis.kill()
        # These expressions may have had data before Redis failed, and must have data again.
        empty |= {name: expressions[name] for name in without_redis}
        setting.gateway.wait_until(has_seen, "have data for everything")
    except AssertionError as error:
        raise AssertionError(f"no data for {empty}") from error
    return setting


@pytest.fixture(scope="module")
def exposition(seen: Setting) -> str:
    reply = seen.gateway.get("/metrics")
    assert reply.status == 200
    return reply.body.decode()


def test_every_panel_has_data_and_the_fulfilled_alerts_fire(seen: Setting) -> None:
    for name, expression in expressions_of(PANELS).items():
        assert seen.prometheus.query(expression), name
    fulfilled = {rule["alert"] for rule in RULES if seen.prometheus.query(rule["expr"])}
    # A slow test machine may also fulfil GatewayItselfSlow.
    assert fulfilled - {"GatewayItselfSlow"} == FULFILLED


def test_prometheus_evaluates_all_rules_and_expands_all_texts(seen: Setting) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = seen.prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    seen.gateway.wait_until(lambda: all(rule["health"] != "unknown" for rule in evaluated()), "evaluate the rules")
    assert {rule["name"]: (rule["health"], rule.get("lastError")) for rule in evaluated()} == {
        rule["alert"]: ("ok", None) for rule in RULES
    }

    def alert_names() -> set[str]:
        alerts = seen.prometheus.ask("alerts")["alerts"]
        for alert in alerts:
            assert "error expanding" not in str(alert["annotations"]), alert
            assert "{{" not in str(alert["annotations"]), alert
        return {alert["labels"]["alertname"] for alert in alerts}

    seen.gateway.wait_until(lambda: alert_names() >= FULFILLED, "have the alerts pending")


def test_rules_and_panels_use_existing_metrics_and_all_of_them(exposition: str) -> None:
    families = list(text_string_to_metric_families(exposition))
    names = {sample.name for family in families for sample in family.samples}
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    expressions = [*(rule["expr"] for rule in RULES), *expressions_of(PANELS).values()]
    used = {name for one in expressions for name in re.findall(r"\bgateway_\w+", one)}
    assert used <= names
    used_labels = {label for one in expressions for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", one)}
    for grouping in (group for one in expressions for group in re.findall(r"\bby \(([^)]*)\)", one)):
        used_labels |= set(grouping.replace(" ", "").split(","))
    assert used_labels <= labels | KNOWN_LABELS
    # Every metric must be used in an alert or a panel.
    bases = {re.sub("_(bucket|count|sum)$", "", name) for name in used}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in names} == bases


def test_the_documentation_lists_all_metrics(exposition: str) -> None:
    lines = PAGES["docs/operations.md"].splitlines()
    for family in text_string_to_metric_families(exposition):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        (row,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(re.findall(r"\w+", row.split("|")[2])), row


def test_promtool_accepts_the_exposition(exposition: str) -> None:
    assert promtool("check", "metrics", text=exposition.encode()) == ""


def test_labels_contain_nothing_that_a_client_sends(seen: Setting) -> None:
    path, method = "/api/devices/very-private-path", "VERYOWN"
    good = ("Authorization", f"Bearer {seen.issuer.token('k1', 'very-private-subject')}")
    assert seen.gateway.request(method, path, [good, ("Host", "very-private-host")]).status in (200, 400)
    assert seen.gateway.request(method, path, [good]).status == 200
    seen.gateway.wait_until(lambda: 'method="other"' in seen.gateway.get("/metrics").body.decode(), "count it")
    text = seen.gateway.get("/metrics").body.decode()
    assert not [word for word in ("very-private", method) if word in text]


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert not {"id", "uid"} & board.keys()
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == ["datasource", "job", "service"]
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    sources = [panel["datasource"]["uid"] for panel in shown]
    sources += [target["datasource"]["uid"] for panel in shown for target in panel["targets"]]
    assert set(sources) == {"${datasource}"}
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
