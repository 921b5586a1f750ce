"""`flask quota`: shows what a caller has used of each limit, and resets it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from gateway.cli.issuers import issuer_named
from gateway.cli.output import print_table
from gateway.cli.parameter_types import address, claim_option
from gateway.cli.redis import shared_redis
from gateway.config import Settings
from gateway.proxy.trusted_proxies import rate_limit_address
from gateway.rate_limiting.limit_sets import Caller, LimitSets, NamedLimit
from gateway.rate_limiting.models import LimitCheck
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.route_policy import policies_of
from gateway.tokens.principal import Principal

NOT_RESET = "not reset"


@dataclass(frozen=True)
class Counter:
    """A counter of the caller: the limit that it belongs to, the check that reads it, and its partition in Redis."""

    limit: NamedLimit
    check: LimitCheck
    partition_key: str


def quota_command(settings: Settings) -> click.Command:
    @click.command("quota")
    @click.argument("subject", required=False)
    @click.option("--issuer", help="The issuer of SUBJECT, if several are configured.")
    @claim_option("A claim in SUBJECT's tokens that a limit depends on, such as the plan.")
    @click.option(
        "--address",
        type=address,
        help="Without SUBJECT: a client without a token. Else the client's address.",
    )
    @click.option("--reset", is_flag=True, help="Reset what has been used.")
    def quota(
        subject: str | None, issuer: str | None, claims: tuple[tuple[str, Any], ...], address: str | None, reset: bool
    ) -> None:
        """Show what SUBJECT has used of each limit that applies to it."""
        if not subject and not address:
            raise click.UsageError("give SUBJECT or --address")
        if not subject and (issuer or claims):
            raise click.UsageError("--issuer and --claim need a SUBJECT")
        if not settings.ratelimit.enabled:
            raise click.ClickException("ratelimit.enabled = false: gateways count nothing")
        principal = principal_of(settings, subject, issuer, dict(claims)) if subject else None
        rows = [("LIMIT", "WHAT", "COUNTED BY", "USED", "OF", "RESET IN")]
        with shared_redis(settings) as redis:
            counters = RedisCounters(redis)
            for counter in counters_of(settings, principal, rate_limit_address(address) if address else ""):
                (result,) = counters.consume([counter.check], dry_run=True, partition_key=counter.partition_key)
                used = result.capacity - result.remaining
                resets_in = f"{math.ceil(result.reset_seconds)} s" if used else "-"
                rows.append(
                    (
                        counter.limit.name,
                        counter.limit.spec.text,
                        "+".join(counter.limit.spec.by),
                        str(used),
                        str(result.capacity),
                        reset_counter(counters, counter, used) if reset and used else resets_in,
                    )
                )
        print_table(rows)
        if any(row[-1] == NOT_RESET for row in rows):
            raise click.ClickException("Redis still has counters that should have been reset: run the command again")

    return quota


def principal_of(settings: Settings, subject: str, issuer: str | None, claims: dict[str, Any]) -> Principal:
    """The principal of a token with these claims. Raises UsageError, BadParameter."""
    name = issuer_named(settings, issuer).issuer or ""
    return Principal(subject, name, None, None, frozenset(), math.inf, {"sub": subject} | claims, ())


def reset_counter(counters: RedisCounters, counter: Counter, used: int) -> str:
    """Resets the counter unless other callers share it, and reads it again. Returns what was done."""
    if not {"principal", "address"} & set(counter.limit.spec.by):
        return "shared with others, not reset"
    counters.clear(counter.check.key, counter.partition_key)
    (result,) = counters.consume([counter.check], dry_run=True, partition_key=counter.partition_key)
    # Compared with `used`, not with 0, because the caller may have sent requests in between.
    return "reset" if result.capacity - result.remaining < used else NOT_RESET


def counters_of(settings: Settings, principal: Principal | None, address: str) -> Iterator[Counter]:
    """Each counter that a request of this caller could be charged to, once."""
    policies = list(policies_of(settings))
    limit_sets = LimitSets(settings.ratelimit, policies)
    seen: set[str] = set()
    for policy in policies:
        counted_principal = None if policy.rate_limit.by_address else principal
        if counted_principal is None and not address:
            continue
        caller = Caller(counted_principal, address, (), policy.service, policy.name)
        limit_set = limit_sets.limit_set_for(policy, counted_principal)
        checks: Sequence[LimitCheck] = limit_set.checks_for(caller, 1)
        for limit, check in zip(limit_set.limits, checks, strict=True):
            if check.key not in seen:
                seen.add(check.key)
                yield Counter(limit, check, limit_set.partition_key(caller))
