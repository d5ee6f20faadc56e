"""The verb that measures: growth."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.shared import (
    CLEAN,
    ERROR,
    FINDINGS,
    PARTIAL,
    Instant,
    as_of_option,
    load_system,
    print_json,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from datetime import datetime


@click.command(short_help="Say how fast stores and tables grow, and what was expected.")
@system_argument
@click.option("--last", is_flag=True, help="Tell of the last measurement; read no database.")
@click.option("--before", type=Instant(), metavar="INSTANT", help="Also compare with the measurement of this instant.")
@as_of_option
@click.option("--fail-on-findings", is_flag=True, help="Exit with 1 if a store grows too fast or is above its limit.")
@verb
def growth(
    name: str, last: bool, before: datetime | None, as_of: datetime | None, fail_on_findings: bool, as_json: bool
) -> int:
    """Measure SYSTEM: objects and bytes of its stores, rows and bytes of its tables, how that changed, what is new.

    Stores are told from their recorded listings, which `maintain report` makes; the database is read. Changes neither.
    Exits with 1 where a store or the database could not be told, with 2 where nothing could.

    \b
      maintain growth shop
      maintain growth shop --last --json
      maintain growth shop --before 2025-12-05T00:00:00Z
    """
    from maintenance_defs.growth.measure import measure
    from maintenance_defs.reporting.growth_facts import growth_facts, last_measurement
    from maintenance_defs.reporting.growth_text import growth_text

    if last and as_of is not None:
        raise click.UsageError("--last tells of a measurement that is done; it takes no --as-of")
    system = load_system(name).system
    with working_home(serve=not last) as home:
        found = last_measurement(system, home) if last else measure(system, home, run_id=uuid.uuid4().hex, as_of=as_of)
        facts = growth_facts(system, home, found, before)
    print_json(facts) if as_json else click.echo(growth_text(facts), nl=False)
    return _exit_code(facts, fail_on_findings)


def _exit_code(facts: dict[str, Any], fail_on_findings: bool) -> int:
    known = [store for store in facts["stores"] if store["verdict"] == "complete"]
    if len(known) < len(facts["stores"]) or facts["verdict"] != "complete":
        return PARTIAL if known or facts["verdict"] == "complete" else ERROR
    bad = any(store["level"] in ("warn", "fail") or store["days_to_limit"] == 0 for store in known)
    return FINDINGS if bad and fail_on_findings else CLEAN
