"""The verb that brings a maintained database the columns, views and indexes that retention needs: migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.shared import CLEAN, REFUSED, load_system, print_json, system_argument, verb, working_home

if TYPE_CHECKING:
    from maintenance_defs.retention.migrate import Applied

STATES = {
    "applied": "applied", "already_applied": "already applied", "pending": "not applied", "waiting": "not applied",
    "refused": "REFUSED",
}  # fmt: skip


@click.command(short_help="List, print or apply the migrations of a system.")
@system_argument
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--apply", "applying", is_flag=True, help="Apply what is not applied yet, in order.")
@click.option("--dry-run", is_flag=True, help="Print the SQL of what is not applied yet, and what it would make.")
@click.option("--with", "chosen", multiple=True, metavar="OPTION", help="Agree to an option; may be repeated.")
@verb
def migrate(
    name: str, names: tuple[str, ...], applying: bool, dry_run: bool, chosen: tuple[str, ...], as_json: bool
) -> int:
    """Say which migrations of SYSTEM are applied, as its database shows it; with --apply, apply them.

    Each is whole or not done. What is applied already is left as it is, and so is what waits for an option.

    \b
      maintain migrate shop
      maintain migrate shop --dry-run
      maintain migrate shop archive_columns --apply
      maintain migrate shop name_limits --apply --with truncate
    """
    from maintenance_defs.retention import migrate as migrating

    if applying and dry_run:
        raise click.UsageError("give --apply or --dry-run, not both")
    loaded = load_system(name)
    with working_home() as home:
        if applying or names or chosen:
            found = migrating.apply(
                loaded.system, home, loaded.folder, names=names or None, dry_run=not applying, chosen=chosen
            )
        else:
            found = migrating.status(loaded.system, home, loaded.folder)
    if as_json:
        print_json({"system": name, "migrations": [_facts(one, chosen, sql=dry_run) for one in found]})
    elif dry_run:
        _print(found, chosen)
    else:
        for one in found:
            _print_state(one)
        if any(one.state == "pending" for one in found):
            click.echo(f"See them: maintain migrate {name} --dry-run   Apply them: maintain migrate {name} --apply")
    if not found and not as_json:
        click.echo(f"{name} has no migrations.")
    undone = ("refused", "waiting") if applying and names else ("refused",)
    return REFUSED if any(one.state in undone for one in found) else CLEAN


def _facts(one: Applied, chosen: tuple[str, ...], *, sql: bool) -> dict[str, Any]:
    rows = [_plain(row) for row in one.rows]
    facts: dict[str, Any] = {
        "name": one.name, "dialect": one.migration.dialect, "state": one.state, "describe": one.migration.description,
        "detail": one.detail, "options": dict(one.migration.options),
    }  # fmt: skip
    if one.state == "refused":
        facts |= {"rows": rows}
    elif sql:
        facts |= {"sql": one.migration.sql_with(chosen), "preview": rows}
    return facts


def _head(one: Applied) -> str:
    return f"{one.name}: {STATES[one.state]}" + (f". {one.detail}" if one.detail else "")


def _print_state(one: Applied) -> None:
    click.echo(_head(one))
    if one.state == "refused":
        for row in one.rows:
            click.echo("  " + " ".join(str(value) for value in row.values()))
    if one.state in ("pending", "waiting"):
        click.echo(f"  {one.migration.description}")
    if one.state in ("pending", "waiting", "refused"):
        for option, words in one.migration.options.items():
            click.echo(f"  --with {option}: {words}")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, int | float | str | None) else str(value) for name, value in row.items()}


def _print(found: list[Applied], chosen: tuple[str, ...]) -> None:
    """SQL that can be saved and run as it is; everything else in comments."""
    for one in found:
        click.echo(f"-- {_head(one)}")
        if one.state == "refused":
            for row in one.rows:
                click.echo("--   " + " ".join(str(value) for value in row.values()))
        if one.state != "pending":
            continue
        click.echo(one.migration.sql_with(chosen).rstrip("\n"))
        if one.rows:
            click.echo("-- It would make or change:")
        for row in one.rows:
            click.echo("--   " + ", ".join(f"{name} {value}" for name, value in row.items()))
