"""The verb that consents: approve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.kinds import check_name, opened, plan_facts, plan_lines, standing
from maintenance_defs.cli.shared import (
    CLEAN,
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
    verb,
    why,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.retention.review import Review

file_type = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Approve a plan, or those units of it that were reviewed.")
@click.argument("name", metavar="PLAN")
@click.argument("policy", metavar="[POLICY|ARCHIVE]", required=False)
@click.option("--count", type=click.IntRange(min=0), help="The number of units that may go, repeated.")
@reason_option
@confirm_option
@click.option("--only", type=file_type, help="Only what this file names, or says delete of.")
@click.option("--except", "leave_out", type=file_type, help="All but what this file names, or does not say delete of.")
@click.option("--accept-limits", is_flag=True, help="The plan exceeds its limits, and all of it is meant.")
@click.option("--second", is_flag=True, help="This is the second person's approval.")
@click.option(
    "--standing", "stands", is_flag=True, help="Approve each plan of SYSTEM POLICY while its declaration stays."
)
@click.option("--revoke", is_flag=True, help="With --standing: end it.")
@actor_option
@verb
def approve(
    name: str,
    policy: str | None,
    count: int | None,
    reason: str | None,
    confirm: str | None,
    only: Path | None,
    leave_out: Path | None,
    accept_limits: bool,
    second: bool,
    stands: bool,
    revoke: bool,
    actor: str | None,
    as_json: bool,
) -> int:
    """Approve PLAN: its units may go, as far as that is still right when it is applied. Changes nothing yet.

    The digest stands for exactly what was shown; it is typed on a terminal, or given with --confirm.

    \b
      maintain approve 1f0c93ab --count 3 --reason 'reviewed with Ada'
      maintain approve 1f0c93ab --only review.csv --count 2 --reason 'lion stays'
      maintain approve --standing shop old_uploads --reason 'watched for a month'
    """
    if stands or revoke:
        if policy is None or only or leave_out or second or accept_limits or count is not None:
            raise click.UsageError("write: maintain approve --standing SYSTEM POLICY --reason '...' [--revoke]")
        return _standing(name, policy, revoke or not stands, person(actor), why(reason), confirm, as_json)
    if policy is not None:
        raise click.UsageError("a POLICY belongs to --standing; otherwise name one PLAN")
    if only is not None and leave_out is not None:
        raise click.UsageError("give --only or --except, not both")
    if count is None:
        raise click.UsageError("repeat how many units may go: --count N")
    return _plan(name, count, person(actor), why(reason), confirm, only, leave_out, accept_limits, second, as_json)


def _plan(
    prefix: str,
    count: int,
    actor: str,
    reason: str,
    confirm: str | None,
    only: Path | None,
    leave_out: Path | None,
    accept_limits: bool,
    second: bool,
    as_json: bool,
) -> int:
    from maintenance_defs.core.errors import ConsentRefused
    from maintenance_defs.retention.review import read_review

    systems = load_all()
    with working_home(serve=False) as home:
        state = home.control.retention
        found = find_plan(home, prefix)
        loaded = systems.get(found.system)
        file, review = only or leave_out, None
        if file is not None:
            how = opened(found, (loaded or load_system(found.system)).system)
            review = read_review(home, found, file, leave_out=leave_out is not None, opened=how)
        if not as_json:
            click.echo("\n".join(plan_lines(plan_facts(home, found, loaded), next_step=False)))
            if review is not None:
                click.echo(f"  Of these, {file} lets {len(review.units):,} units go.")
        confirm_digest(found.digest, confirm, f"maintain approve {found.id[:SHORT]} ... --confirm DIGEST")
        approved = None
        if review is None or review.units:
            approved = state.approve(
                found.id, found.digest, count, actor, reason, expires_at=found.expires_at,
                only=review.units if review else None, accept_limits=accept_limits, second=second,
            )  # fmt: skip
        elif count:
            raise ConsentRefused(
                "wrong_count", f"the file lets nothing go, and the count says {count:,}. Nothing was approved.",
                expected=0, given=count,
            )  # fmt: skip
        held = _hold(home, found, review, actor, reason) if review else 0
        facts: dict[str, Any] = plan_facts(home, state.plan(found.id), loaded, items=False)
    if as_json:
        print_json(facts | {"held": held})
        return CLEAN
    if held:
        click.echo(f"{held:,} held from now on; maintain hold {found.system} list")
    if approved is None:
        click.echo("Nothing was approved: the file lets nothing go.")
    elif not approved.complete:
        click.echo(f"Approved by {actor}; a second person must approve it too, with --second. Nothing was done yet.")
    else:
        click.echo(f"Approved {approved.count:,} units. Nothing was done yet. Next: maintain apply {found.id[:SHORT]}")
    return CLEAN


def _hold(home: Home, plan: PlanRow, review: Review, actor: str, reason: str) -> int:
    """Hold what the reviewer ignores (S2-23); what is held already is not held twice."""
    state = home.control.retention
    known = {(hold.store, hold.key, hold.table, hold.row_id) for hold in state.holds(plan.system) if not hold.policy}
    added = 0
    for one in review.ignored:
        if (one.store, one.key, one.table, one.row_id) in known:
            continue
        state.add_hold(
            plan.system, actor, one.note or reason, store=one.store, key=one.key, table=one.table, row_id=one.row_id
        )
        added += 1
    return added


def _standing(
    name: str, policy_name: str, revoke: bool, actor: str, reason: str, confirm: str | None, as_json: bool
) -> int:
    from maintenance_defs.core.errors import Refused

    loaded = load_system(name)
    system = loaded.system
    check_name(system, policy_name)
    with working_home(serve=False) as home:
        state = home.control.retention
        if revoke:
            ended = state.revoke_standing(system.name, policy_name, actor, reason)
            if as_json:
                print_json({"system": system.name, "policy": policy_name, "revoked": ended})
            else:
                said = "The standing approval was ended" if ended else "There was no standing approval"
                click.echo(f"{said}: {system.name}/{policy_name} stops after its plan from now on.")
            return CLEAN
        mode, digest = standing(system, policy_name, home)
        if mode != "automatic":
            raise Refused(
                "manual", f"{policy_name} of {system.name} is manual: each plan is approved by itself. Nothing was "
                f"approved; declare mode: automatic if that is meant.",
            )  # fmt: skip
        seen = [row for row in state.plans(system.name, policy_name) if row.config_digest == digest]
        if not seen:
            raise Refused(
                "never_planned",
                f"{policy_name} of {system.name} has no plan of its present declaration yet, so nobody has seen what "
                f"it does. Nothing was approved: maintain plan {system.name} {policy_name}",
            )
        if not as_json:
            click.echo("Its newest plan, as an example:")
            click.echo("\n".join(plan_lines(plan_facts(home, seen[0], loaded), next_step=False)))
            click.echo(f"The declaration has the digest {digest[:SHORT]}. Every plan it makes would be done by itself.")
        confirm_digest(digest, confirm, f"maintain approve --standing {name} {policy_name} ... --confirm DIGEST")
        state.standing_approve(system.name, policy_name, digest, actor, reason)
    if as_json:
        print_json({"system": system.name, "policy": policy_name, "config_digest": digest, "actor": actor})
    else:
        click.echo(
            f"Approved until the declaration changes. End it: maintain approve --standing {name} {policy_name} --revoke"
        )
    return CLEAN
