"""The whole explanation of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import SecretStr

from gateway.config import Settings
from gateway.explain.dry_run import DryRun, DryRunResult
from gateway.explain.findings import Case, Finding, all_findings
from gateway.explain.header_diff import Difference, difference, shown
from gateway.explain.simulated_request import MessageRefused, SimulatedRequest, received
from gateway.explain.token_findings import authorization_finding, revocation_finding, token_finding
from gateway.http_fields import HeaderPairs

WORKERS_OWN = "breakers, health and requests in flight are each worker's own and can't be seen from here"


@dataclass(frozen=True)
class ToTarget:
    """What one of the targets would get: the request line, the header's fields, and how they differ from the
    client's."""

    url: str
    request_line: str
    fields: HeaderPairs
    difference: Difference


@dataclass(frozen=True)
class Explanation:
    """`status` is the gateway's own answer's, None where the request would be forwarded; `answer` has the fields that
    the gateway would put onto the answer."""

    method: str
    target: str
    stages: list[Finding]
    outcome: str
    status: int | None
    code: str | None
    detail: str
    targets: list[ToTarget] = field(default_factory=list)
    answer: HeaderPairs = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        return self.status is not None and self.status >= 400

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


def explain(
    settings: Settings, asked: SimulatedRequest, private_redis: str | None, patience_seconds: float
) -> Explanation:
    """What would happen to the request, with `private_redis` where no Redis is configured; it is waited for so long.

    Raises ConfigurationError."""
    note = ""
    changes: dict[str, Any] = {"redis_timeout_seconds": patience_seconds}
    if settings.redis_url is None and private_redis is not None:
        changes["redis_url"] = SecretStr(private_redis)
        note = "the private one of the gateway that runs here"
    elif settings.redis_url is None:
        addresses = ", ".join(settings.server.addresses)
        note = f"no gateway with a private Redis listens at {addresses}: nothing is counted or revoked yet"
        # What would be the private Redis' to count is not divided among workers.
        changes["server"] = settings.server.model_copy(update={"workers": 1})
    trial = DryRun(settings.model_copy(update=changes))
    try:
        with received(asked) as environ:
            course = trial.run(environ)
    except MessageRefused as refused:
        stage = Finding("message", "refused", f"the server's parser does not take it: {refused.kind}")
        return Explanation(
            asked.method,
            asked.target,
            [stage],
            f"{refused.problem.status} {refused.problem.code}",
            refused.problem.status,
            refused.problem.code,
            refused.kind,
        )
    case = Case(settings, asked, course, note)
    stages = all_findings(case, [token_finding(case), revocation_finding(case), authorization_finding(case)])
    outcome, status, code = outcome_of(course)
    return Explanation(
        asked.method,
        asked.target,
        [Finding("message", "ok", "the server's parser takes it"), *stages],
        outcome,
        status,
        code,
        str((course.problem or {}).get("detail", "")),
        targets_of(course, asked.written_fields) if course.is_sent else [],
        [(name, shown(name, value)) for name, value in course.answer if is_telling(name, course)],
        [*dict.fromkeys(course.notes)] + ([WORKERS_OWN] if course.is_sent else []),
    )


def outcome_of(course: DryRunResult) -> tuple[str, int | None, str | None]:
    if course.is_sent:
        urls = [sending.url for sending in course.sendings]
        return f"would be forwarded to {' or '.join(urls)}", None, None
    code = next((value for name, value in course.answer if name == "X-Gateway-Error"), None)
    if code is not None:
        return f"{course.status} {code}", course.status, code
    what = " (a preflight)" if course.stopped_at == "preflight" else ""
    return f"{course.status}, answered by the gateway itself{what}", course.status, None


def targets_of(course: DryRunResult, client_fields: Sequence[tuple[str, str]]) -> list[ToTarget]:
    return [
        ToTarget(
            one.url,
            one.line,
            [(name, shown(name, value)) for name, value in one.fields],
            difference(client_fields, one.fields),
        )
        for one in course.sendings
    ]


def is_telling(name: str, course: DryRunResult) -> bool:
    """Whether the field is the gateway's to put onto any answer, or this answer is all the gateway's."""
    return not course.is_sent or name.lower() not in ("content-type", "content-length")
