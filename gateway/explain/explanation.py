"""The explanation of a request: the finding of each stage, and what the client or the service would receive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import SecretStr

from gateway.config import Settings
from gateway.explain.dry_run import BuildApp, DryRun, DryRunResult
from gateway.explain.findings import (
    Case,
    Finding,
    body_finding,
    client_finding,
    cors_finding,
    document_finding,
    host_finding,
    operators_finding,
    path_finding,
    rate_limit_finding,
    request_id_finding,
    route_finding,
)
from gateway.explain.header_diff import HeaderDiff, header_diff, redacted
from gateway.explain.simulated_request import RejectedByParser, SimulatedRequest, parsed
from gateway.explain.token_findings import authorization_finding, revocation_finding, token_finding
from gateway.http_fields import HeaderPairs

# The functions that make the findings, in the order of the stages.
FINDINGS = (
    request_id_finding,
    client_finding,
    host_finding,
    cors_finding,
    path_finding,
    route_finding,
    token_finding,
    rate_limit_finding,
    revocation_finding,
    operators_finding,
    authorization_finding,
    document_finding,
    body_finding,
)
STATE_OF_WORKERS = "breakers, health and requests in flight belong to each worker and are not visible from here"


@dataclass(frozen=True)
class ForwardedRequest:
    """What one target would receive: the request line, the headers, and how these differ from the client's."""

    url: str
    request_line: str
    headers: HeaderPairs
    header_diff: HeaderDiff


@dataclass(frozen=True)
class Explanation:
    """What `flask explain` shows. `status` and `code` are those of the gateway's own response; `status` is None if the
    request would be forwarded, `code` is None then and if the response is not a problem document. `response_headers`
    are the headers of the gateway's own response, or those that it would add to the service's response."""

    method: str
    target: str
    stages: list[Finding]
    outcome: str
    status: int | None
    code: str | None
    detail: str
    targets: list[ForwardedRequest] = field(default_factory=list)
    response_headers: HeaderPairs = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        return self.status is not None and self.status >= 400

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


def explain(
    settings: Settings,
    build_app: BuildApp,
    simulated: SimulatedRequest,
    private_redis: str | None,
    redis_timeout_seconds: float,
) -> Explanation:
    """Runs the gateway that `build_app` makes of the settings on the simulated request. `private_redis` is the URL that
    is used if no Redis is configured; None if no gateway with a private Redis runs on this machine.

    Raises ConfigurationError."""
    settings, redis_note = with_redis(settings, private_redis, redis_timeout_seconds)
    dry_run = DryRun(settings, build_app)
    try:
        with parsed(simulated) as environ:
            result = dry_run.run(environ)
    except RejectedByParser as rejected:
        return explanation_of_rejected(simulated, rejected)
    case = Case(settings, simulated, result, redis_note)
    findings = [found for find in FINDINGS if (found := find(case)) is not None]
    outcome, status, code = outcome_of(result)
    return Explanation(
        simulated.method,
        simulated.target,
        [Finding("message", "ok", "the server's parser accepts the request"), *findings],
        outcome,
        status,
        code,
        str((result.problem or {}).get("detail", "")),
        forwarded_requests(result, simulated.latin1_headers) if result.would_forward else [],
        [(name, redacted(name, value)) for name, value in result.response_headers if is_from_gateway(name, result)],
        [*dict.fromkeys(result.log_lines)] + ([STATE_OF_WORKERS] if result.would_forward else []),
    )


def with_redis(settings: Settings, private_redis: str | None, timeout_seconds: float) -> tuple[Settings, str]:
    """The settings, changed to use the Redis that the dry run reads, and a note on which Redis that is. The note is
    empty if it is the configured Redis."""
    changes: dict[str, Any] = {"redis_timeout_seconds": timeout_seconds}
    note = ""
    if settings.redis_url is None and private_redis is not None:
        changes["redis_url"] = SecretStr(private_redis)
        note = "the private Redis of the gateway on this machine"
    elif settings.redis_url is None:
        addresses = ", ".join(settings.server.addresses)
        note = f"no gateway with a private Redis listens at {addresses}"
        # With one worker, the dry run does not divide limits among workers. Neither would a gateway that is started
        # now, because its private Redis would count for all workers.
        changes["server"] = settings.server.model_copy(update={"workers": 1})
    return settings.model_copy(update=changes), note


def explanation_of_rejected(simulated: SimulatedRequest, rejected: RejectedByParser) -> Explanation:
    status, code = rejected.problem.status, rejected.problem.code
    finding = Finding("message", "refused", f"the server's parser rejects the request: {rejected.reason}")
    return Explanation(simulated.method, simulated.target, [finding], f"{status} {code}", status, code, rejected.reason)


def outcome_of(result: DryRunResult) -> tuple[str, int | None, str | None]:
    """The outcome in words, and the status and the problem code of the gateway's own response."""
    if result.would_forward:
        urls = [request.url for request in result.upstream_requests]
        return f"would be forwarded to {' or '.join(urls)}", None, None
    code = next((value for name, value in result.response_headers if name == "X-Gateway-Error"), None)
    if code is not None:
        return f"{result.status} {code}", result.status, code
    preflight = " to a preflight" if result.stopped_at == "preflight" else ""
    return f"{result.status}, the gateway's own response{preflight}", result.status, None


def forwarded_requests(result: DryRunResult, client_headers: Sequence[tuple[str, str]]) -> list[ForwardedRequest]:
    return [
        ForwardedRequest(
            request.url,
            request.line,
            [(name, redacted(name, value)) for name, value in request.headers],
            header_diff(client_headers, request.headers),
        )
        for request in result.upstream_requests
    ]


def is_from_gateway(name: str, result: DryRunResult) -> bool:
    """Whether the gateway sets this header. If the request would be forwarded, the response of the dry run is an empty
    one in place of the service's, so its Content-Type and Content-Length mean nothing."""
    return not result.would_forward or name.lower() not in ("content-type", "content-length")
