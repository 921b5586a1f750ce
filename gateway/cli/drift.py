"""`flask drift`: where services' documents and the configuration disagree."""

from __future__ import annotations

import sys

import click

from gateway.cli.progress import progress
from gateway.cli.table import printable
from gateway.config import Settings
from gateway.documents.sources import make_sources
from gateway.fetching import FetchError
from gateway.openapi import ServiceDocument, drifts
from gateway.policies import policies_of


def drift_command(settings: Settings) -> click.Command:
    @click.command("drift")
    def drift() -> None:
        """Compare what services declare with what the gateway does: exit code 1 where they disagree."""
        parts: list[ServiceDocument] = []
        failures = []
        sources = make_sources(settings, list(policies_of(settings)))
        for name, source in progress(sources.items(), lambda item: f"fetching the document of {item[0]}"):
            content = None
            try:
                content = source.fetch({}).content
                source.check(content or b"")
            except FetchError as error:
                failures.append(f"{name}: its document can't be had: {error}")
                content = None
            parts.append(source.part(None, content))
        found = drifts(parts)
        for one in found:
            click.echo(printable(one.line))
        for failure in failures:
            click.echo(printable(failure), err=True)
        if not found:
            click.echo(f"No drift in {sum(part.document is not None for part in parts)} documents.")
        sys.exit(1 if found or failures else 0)

    return drift
