"""The verbs that keep retention off: hold, pause, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.kinds import check_name
from maintenance_defs.cli.shared import (
    CLEAN,
    Instant,
    actor_option,
    load_system,
    person,
    print_json,
    reason_option,
    system_argument,
    verb,
    why,
    working_home,
)

if TYPE_CHECKING:
    from datetime import datetime

    from maintenance_defs.control.retention import Hold
    from maintenance_defs.core.declaration import System


@click.command(short_help="Hold objects or rows, so that no policy touches them.")
@system_argument
@click.argument("action", type=click.Choice(("add", "list", "release")), default="list")
@click.argument("number", type=int, metavar="[HOLD]", required=False)
@click.option("--key", help="add: the object under this key.")
@click.option("--prefix", help="add: every object below it.")
@click.option("--store", help="add: only in this store; alone, all of the store.")
@click.option("--table", help="add: rows of this table.")
@click.option("--row", "row_id", metavar="ID", help="add: this row of the table.")
@click.option("--policy", help="add: only this policy or archive is held back.")
@click.option("--everything", is_flag=True, help="add: the whole system.")
@click.option("--until", type=Instant(), metavar="INSTANT", help="add: it ends by itself then.")
@click.option("--all", "every", is_flag=True, help="list: released and ended ones too.")
@reason_option
@actor_option
@verb
def hold(
    name: str,
    action: str,
    number: int | None,
    key: str | None,
    prefix: str | None,
    store: str | None,
    table: str | None,
    row_id: str | None,
    policy: str | None,
    everything: bool,
    until: datetime | None,
    every: bool,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Hold what must stay, list the holds of SYSTEM, or release one by its number.

    A hold covers plans that are approved already: nothing it covers goes, not even in the middle of a run.

    \b
      maintain hold shop add --prefix contracts/ --reason 'lawsuit 17'
      maintain hold shop add --table orders --row 1024 --until 2027-01-01T00:00:00Z --reason 'open claim'
      maintain hold shop list
      maintain hold shop release 3 --reason 'settled'
    """
    system = load_system(name).system
    what = {"store": store, "key": key, "prefix": prefix, "table": table, "row_id": row_id}
    if action != "add" and (any(what.values()) or policy or everything or until):
        raise click.UsageError(f"{action} takes none of the options that say what is held")
    if (action == "release") != (number is not None):
        raise click.UsageError("release needs the number of one hold; list says them")
    with working_home(serve=False) as home:
        state = home.control.retention
        if action == "add":
            _sensible(system, what, policy, everything)
            held = state.add_hold(system.name, person(actor), why(reason), policy=policy, until=until, **what)
            click.echo(f"From now on: {held.words()}.", err=as_json)
            holds = [held]
        elif action == "release":
            mine = [one.id for one in state.holds(system.name, open_only=False)]
            if number not in mine:
                raise click.BadParameter(f"{system.name} has no hold {number}", param_hint="HOLD")
            released = state.release_hold(number, person(actor), why(reason))
            click.echo(f"Released: {released.words()}.", err=as_json)
            holds = [released]
        else:
            holds = state.holds(system.name, open_only=not every)
            for one in holds:
                click.echo(_line(one), err=as_json)
            if not holds:
                click.echo(f"{system.name} has no hold.", err=as_json)
    if as_json:
        print_json({"system": system.name, "holds": [_facts(one) for one in holds]})
    return CLEAN


def _sensible(system: System, what: dict[str, str | None], policy: str | None, everything: bool) -> None:
    """Raises a usage error for a hold that would cover nothing, or more than was said."""
    if everything == any(what.values()):
        raise click.UsageError("say what is held: --key, --prefix, --store, --table with --row, or --everything")
    if what["row_id"] and not what["table"]:
        raise click.UsageError("--row needs its --table")
    if what["key"] and what["prefix"]:
        raise click.UsageError("give --key or --prefix, not both")
    if what["table"] and (what["key"] or what["prefix"] or what["store"]):
        raise click.UsageError("objects and rows are held by two holds")
    if what["store"] and what["store"] not in system.stores:
        raise click.BadParameter(f"{what['store']!r}. Known: {', '.join(system.stores)}.", param_hint="--store")
    if policy is not None:
        check_name(system, policy)
    tables = {p.select.rows for p in system.retention.values() if p.select.rows}
    tables |= {p.select.owns.table for p in system.retention.values() if p.select.owns}
    tables |= {archive.table for archive in (system.archives | system.archived_columns).values()}
    if what["table"] and what["table"] not in tables:
        from maintenance_defs.core.problems import known_names

        raise click.BadParameter(
            f"no policy and no archive acts on table {what['table']!r}. {known_names(what['table'], sorted(tables))}",
            param_hint="--table",
        )


def _line(one: Hold) -> str:
    from maintenance_defs.core.quantities import format_instant

    since = f" since {format_instant(one.placed_at.replace(microsecond=0))}"
    until = f" until {format_instant(one.until)}" if one.until else ""
    over = f"; released by {one.released_by}: {one.release_reason}" if one.released_at else ""
    return f"{one.words()}{since}{until}{over}"


def _facts(one: Hold) -> dict[str, Any]:
    from dataclasses import asdict

    from maintenance_defs.core.quantities import format_instant

    return {name: format_instant(value) if hasattr(value, "tzinfo") else value for name, value in asdict(one).items()}


@click.command(short_help="Switch a policy, an archive, or all of a system's, off at once.")
@system_argument
@click.argument("policy", metavar="[POLICY|ARCHIVE]", required=False)
@reason_option
@actor_option
@verb
def pause(name: str, policy: str | None, reason: str | None, actor: str | None, as_json: bool) -> int:
    """Switch POLICY of SYSTEM off, or everything that retention does to SYSTEM, until it is resumed.

    A run that is at work stops before its next act. Plans can still be made; nothing is undone.
    """
    system = load_system(name).system
    if policy is not None:
        check_name(system, policy)
    with working_home(serve=False) as home:
        paused = home.control.retention.pause(system.name, policy, person(actor), why(reason))
    if as_json:
        print_json({"system": system.name, "policy": policy, "actor": paused.actor, "reason": paused.reason})
    else:
        click.echo(f"{paused.words()}.\nGo on: maintain resume {name}{f' {policy}' if policy else ''} --reason '...'")
    return CLEAN


@click.command(short_help="End a pause.")
@system_argument
@click.argument("policy", metavar="[POLICY|ARCHIVE]", required=False)
@reason_option
@actor_option
@verb
def resume(name: str, policy: str | None, reason: str | None, actor: str | None, as_json: bool) -> int:
    """End every pause of POLICY of SYSTEM, or of SYSTEM as a whole; pauses of its single policies stay."""
    system = load_system(name).system
    if policy is not None:
        check_name(system, policy)
    with working_home(serve=False) as home:
        state = home.control.retention
        ended = state.resume(system.name, policy, person(actor), why(reason))
        left = [one.words() for one in state.pauses(system.name)]
    if as_json:
        print_json({"system": system.name, "policy": policy, "ended": ended, "still_paused": left})
        return CLEAN
    what = f"{system.name}/{policy}" if policy else system.name
    click.echo(f"{what} goes on again." if ended else f"{what} was not paused; nothing was changed.")
    for words in left:
        click.echo(f"Still: {words}.")
    return CLEAN
