"""`flask quota`: what a caller has used of each limit, and giving it back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from gateway.cli.addresses import ADDRESS
from gateway.cli.claims import claim_of
from gateway.cli.issuers import issuer_named
from gateway.cli.redis import shared_redis
from gateway.cli.table import print_table
from gateway.config import Settings
from gateway.proxy.forwarding_headers import rate_limit_address
from gateway.rate_limiting.limit_sets import Caller, LimitSets, NamedLimit
from gateway.rate_limiting.models import LimitCheck
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.route_policy import policies_of
from gateway.tokens.principal import Principal

NOT_GIVEN_BACK = "not given back"


@dataclass(frozen=True)
class Counted:
    """One counter of the caller's: its limit, and where it is kept."""

    limit: NamedLimit
    check: LimitCheck
    partition_key: str


def quota_command(settings: Settings) -> click.Command:
    @click.command("quota")
    @click.argument("subject", required=False)
    @click.option("--issuer", help="Whose subject it is, where there are several issuers.")
    @click.option(
        "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="A claim that limits go by: a plan, say."
    )
    @click.option(
        "--address", type=ADDRESS, help="Without SUBJECT: a client without a token. Else where it calls from."
    )
    @click.option("--reset", is_flag=True, help="Give back what has been used.")
    def quota(
        subject: str | None, issuer: str | None, claims: tuple[str, ...], address: str | None, reset: bool
    ) -> None:
        """Show what SUBJECT has used of each limit that holds for it."""
        if not subject and not address:
            raise click.UsageError("give a SUBJECT or an --address")
        if not subject and (issuer or claims):
            raise click.UsageError("--issuer and --claim go with a SUBJECT")
        if not settings.ratelimit.enabled:
            raise click.ClickException("ratelimit.enabled = false: no gateway counts")
        principal = principal_of(settings, subject, issuer, claims) if subject else None
        with shared_redis(settings) as redis:
            counters = RedisCounters(redis)
            rows = [("LIMIT", "WHAT", "COUNTED BY", "USED", "OF", "RESET IN")]
            for one in counted_for(settings, principal, rate_limit_address(address) if address else ""):
                (result,) = counters.consume([one.check], dry_run=True, partition_key=one.partition_key)
                used, note = result.capacity - result.remaining, ""
                if reset and used:
                    note = give_back(counters, one, used)
                rows.append(
                    (
                        one.limit.name,
                        one.limit.spec.text,
                        "+".join(one.limit.spec.by),
                        str(used),
                        str(result.capacity),
                        note or (f"{math.ceil(result.reset_seconds)} s" if used else "-"),
                    )
                )
        print_table(rows)
        if any(row[-1] == NOT_GIVEN_BACK for row in rows):
            raise click.ClickException("Redis still has counters that were to be given back")

    return quota


def principal_of(settings: Settings, subject: str, issuer: str | None, claims: Sequence[str]) -> Principal:
    """The caller whose tokens have these claims. Raises UsageError, BadParameter."""
    told: dict[str, Any] = {"sub": subject} | dict(claim_of(text) for text in claims)
    name = issuer_named(settings, issuer).issuer or ""
    return Principal(subject, name, None, None, frozenset(), math.inf, told, ())


def give_back(counters: RedisCounters, one: Counted, used: int) -> str:
    """What became of the counter, by reading it again."""
    if not {"principal", "address"} & set(one.limit.spec.by):
        return "shared with others, left"
    counters.clear(one.check.key, one.partition_key)
    (result,) = counters.consume([one.check], dry_run=True, partition_key=one.partition_key)
    # The caller may have called again in between.
    return "given back" if result.capacity - result.remaining < used else NOT_GIVEN_BACK


def counted_for(settings: Settings, principal: Principal | None, address: str) -> Iterator[Counted]:
    """Each counter that a request of this caller could take from, once."""
    policies = list(policies_of(settings))
    quotas = LimitSets(settings.ratelimit, policies)
    seen: set[str] = set()
    for policy in policies:
        counted = None if policy.rate_limit.by_address else principal
        if counted is None and not address:
            continue
        caller = Caller(counted, address, (), policy.service, policy.name)
        limit_set = quotas.limit_set_for(policy, counted)
        checks: Sequence[LimitCheck] = limit_set.checks_for(caller, 1)
        for limit, check in zip(limit_set.limits, checks, strict=True):
            if check.key not in seen:
                seen.add(check.key)
                yield Counted(limit, check, limit_set.partition_key(caller))
