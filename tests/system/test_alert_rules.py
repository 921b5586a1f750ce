"""promtool's unit tests: when each alert fires, and when it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import ALERTS, promtool

RULES = {rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}

# Series by name and labels. The values are one per minute, in promtool's notation: 0+6x20 means 0, 6, 12, …, which is a
# rate of 0.1 per second.
Series = dict[str, str]
REQUESTS = 'gateway_requests_total{job="gateway", service="devices", status="%s"}'
ALIVE = '{job="gateway", instance="a"}'
DEVICES = '{job="gateway", instance="a", service="devices"}'
TARGET = '{job="gateway", instance="a", service="devices", target="http://t"}'
ISSUER = '{job="gateway", instance="a", issuer="https://id"}'
REFUSALS = 'gateway_token_refusals_total{job="gateway", reason="%s"}'
OVER_QUOTA = 'gateway_quota_refusals_total{job="gateway", service="devices", mode="%s"}'
DURING = "0+60x80"


def slow(quick: str, slow: str) -> Series:
    """The cumulative buckets of response times: responses within a second, and within ten seconds."""
    name = 'gateway_upstream_seconds_bucket{job="gateway", service="devices", le="%s"}'
    return {name % "1.0": quick, name % "10.0": slow, name % "+Inf": slow}


# For each alert, series that make it fire, and series with which it does not fire.
CASES: dict[str, tuple[Series, Series]] = {
    "GatewayUnreachable": ({f"up{ALIVE}": "1 0x80"}, {f"up{ALIVE}": "1x80"}),
    "GatewayAllUnreachable": ({'up{job="other"}': "1x80"}, {f"up{ALIVE}": "1x80"}),
    "GatewayErrors": (
        {REQUESTS % "5xx": "0+6x80", REQUESTS % "2xx": DURING},
        {REQUESTS % "5xx": "0+2x80", REQUESTS % "2xx": DURING},
    ),
    "GatewaySlow": (slow("0+58x80", DURING), slow(DURING, DURING)),
    "GatewayItselfSlow": (
        {f"gateway_own_seconds_total{DEVICES}": "0+6x80", REQUESTS % "2xx": DURING},
        {f"gateway_own_seconds_total{DEVICES}": "0+0.6x80", REQUESTS % "2xx": DURING},
    ),
    "GatewayBreakerOpen": ({f"gateway_breaker_open{TARGET}": "1x80"}, {f"gateway_breaker_open{TARGET}": "0x80"}),
    "GatewayTargetUnhealthy": (
        {f"gateway_target_unhealthy{TARGET}": "1x80"},
        {f"gateway_target_unhealthy{TARGET}": "0x80"},
    ),
    "GatewayNearlyFull": (
        {f"gateway_requests_in_flight{DEVICES}": "90x80", f"gateway_requests_in_flight_limit{DEVICES}": "100x80"},
        {f"gateway_requests_in_flight{DEVICES}": "70x80", f"gateway_requests_in_flight_limit{DEVICES}": "100x80"},
    ),
    "GatewayRedisDown": ({f"gateway_redis_down{ALIVE}": "2x80"}, {f"gateway_redis_down{ALIVE}": "0x80"}),
    "GatewayQuotaFallbacks": (
        {'gateway_quota_fallbacks_total{job="gateway", way="local"}': DURING},
        {'gateway_quota_fallbacks_total{job="gateway", way="local"}': "5x80"},
    ),
    "GatewayRevocationsUnseen": (
        {f"gateway_revocations_unseen_total{ALIVE}": "0+1x80"},
        {f"gateway_revocations_unseen_total{ALIVE}": "5x80"},
    ),
    # The alert compares the time of the last refresh, second 60, with the current time: minute 70 is second 4200.
    "GatewayKeysOld": (
        {f"gateway_jwks_loaded_timestamp_seconds{ISSUER}": "60x80", f"gateway_jwks_failing{ISSUER}": "2x80"},
        {f"gateway_jwks_loaded_timestamp_seconds{ISSUER}": "60x80", f"gateway_jwks_failing{ISSUER}": "0x80"},
    ),
    "GatewayKeysMissing": (
        {f"gateway_jwks_failing{ISSUER}": "2x80"},
        {f"gateway_jwks_loaded_timestamp_seconds{ISSUER}": "60x80", f"gateway_jwks_failing{ISSUER}": "2x80"},
    ),
    "GatewayTokensRefused": (
        {REFUSALS % "signature": "0+20x80", REQUESTS % "2xx": DURING},
        {REFUSALS % "signature": "0+6x80", REFUSALS % "missing": DURING, REQUESTS % "2xx": DURING},
    ),
    "GatewayQuotaRefusals": (
        {OVER_QUOTA % "enforce": "0+20x80", REQUESTS % "4xx": DURING},
        {OVER_QUOTA % "enforce": "0+6x80", OVER_QUOTA % "observe": DURING, REQUESTS % "4xx": DURING},
    ),
    "GatewayWorkersRestart": (
        {f"gateway_worker_starts_total{ALIVE}": "2+2x80", f"gateway_workers{ALIVE}": "2x80"},
        # Two reloads in ten minutes don't fire the alert.
        {f"gateway_worker_starts_total{ALIVE}": "2x63 4x3 6x14", f"gateway_workers{ALIVE}": "2x80"},
    ),
    "GatewayLogLinesLost": (
        {f"gateway_log_lines_lost_total{ALIVE}": "0+1x80"},
        {f"gateway_log_lines_lost_total{ALIVE}": "5x80"},
    ),
    "GatewayDocumentStale": (
        {f"gateway_document_failing{DEVICES}": "1x80"},
        # A refresh succeeded in between, so the alert does not fire.
        {f"gateway_document_failing{DEVICES}": "1x30 0 1x50"},
    ),
}
MINUTE = 70


def test_every_alert_has_a_case() -> None:
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_every_alert_has_a_severity_a_summary_and_a_description(rule: dict[str, Any]) -> None:
    assert rule["for"]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text())
    tests = [
        promtool_test(f"{name} {'fires' if fires else 'does not'}", name, series, fires=fires)
        for name, both in CASES.items()
        for fires, series in zip((True, False), both, strict=True)
    ]
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": ["alerts.yml"], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", "test.yml", folder=tmp_path)


def promtool_test(title: str, name: str, series: Series, *, fires: bool) -> dict[str, Any]:
    firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
    expected = [{"labels": "{}", "value": 1}] if fires else []
    # In the first minute no alert fires, as no condition has held for long enough.
    tests = [(0, []), (MINUTE, expected)]
    return {
        "name": title,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{minute}m", "exp_samples": samples} for minute, samples in tests
        ],
    }


def test_promtool_accepts_the_rules() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "rules", str(ALERTS))
