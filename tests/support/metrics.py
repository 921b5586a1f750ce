"""Reads single values from /metrics of a gateway."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import GatewayProcess


def metric_value(gateway: GatewayProcess, name: str, **labels: str) -> float:
    """The value of the sample with this name and these labels; 0 if there is none."""
    reply = gateway.get("/metrics")
    assert reply.status == 200
    found = [
        sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else 0.0
