"""`flask explain`: shows what would happen to a request, stage by stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import printable
from gateway.cli.parameter_types import address, header_field
from gateway.cli.redis import TIMEOUT_SECONDS
from gateway.config import Settings
from gateway.config.load import instance_folder
from gateway.redis.private_server import find_private_redis

if TYPE_CHECKING:
    from gateway.explain.dry_run import BuildApp
    from gateway.explain.explanation import Explanation, ForwardedRequest

INDENT = " " * 4


def explain_command(settings: Settings, build_app: BuildApp) -> click.Command:
    @click.command("explain")
    @click.argument("method")
    @click.argument("url")
    @click.option("--token", help="The bearer token; - reads it from standard input.")
    @click.option("--origin", help="The Origin of the page that sends the request.")
    @click.option(
        "--address", type=address, default="127.0.0.1", show_default=True, help="The client's end of the connection."
    )
    @click.option(
        "-H", "--header", "headers", type=header_field, multiple=True, metavar="NAME:VALUE", help="A further header."
    )
    @click.option("--body-bytes", type=click.IntRange(0), help="The length of the body.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    def explain(
        method: str,
        url: str,
        token: str | None,
        origin: str | None,
        address: str,
        headers: tuple[tuple[str, str], ...],
        body_bytes: int | None,
        as_json: bool,
    ) -> None:
        """Show what would happen to a request for URL (or a path), stage by stage. Nothing is sent to a service, and
        nothing is counted.

        Exit code 0: the request would be forwarded, or the gateway itself would respond; 1: it would be refused."""
        # Imported here because no other command needs these modules, which take long to import.
        from gateway.explain import explanation  # noqa: PLC0415
        from gateway.explain.simulated_request import SimulatedRequest  # noqa: PLC0415

        sent_headers = list(headers)
        if origin is not None:
            sent_headers.append(("Origin", origin))
        if token is not None:
            token = sys.stdin.read().strip() if token == "-" else token  # noqa: S105 - stands for standard input
            sent_headers.append(("Authorization", f"Bearer {token}"))
        simulated = SimulatedRequest.to_url(
            method, url, sent_headers, body_bytes, address, settings.server.addresses[0]
        )
        for text in (simulated.method, simulated.target, *(part for header in simulated.headers for part in header)):
            if "\r" in text or "\n" in text:
                # The text is not quoted, because it may be the token.
                raise click.UsageError("method, URL, token and headers must not have line breaks")
        private_redis = find_private_redis(settings.server.addresses, instance_folder())
        found = explanation.explain(settings, build_app, simulated, private_redis, TIMEOUT_SECONDS)
        if as_json:
            click.echo(json.dumps(found.as_document(), indent=2))
        else:
            for line in format_explanation(found):
                click.echo(printable(line))
        sys.exit(1 if found.is_refused else 0)

    return explain


def format_explanation(found: Explanation) -> Iterator[str]:
    stage_width = max(len(stage.stage) for stage in found.stages)
    verdict_width = max(len(stage.verdict) for stage in found.stages)
    for stage in found.stages:
        yield f"{stage.stage:{stage_width}}  {stage.verdict:{verdict_width}}  {stage.reason}".rstrip()
        for name, value in stage.facts.items():
            yield from (f"{INDENT}{line}" for line in format_fact(name, value))
    for index, target in enumerate(found.targets):
        yield ""
        # Headers are shown for the first target only: those for the other targets differ only in Host.
        yield from format_target(target, with_header=index == 0)
    if found.response_headers:
        yield ""
        yield "added to the response" if found.targets else "response"
        yield from (f"{INDENT}{name}: {value}" for name, value in found.response_headers)
    yield from (f"note: {note}" for note in found.notes)
    yield ""
    yield f"=> {found.outcome}" + (f": {found.detail}" if found.detail else "")


def format_fact(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{name}: {value}"
    elif value and isinstance(value[0], Mapping):
        yield from map(format_limit, value)
    else:
        yield f"{name}: {'; '.join(value) or '-'}"


def format_limit(limit: Mapping[str, Any]) -> str:
    return (
        f"limit {limit['name']}: {limit['limit']}, used {limit['used']} of {limit['capacity']}, cost {limit['cost']}, "
        f"resets in {limit['reset_seconds']} s{'' if limit['passes'] else ', exceeded'}"
    )


def format_target(target: ForwardedRequest, *, with_header: bool) -> Iterator[str]:
    yield f"to {target.url}"
    yield f"{INDENT}{target.request_line}"
    if not with_header:
        return
    diff = target.header_diff
    yield from (f"{INDENT}+ {name}: {value}" for name, value in diff.added)
    yield from (f"{INDENT}~ {name}: {before} -> {after}" for name, before, after in diff.changed)
    yield from (f"{INDENT}- {name}: {value}" for name, value in diff.removed)
    if diff.unchanged:
        yield f"{INDENT}= {', '.join(diff.unchanged)}"
