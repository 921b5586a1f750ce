"""`flask drift`: compares the services' API documents with the configuration."""

from __future__ import annotations

import sys

import click

from gateway.api_documents.sources import make_sources
from gateway.cli.output import COULD_NOT_RUN, printable, progress_bar
from gateway.config import Settings
from gateway.document_fetch import FetchError
from gateway.openapi import ServiceDocument, drifts
from gateway.route_policy import policies_of


def drift_command(settings: Settings) -> click.Command:
    @click.command("drift")
    def drift() -> None:
        """Compare what the services' API documents declare with the configuration.

        Exit code 0: they agree; 1: they disagree; 2: not everything was compared, as a document could not be
        fetched."""
        parts: list[ServiceDocument] = []
        failures = []
        sources = make_sources(settings, list(policies_of(settings)))
        with progress_bar(sources.items(), "Fetching documents", len(sources)) as shown_sources:
            for name, source in shown_sources:
                content = None
                if source.has_document:
                    try:
                        content = source.fetch({}).content
                        source.check(content or b"")
                    except FetchError as error:
                        failures.append(f"{name}: its document could not be fetched: {error}")
                        content = None
                parts.append(source.service_document(None, content))
        found = drifts(parts)
        for one in found:
            click.echo(printable(one.line))
        compared = sum(part.document is not None for part in parts)
        if not found and (compared or not failures):
            click.echo(f"No drift in {compared} document{'s' if compared != 1 else ''}.")
        for part in parts:
            if not part.has_document:
                click.echo(printable(f'{part.name}: skipped, it has no document (openapi_path = "")'), err=True)
        for failure in failures:
            click.echo(printable(failure), err=True)
        sys.exit(COULD_NOT_RUN if failures else 1 if found else 0)

    return drift
