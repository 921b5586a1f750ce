"""Where each service's document comes from, and what it is in the merged one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from gateway.api_documents.document_state import DocumentState
from gateway.config import ServiceSettings, Settings
from gateway.document_fetch import Document, FetchError, service_fetcher
from gateway.openapi import DocumentError, ServiceDocument, parse_document
from gateway.route_policy import RoutePolicy
from gateway.system.native_threads import run_in_native_thread
from gateway.timestamps import iso


def make_sources(settings: Settings, policies: Sequence[RoutePolicy]) -> dict[str, ServiceSource]:
    """One for each service, in their order, also for those without a document. Raises ConfigurationError for
    certificates that can't be used."""
    docs = settings.docs
    return {
        name: ServiceSource(name, service, policies, docs.hidden, docs.max_bytes)
        for name, service in settings.services.items()
    }


class ServiceSource:
    """One service's document. Raises ConfigurationError for certificates that can't be used."""

    def __init__(
        self,
        name: str,
        service: ServiceSettings,
        policies: Sequence[RoutePolicy],
        hidden: tuple[str, ...],
        max_bytes: int,
    ) -> None:
        self.max_bytes = max_bytes
        self.is_shown = service.in_docs
        self.has_document = service.openapi_path != ""
        self._name = name
        self._service = service
        own = [policy for policy in policies if policy.service == name]
        # The document has each operation once; the same policy below another prefix is the same operation's.
        self._policies = tuple(one for one in own if one.prefix.client_prefix == one.prefix.document_prefix)
        self._hidden = hidden
        self._fetcher = service_fetcher(name, service, service.openapi_path, max_bytes)
        identity = json.dumps([name, *service.targets, service.host, service.openapi_path, max_bytes])
        self.key = f"{name}:{sha256(identity.encode()).hexdigest()[:16]}"
        self._read: tuple[bytes, dict[str, Any]] | None = None

    def fetch(self, fields: Mapping[str, str]) -> Document:
        return self._fetcher.fetch(fields)

    def check(self, content: bytes) -> None:
        try:
            self.document(content)
        except DocumentError as error:
            raise FetchError(f"not a document that can be merged: {error}") from error

    def document(self, content: bytes) -> dict[str, Any]:
        """What the bytes say; read once. Raises DocumentError."""
        if self._read is None or self._read[0] != content:
            self._read = content, run_in_native_thread(lambda: parse_document(content, self.max_bytes))
        return self._read[1]

    def part(self, kept: DocumentState | None, content: bytes | None) -> ServiceDocument:
        """This service as a part of the merged document."""
        document = None
        if content is not None:
            try:
                document = self.document(content)
            except DocumentError:
                # Kept by another version of the gateway, which could read it.
                document = None
        return ServiceDocument(
            name=self._name,
            prefix=self._service.prefix,
            policies=self._policies,
            document=document,
            strip_prefix=self._service.strip_prefix,
            target_prefix=self._service.target_prefix,
            prefixes=self._service.prefixes,
            stale_since=iso(kept.stale_since) if kept is not None and kept.stale_since is not None else None,
            hidden_paths=self._hidden,
            hidden=not self.is_shown,
            has_document=self.has_document,
            internal_paths=tuple(path for path in (self._service.openapi_path, self._service.health.path) if path),
            drift_ignore=self._service.drift_ignore,
        )
