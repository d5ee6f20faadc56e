"""The verbs of quarantine: restore, purge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.shared import (
    CLEAN,
    PARTIAL,
    SHORT,
    actor_option,
    confirm_count,
    find_plan,
    load_system,
    person,
    print_json,
    reason_option,
    system_argument,
    units_bar,
    verb,
    why,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.retention.purge import Purge
    from maintenance_defs.retention.restore import Undone

SHOWN = 10


@click.command(short_help="Give back what a plan took, or what lay under one key.")
@system_argument
@click.argument("prefix", metavar="[PLAN]", required=False)
@click.option("--key", help="What was taken from under this key, by whatever plan.")
@click.option("--store", help="The store of KEY, where the system has several.")
@reason_option
@actor_option
@verb
def restore(
    name: str,
    prefix: str | None,
    key: str | None,
    store: str | None,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Give back everything that PLAN took from SYSTEM, or what was taken from under --key. Overwrites nothing.

    Objects come back before rows. Where something else is in the place by now, that stays, it is said so, and what
    was taken stays in quarantine; exits with 1 then.
    """
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.retention.restore import restore as give_back

    if (prefix is None) == (key is None):
        raise click.UsageError("name a PLAN or a --key")
    system = load_system(name).system
    if store is not None and store not in system.stores:
        raise click.BadParameter(f"{store!r}. Known: {', '.join(system.stores)}.", param_hint="--store")
    with working_home() as home:
        found = find_plan(home, prefix) if prefix is not None else None
        if found is not None and found.system != system.name:
            raise Refused("wrong_system", f"plan {prefix} is of {found.system}. Nothing was restored.")
        with units_bar(f"restoring {system.name}", _entries(home, system.name, found), shown=not as_json) as done:
            undone = give_back(
                system, home, actor=person(actor), reason=(reason or "").strip() or "restored by hand",
                plan_id=found.id if found else None, key=key, store=store, progress=done,
            )  # fmt: skip
    return _tell(system.name, undone, as_json)


def _entries(home: Home, system: str, plan: PlanRow | None) -> int:
    return 1 if plan is None else sum(1 for _ in home.control.retention.quarantined(system, plan_id=plan.id))


def _tell(system: str, undone: Undone, as_json: bool) -> int:
    from maintenance_defs.reporting.retention_text import undone_lines

    problems = [{"what": what, "why": reason} for what, reason in undone.problems]
    facts: dict[str, Any] = {"system": system, "outcomes": undone.counts, "problems": problems}
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(undone_lines(system, facts)))
    return PARTIAL if undone.problems else CLEAN


@click.command(short_help="Remove for good what was in quarantine long enough.")
@system_argument
@click.option("--plan", "prefix", metavar="PLAN", help="Only what this plan took.")
@click.option("--count", type=click.IntRange(min=0), help="The number of objects, repeated, where nobody can type it.")
@reason_option
@actor_option
@verb
def purge(
    name: str, prefix: str | None, count: int | None, reason: str | None, actor: str | None, as_json: bool
) -> int:
    """Show what of SYSTEM was in quarantine long enough, and remove it for good after its number was repeated.

    The database is asked again first: what a row refers to by now stays, and its restoring is proposed.
    """
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.retention.purge import due_for_purge, purge_entries
    from maintenance_defs.stores.acting import Done

    system = load_system(name).system
    with working_home() as home:
        found = find_plan(home, prefix) if prefix is not None else None
        if found is not None and found.system != system.name:
            raise Refused("wrong_system", f"plan {prefix} is of {found.system}. Nothing was removed.")
        due = due_for_purge(system, home, at=datetime.now(UTC), plan_id=found.id if found else None)
        if not as_json:
            _show(system.name, due)
        if not due.due:
            if as_json:
                print_json(_facts(system.name, due) | {"outcomes": {}, "problems": []})
            return CLEAN
        confirm_count(due.objects, count, f"maintain purge {name} --count N --reason '...'")
        who, reason = person(actor), why(reason)
        agreed = {(entry.plan_id, entry.seq) for entry in due.due}
        # A person takes a while to answer: what a row names by now stays.
        now = due_for_purge(system, home, at=datetime.now(UTC), plan_id=found.id if found else None)
        entries = [entry for entry in now.due if (entry.plan_id, entry.seq) in agreed]
        with units_bar(f"purging {system.name}", len(entries), shown=not as_json) as done:
            undone = purge_entries(system, home, entries, actor=who, reason=reason, progress=done)
        for entry, needed in now.needed:
            if (entry.plan_id, entry.seq) in agreed:
                undone.add(entry.key or "", Done(entry.key or "", "skipped_referenced", needed))
    if not as_json:
        return _tell(system.name, undone, as_json)
    problems = [{"what": what, "why": reason} for what, reason in undone.problems]
    print_json(_facts(system.name, due) | {"outcomes": undone.counts, "problems": problems})
    return PARTIAL if undone.problems else CLEAN


def _facts(system: str, due: Purge) -> dict[str, Any]:
    needed = [{"store": entry.store, "key": entry.key, "why": reason} for entry, reason in due.needed]
    return {"system": system, "due": due.objects, "size_bytes": due.size_bytes, "needed_again": needed}


def _show(system: str, due: Purge) -> None:
    from maintenance_defs.core.quantities import format_instant, format_size
    from maintenance_defs.reporting.text import count, shown

    if not due.due:
        click.echo(f"Nothing of {system} was in quarantine long enough.")
    else:
        click.echo(f"For good: {count(due.objects, 'object')} ({format_size(due.size_bytes)}). There is no way back.")
        for entry in due.due[:SHOWN]:
            taken = format_instant(entry.removed_at.replace(microsecond=0))
            click.echo(f"  {entry.store}: {shown(entry.key or '')}, taken {taken} by {entry.policy}")
        if due.objects > SHOWN:
            click.echo(f"  and {due.objects - SHOWN:,} more")
    if due.needed:
        click.echo(f"NEEDED AGAIN, so they stay: {count(len(due.needed), 'object')}.")
        for entry, reason in due.needed[:SHOWN]:
            click.echo(f"  {entry.store}: {shown(entry.key or '')} ({shown(reason)})")
            click.echo(
                f"    maintain restore {system} --key '{shown(entry.key or '')}'   (plan {entry.plan_id[:SHORT]})"
            )
