"""Fetches and parses each service's document, and makes the input of the merge from it."""

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
    """One source per service, in the order of the configuration, including services without a document. Raises
    ConfigurationError for invalid certificates."""
    docs = settings.docs
    return {
        name: ServiceSource(name, service, policies, docs.hidden, docs.max_bytes)
        for name, service in settings.services.items()
    }


class ServiceSource:
    """The source of one service's document. `policies` are those of all services. Raises ConfigurationError for invalid
    certificates."""

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
        # A service with several prefixes has each policy once per prefix. The document describes the operations below
        # only one of the prefixes, so the policies of the others are left out.
        self._policies = tuple(one for one in own if one.prefix.client_prefix == one.prefix.document_prefix)
        self._hidden = hidden
        self._fetcher = service_fetcher(name, service, service.openapi_path, max_bytes)
        identity = json.dumps([name, *service.targets, service.host, service.openapi_path, max_bytes])
        # Identifies the source in Redis, with all settings that its document depends on.
        self.key = f"{name}:{sha256(identity.encode()).hexdigest()[:16]}"
        self._last_parsed: tuple[bytes, dict[str, Any]] | None = None

    def fetch(self, headers: Mapping[str, str]) -> Document:
        """Requests the document with these headers. Raises FetchError."""
        return self._fetcher.fetch(headers)

    def check(self, content: bytes) -> None:
        """Raises FetchError if the content is not a document that can be merged."""
        try:
            self.parsed(content)
        except DocumentError as error:
            raise FetchError(f"not a document that can be merged: {error}") from error

    def parsed(self, content: bytes) -> dict[str, Any]:
        """The parsed document; parses the same content only once. Raises DocumentError."""
        if self._last_parsed is None or self._last_parsed[0] != content:
            self._last_parsed = content, run_in_native_thread(lambda: parse_document(content, self.max_bytes))
        return self._last_parsed[1]

    def service_document(self, state: DocumentState | None, content: bytes | None) -> ServiceDocument:
        """The service as an input of the merge."""
        document = None
        if content is not None:
            try:
                document = self.parsed(content)
            except DocumentError:
                # Another version of the gateway stored the document in Redis; that version could parse it.
                document = None
        return ServiceDocument(
            name=self._name,
            prefix=self._service.prefix,
            policies=self._policies,
            document=document,
            strip_prefix=self._service.strip_prefix,
            target_prefix=self._service.target_prefix,
            prefixes=self._service.prefixes,
            stale_since=iso(state.stale_since) if state is not None and state.stale_since is not None else None,
            hidden_paths=self._hidden,
            hidden=not self.is_shown,
            has_document=self.has_document,
            internal_paths=tuple(path for path in (self._service.openapi_path, self._service.health.path) if path),
            drift_ignore=self._service.drift_ignore,
        )
