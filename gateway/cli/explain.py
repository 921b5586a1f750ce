"""`flask explain`: what would happen to a request, stage by stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.addresses import ADDRESS
from gateway.cli.redis import PATIENCE_SECONDS
from gateway.cli.table import printable
from gateway.config import Settings
from gateway.config.load import instance_folder
from gateway.redis.embedded import noted_url_of

if TYPE_CHECKING:
    from gateway.explain.explanation import Explanation, ToTarget

INDENT = " " * 4


def explain_command(settings: Settings) -> click.Command:
    @click.command("explain")
    @click.argument("method")
    @click.argument("url")
    @click.option("--token", help="The bearer token; - reads it from standard input.")
    @click.option("--origin", help="The Origin of the page that asks.")
    @click.option(
        "--address", type=ADDRESS, default="127.0.0.1", show_default=True, help="Where the connection comes from."
    )
    @click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A further header field.")
    @click.option("--body-bytes", type=click.IntRange(0), help="The length of its body.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    def explain(
        method: str,
        url: str,
        token: str | None,
        origin: str | None,
        address: str,
        headers: tuple[str, ...],
        body_bytes: int | None,
        as_json: bool,
    ) -> None:
        """Tell what would happen to a request for URL (or a path), stage by stage. Nothing is sent to a service, and no
        quota is taken. Exit code 1: it would be refused."""
        # Only this command needs them, and they take their time.
        from gateway.explain.explanation import explain as explained  # noqa: PLC0415
        from gateway.explain.simulated_request import question  # noqa: PLC0415

        fields = [field_of(text) for text in headers]
        if origin is not None:
            fields.append(("Origin", origin))
        if token is not None:
            token = sys.stdin.read().strip() if token == "-" else token  # noqa: S105 - a word for standard input
            fields.append(("Authorization", f"Bearer {token}"))
        asked = question(method, url, fields, body_bytes, address, settings.server.addresses[0])
        for text in (asked.method, asked.target, *(part for field in asked.fields for part in field)):
            if "\r" in text or "\n" in text:
                # Not quoted: it may be the token.
                raise click.UsageError("method, URL, token and header fields are one line each")
        private_redis = noted_url_of(settings.server.addresses, instance_folder())
        found = explained(settings, asked, private_redis, PATIENCE_SECONDS)
        if as_json:
            click.echo(json.dumps(found.as_document(), indent=2))
        else:
            for line in lines_of(found):
                click.echo(printable(line))
        sys.exit(1 if found.is_refused else 0)

    return explain


def field_of(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator:
        # Not quoted: it may be a secret.
        raise click.BadParameter("must be NAME:VALUE", param_hint="--header")
    return name, value.strip(" \t")


def lines_of(found: Explanation) -> Iterator[str]:
    stages = max(len(stage.stage) for stage in found.stages)
    verdicts = max(len(stage.verdict) for stage in found.stages)
    for stage in found.stages:
        yield f"{stage.stage:{stages}}  {stage.verdict:{verdicts}}  {stage.why}".rstrip()
        for name, value in stage.facts.items():
            yield from fact_lines(name, value)
    for index, target in enumerate(found.targets):
        yield ""
        # Of several targets only the first one's header is shown whole: the others' differ in the host.
        yield from target_lines(target, is_first=not index)
    if found.answer:
        yield ""
        yield "onto the answer" if found.targets else "the answer"
        yield from (f"{INDENT}{name}: {value}" for name, value in found.answer)
    yield from (f"note: {note}" for note in found.notes)
    yield ""
    yield f"=> {found.outcome}" + (f": {found.detail}" if found.detail else "")


def fact_lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        for one in value:
            yield f"{INDENT}{name}: " + ", ".join(f"{key} {text_of(item)}" for key, item in one.items())
    else:
        yield f"{INDENT}{name}: {text_of(value)}"


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "-"
    return str(value)


def target_lines(target: ToTarget, *, is_first: bool) -> Iterator[str]:
    yield f"to {target.url}"
    yield f"{INDENT}{target.request_line}"
    if not is_first:
        return
    found = target.difference
    yield from (f"{INDENT}+ {name}: {value}" for name, value in found.added)
    yield from (f"{INDENT}~ {name}: {before} -> {after}" for name, before, after in found.changed)
    yield from (f"{INDENT}- {name}: {value}" for name, value in found.removed)
    if found.unchanged:
        yield f"{INDENT}= {', '.join(found.unchanged)}"
