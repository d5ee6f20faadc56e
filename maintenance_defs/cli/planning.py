"""The verb that says what would go: plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.kinds import check_name, enabled_names, opened, plan_facts, plan_lines, take_plan
from maintenance_defs.cli.shared import (
    CLEAN,
    PARTIAL,
    REFUSED,
    as_of_option,
    find_plan,
    load_all,
    load_system,
    person,
    print_json,
    progress,
    reason_option,
    verb,
    why,
    working_home,
)

if TYPE_CHECKING:
    from datetime import datetime

    from maintenance_defs.control.home import Home
    from maintenance_defs.declarations import LoadedSystem

LISTED = 30


@click.command(short_help="Say what a policy or archive would remove or change, and why.")
@click.argument("name", metavar="SYSTEM|PLAN")
@click.argument("policy", metavar="[POLICY|ARCHIVE]", required=False)
@as_of_option
@click.option("--reconcile", "first", is_flag=True, help="Reconcile the system first.")
@click.option("--group", "groups", multiple=True, metavar="ID", help="Only this group of POLICY: a tracking id, a row.")
@click.option("--list", "listed", is_flag=True, help="List the system's plans, pauses, holds and burn-ins.")
@click.option("--export", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write PLAN's review file.")
@click.option("--cancel", is_flag=True, help="Withdraw PLAN: it will not be done (any more).")
@reason_option
@verb
def plan(
    name: str,
    policy: str | None,
    as_of: datetime | None,
    first: bool,
    groups: tuple[str, ...],
    listed: bool,
    target: Path | None,
    cancel: bool,
    reason: str | None,
    as_json: bool,
) -> int:
    """Plan what a policy or an archive of SYSTEM would do now; each enabled one, where none is named. Changes nothing.

    A policy rests on the last reconciliation, both on a fresh snapshot of the database. PLAN shows one again, by its
    id or digest.

    \b
      maintain plan shop --reconcile
      maintain plan shop old_uploads --json
      maintain plan shop old_uploads --group 4711
      maintain plan --list shop
      maintain plan --export review.csv 1f0c93ab
    """
    systems = load_all()
    is_plan = target is not None or cancel or (name not in systems and _looks_like_plan(name))
    if is_plan and (policy is not None or first or listed or groups or as_of is not None):
        raise click.UsageError("with a PLAN only --export, --cancel and --reason make sense")
    if is_plan:
        return _known_plan(systems, name, target, cancel, reason, as_json)
    loaded = load_system(name)
    if groups and (listed or policy not in loaded.system.retention):
        raise click.UsageError("--group belongs to one policy: maintain plan SYSTEM POLICY --group ID")
    if listed:
        return _list(loaded, policy, as_json)
    return _make(loaded, policy, as_of, first, groups, as_json)


def _looks_like_plan(name: str) -> bool:
    """Also one that was cut short: it is told so."""
    hexadecimal = all(sign in "0123456789abcdef" for sign in name.lower())
    return hexadecimal and (len(name) >= 8 or any(sign.isdigit() for sign in name))


def _known_plan(
    systems: dict[str, LoadedSystem], prefix: str, target: Path | None, cancel: bool, reason: str | None, as_json: bool
) -> int:
    from maintenance_defs.reporting.retention_facts import plan_summary
    from maintenance_defs.retention.review import write_review

    with working_home(serve=False) as home:
        found = find_plan(home, prefix)
        loaded = systems.get(found.system)
        if cancel:
            home.control.retention.cancel_plan(found.id, person(None), why(reason))
            found = home.control.retention.plan(found.id)
            print_json(plan_summary(found)) if as_json else click.echo(f"Plan {found.id[:8]} was withdrawn.")
            return CLEAN
        if target is not None:
            try:
                lines = write_review(home, found, target, opened(found, (loaded or load_system(found.system)).system))
            except OSError as error:
                raise click.FileError(str(target), error.strerror or "it could not be written") from None
            if as_json:
                print_json({"plan": found.id, "file": str(target), "lines": lines})
            else:
                click.echo(f"{lines:,} lines written to {target}. Write delete, keep or ignore into each, then:")
                click.echo(f"  maintain approve {found.id[:8]} --only {target} --count N --reason '...'")
            return CLEAN
        facts = plan_facts(home, found, loaded)
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(plan_lines(facts)))
    return CLEAN


def _list(loaded: LoadedSystem, policy: str | None, as_json: bool) -> int:
    from datetime import UTC, datetime

    from maintenance_defs.reporting.retention_facts import plan_summary
    from maintenance_defs.reporting.retention_text import plan_table
    from maintenance_defs.retention.burning_in import burn_ins

    system = loaded.system
    if policy is not None:
        check_name(system, policy)
    with working_home(serve=False) as home:
        state = home.control.retention
        state.expire_plans(system.name)
        plans = [plan_summary(row) for row in state.plans(system.name, policy, limit=LISTED)]
        pauses = [pause.words() for pause in state.pauses(system.name)]
        holds = [hold.words() for hold in state.holds(system.name)]
        burning = burn_ins(system, home, datetime.now(UTC))
    if as_json:
        told = [one.facts() for one in burning]
        print_json({"system": system.name, "plans": plans, "pauses": pauses, "holds": holds, "burn_in": told})
        return CLEAN
    for words in (*pauses, *holds, *(one.words() for one in burning if one.state in ("each_cycle", "ladder"))):
        click.echo(words)
    click.echo(plan_table(plans) if plans else f"{system.name} has no plan yet: maintain plan {system.name}")
    return CLEAN


def _make(
    loaded: LoadedSystem,
    policy: str | None,
    as_of: datetime | None,
    first: bool,
    groups: tuple[str, ...],
    as_json: bool,
) -> int:
    from maintenance_defs.core.errors import MaintenanceError, Refused

    system = loaded.system
    if policy is not None:
        check_name(system, policy)
    made: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    with working_home() as home:
        names = [policy] if policy is not None else enabled_names(system, home)
        if not names:
            raise Refused(
                "no_policy", f"{system.name} declares no policy or archive that is enabled here. Nothing was planned."
            )
        with progress(shown=not as_json) as step:
            if first:
                from maintenance_defs.reconcile.run import reconcile

                reconcile(system, home, folder=loaded.folder, as_of=as_of, step=step)
        for name in names:
            try:
                facts = _plan(loaded, name, home, as_of, groups, as_json)
            except MaintenanceError as error:
                if policy is not None:
                    raise
                failed.append({"policy": name, "reason": getattr(error, "reason", None), "message": str(error)})
                if not as_json:
                    click.echo(f"{system.name}/{name}: NO PLAN. {error}")
                    if (loaded.folder / "migrations").is_dir():
                        click.echo(f"  What its migrations make: maintain migrate {system.name}")
                    click.echo()
                continue
            made.append(facts)
            if not as_json:
                click.echo("\n".join(plan_lines(facts)) + "\n")
    if as_json:
        print_json({"system": system.name, "plans": made, "refused": failed})
    return CLEAN if not failed else PARTIAL if made else REFUSED


def _plan(
    loaded: LoadedSystem, name: str, home: Home, as_of: datetime | None, groups: tuple[str, ...], as_json: bool
) -> dict[str, Any]:
    with progress(shown=not as_json) as step:
        row = take_plan(loaded.system, name, home, as_of, step, groups)
    return plan_facts(home, row, loaded)
