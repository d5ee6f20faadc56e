"""The verb that acts: apply."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.kinds import check_name, execute, execution_lines, may_act, opened, plan_facts, plan_lines
from maintenance_defs.cli.shared import (
    CLEAN,
    PARTIAL,
    SHORT,
    actor_option,
    confirm_digest,
    confirm_option,
    find_plan,
    load_all,
    load_system,
    person,
    print_json,
    reason_option,
    units_bar,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.declarations import LoadedSystem

OPEN = ("planned", "approved", "partial", "executing")
LOOKED_AT = 500  # plans


class Age(click.ParamType["timedelta"]):
    """An age as in the declarations, or the short spelling of it: `1 h`, `1h`."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        from maintenance_defs.core.quantities import parse_duration

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(short_help="Do what a plan says, after its digest was repeated.")
@click.argument("name", metavar="SYSTEM|PLAN")
@confirm_option
@click.option("--policy", metavar="NAME", help="The policy or archive of SYSTEM, where several have an open plan.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many units, the oldest first.")
@click.option("--older-than", type=Age(), metavar="AGE", help="Only units whose objects, or months, are older: '1 h'.")
@reason_option
@actor_option
@verb
def apply(
    name: str,
    confirm: str | None,
    policy: str | None,
    limit: int | None,
    older_than: timedelta | None,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Do what PLAN says, or the newest open plan of SYSTEM, as far as it is still right.

    A plan that nobody approved is shown, and approved by typing its digest (or --confirm). Each item is asked about
    again before it goes; an interrupted run is gone on with by the same command. Exits with 1 if something is left.

    \b
      maintain apply shop
      maintain apply 1f0c93ab --confirm 5d0bb3f2
      maintain apply shop --limit 100 --older-than '1 h'
    """
    systems = load_all()
    if name not in systems and len(name) < SHORT:
        load_system(name)
    with working_home() as home:
        found = _plan_of(systems[name], policy, confirm, home) if name in systems else find_plan(home, name)
        loaded = systems.get(found.system) or load_system(found.system)
        if found.state == "planned":
            may_act(loaded.system, found, home)
            _consent(loaded, found, home, confirm, limit, older_than, person(actor), reason, as_json)
        elif limit is not None or older_than is not None:
            raise click.UsageError(f"plan {found.id[:SHORT]} is {found.state} already: what may go was chosen then")
        elif confirm is not None:
            confirm_digest(found.digest, confirm, "")
        return _execute(loaded, found, home, as_json)


def _plan_of(loaded: LoadedSystem, policy: str | None, confirm: str | None, home: Home) -> PlanRow:
    """The newest open plan of the system. Raises Refused when there is none, or more than one policy has one."""
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.reporting.retention_text import STATES

    system, state = loaded.system, home.control.retention
    if policy is not None:
        check_name(system, policy)
    state.expire_plans(system.name)
    newest: dict[tuple[str, str | None, tuple[str, ...]], PlanRow] = {}
    whole: set[tuple[str, str | None]] = set()
    for row in state.plans(system.name, policy, limit=LOOKED_AT):
        # A newer plan, whatever became of it, stands for the older ones of its kind; one of some groups for these.
        kind = (row.policy, row.totals.get("only"))
        if kind not in whole:
            newest.setdefault((*kind, row.groups), row)
        if not row.groups:
            whole.add(kind)
    newest = {what: row for what, row in newest.items() if row.state in OPEN}
    if not newest:
        which = f"{system.name} {policy}" if policy else system.name
        raise Refused("no_plan", f"{system.name} has no plan that is open. Nothing was done: maintain plan {which}")
    given = (confirm or "").strip().lower()
    meant = [row for row in newest.values() if len(given) >= SHORT and row.digest.startswith(given)]
    if len(newest) > 1 and not meant:
        said = "\n".join(
            f"  maintain apply {row.id[:SHORT]} --confirm {row.short_digest}   {row.policy}: {row.units:,} units, "
            f"{STATES[row.state]}"
            for row in newest.values()
        )
        raise Refused(
            "which_plan",
            f"{len(newest)} plans of {system.name} are open. Nothing was done. One of:\n{said}",
        )
    return meant[0] if meant else next(iter(newest.values()))


def _consent(
    loaded: LoadedSystem,
    found: PlanRow,
    home: Home,
    confirm: str | None,
    limit: int | None,
    older_than: timedelta | None,
    actor: str,
    reason: str | None,
    as_json: bool,
) -> None:
    """Show the plan, have its digest repeated, approve it (S2-8)."""
    from maintenance_defs.core.errors import ConsentRefused, Refused
    from maintenance_defs.retention.review import oldest_units

    if not as_json:
        click.echo("\n".join(plan_lines(plan_facts(home, found, loaded), next_step=False)))
    if found.totals.get("second_person"):
        command = f"maintain approve {found.id[:SHORT]} --count {found.units} --reason '...'"
        command += " --accept-limits" if found.totals.get("limits_exceeded") else ""
        raise ConsentRefused(
            "second_person",
            f"plan {found.id[:SHORT]} asks for two persons. Nothing was done.\n"
            f"The first: {command}\nThe second: {command} --second",
        )
    units = None
    if limit is not None or older_than is not None:
        cut = found.as_of - older_than if older_than is not None else None
        units = oldest_units(home, found, limit=limit, older_than=cut, opened=opened(found, loaded.system))
        if not units:
            raise Refused("nothing_so_old", f"nothing of plan {found.id[:SHORT]} is that old. Nothing was done.")
        if not as_json:
            click.echo(f"  Of these, only {len(units):,} units go now, the oldest.")
    confirm_digest(
        found.digest, confirm, f"maintain apply {found.id[:SHORT]} --confirm DIGEST, with the digest that was reviewed"
    )
    home.control.retention.approve(
        found.id, found.digest, found.units if units is None else len(units), actor,
        (reason or "").strip() or "confirmed with its digest", expires_at=found.expires_at, only=units,
    )  # fmt: skip


def _execute(loaded: LoadedSystem, found: PlanRow, home: Home, as_json: bool) -> int:
    approval = home.control.retention.approval_of(found.id)
    units = approval.count if approval else found.units
    with units_bar(f"{found.system}/{found.policy}", units, shown=not as_json) as done:
        facts = execute(
            loaded.system, found, home, progress=done, log=lambda line: click.echo(line, err=as_json) if line else None
        )
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(execution_lines(facts)))
    return CLEAN if facts["state"] == "done" else PARTIAL
