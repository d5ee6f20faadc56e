"""The verbs that give tables what archives need: ahead, their next months; convert, months at all."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.archiving import archive_argument, names
from maintenance_defs.cli.shared import (
    CLEAN,
    PARTIAL,
    confirm_digest,
    confirm_option,
    load_system,
    print_json,
    progress,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.core.archive import Archive
    from maintenance_defs.core.declaration import System
    from maintenance_defs.databases.partitions.conversion import Conversion
    from maintenance_defs.databases.partitions.swapping import Converted


@click.command(short_help="Make the partitions of the months to come.")
@click.argument("system_name", metavar="SYSTEM")
@archive_argument
@verb
def ahead(system_name: str, name: str | None, as_json: bool) -> int:
    """Make what is missing of this month's partition and those of the next ones (months_ahead).

    No reader or writer waits for it. Rows of such a month that went to a DEFAULT partition move into it. A plain
    table has no partitions: without ARCHIVE it is left out. Exits with 1 if a month could not be made.
    """
    from maintenance_defs.archive.ahead import make_ahead
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.reporting.text import count

    system = load_system(system_name).system
    told: list[dict[str, Any]] = []
    with working_home() as home:
        for one in names(system, name, home):
            try:
                done = make_ahead(system, one, home, datetime.now(UTC))
            except Refused as refused:
                if name is not None or refused.reason != "not_partitioned":
                    raise
                continue
            told.append(
                {
                    "archive": one,
                    "table": system.archives[one].table,
                    "created": [f"{part.schema}.{part.name}" for part in done.created],
                    "moved_rows": done.moved_rows,
                    "notes": [{"code": note.code, "message": note.message} for note in done.notes],
                }
            )
    if as_json:
        print_json({"system": system.name, "archives": told})
    else:
        for facts in told:
            made = ", ".join(facts["created"])
            moved = f"; {count(facts['moved_rows'], 'row')} moved into them" if facts["moved_rows"] else ""
            click.echo(f"{facts['table']}: {f'made {made}{moved}' if made else 'every month is there'}.")
            for note in facts["notes"]:
                click.echo(f"  NOTE: {note['message']}")
        if not told:
            click.echo(f"No archived table of {system.name} is partitioned.")
    short = any(note["code"] == "default_large" for facts in told for note in facts["notes"])
    return PARTIAL if short else CLEAN


@click.command(short_help="Partition a plain table by month, while it is read and written.")
@system_argument
@click.argument("table", metavar="TABLE|ARCHIVE")
@click.option("--time", "time_column", metavar="COLUMN", help="By this column. [the archive's]")
@click.option("--target", metavar="NAME", help="Name the partitioned table so; the old name becomes a view of it.")
@click.option("--default-partition", is_flag=True, help="With a DEFAULT partition, for rows of months not made yet.")
@click.option("--agree", "agreed", multiple=True, metavar="KEY", help="This foreign or unique key may go. Repeatable.")
@confirm_option
@verb
def convert(
    name: str,
    table: str,
    time_column: str | None,
    target: str | None,
    default_partition: bool,
    agreed: tuple[str, ...],
    confirm: str | None,
    as_json: bool,
) -> int:
    """Make TABLE a partitioned one, after what that changes was shown and its digest repeated.

    No row is moved: the present rows become the first partition, which is many months wide; the months from then on
    get their own. Readers and writers wait for less than a second. An attempt that fails leaves the table as it was.

    \b
      maintain archive convert shop order_log
      maintain archive convert shop public.visits --time seen_at --target visits_partitioned
    """
    from maintenance_defs.archive.ahead import naming_of
    from maintenance_defs.archive.doors import archive_database
    from maintenance_defs.databases.partitions.ahead import NAMING
    from maintenance_defs.databases.partitions.catalog import PartitionedTable, read_table
    from maintenance_defs.databases.partitions.conversion import convert_plan
    from maintenance_defs.databases.partitions.converting import convert as carry_out

    system = load_system(name).system
    archive, place, column = _meant(system, table, time_column)
    now = datetime.now(UTC)
    with working_home() as home:
        database = archive_database(system, home, write=True)
        with database.transaction() as connection:
            found = read_table(connection, place)
            if isinstance(found, PartitionedTable):
                return _partitioned_already(found, as_json)
            plan = convert_plan(connection, place, column, now=now, target=target)
        facts = _facts(plan, agreed)
        if not as_json:
            click.echo("\n".join(_lines(facts)))
        _refuse(facts)
        again = "".join(f" --agree {one}" for one in agreed)
        confirm_digest(facts["digest"], confirm, f"maintain archive convert {name} {table}{again} --confirm DIGEST")
        with progress(shown=not as_json) as step:
            step(f"partitioning {facts['table']}", 0)
            done = carry_out(
                database, place, column, now=now, target=target, default_partition=default_partition, agreed=agreed,
                months_ahead=archive.months_ahead if archive else 3, naming=naming_of(archive) if archive else NAMING,
            )  # fmt: skip
    _tell(facts, done, as_json)
    return CLEAN


def _meant(system: System, table: str, time_column: str | None) -> tuple[Archive | None, str, str]:
    """The archive of the table, if there is one; the table; the column."""
    found = system.archives.get(table) or next((one for one in system.archives.values() if one.table == table), None)
    column = time_column or (found.time if found else None)
    if column is None:
        raise click.UsageError(f"no archive of {system.name} declares {table}: say by which column, --time COLUMN")
    return found, found.table if found else table, column


def _partitioned_already(found: Any, as_json: bool) -> int:
    facts = {"table": str(found), "by": found.key_column, "partitions": len(found.partitions), "already": True}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{found} is partitioned by {found.key_column} already. Nothing was done.")
    return CLEAN


def _facts(plan: Conversion, agreed: tuple[str, ...]) -> dict[str, Any]:
    from maintenance_defs.core.quantities import format_instant

    said = [str(plan.table), plan.time_column, plan.target, format_instant(plan.boundary), *(plan.key or ()),
            *plan.consequences, *plan.to_agree, *agreed]  # fmt: skip
    return {
        "table": str(plan.table),
        "target": plan.target,
        "by": plan.time_column,
        "boundary": format_instant(plan.boundary),
        "key": list(plan.key) if plan.key else None,
        "rows_estimate": plan.row_estimate,
        "size_bytes": plan.size_bytes,
        "consequences": list(plan.consequences),
        "to_agree": list(plan.to_agree),
        "agreed": list(agreed),
        "obstacles": [{"code": one.code, "message": one.message} for one in plan.obstacles],
        "digest": sha256("\0".join(said).encode()).hexdigest(),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    from maintenance_defs.core.quantities import count, format_size

    lines = [
        f"{facts['table']} by month of {facts['by']}: about {count(facts['rows_estimate'], 'row')} "
        f"({format_size(facts['size_bytes'])}). Nothing was changed yet.",
        *(f"  CONSEQUENCE: {words}" for words in facts["consequences"]),
        *(f"  IN THE WAY: {one['message']}" for one in facts["obstacles"]),
        *(f"  TO AGREE TO: {key} would go: --agree {key}" for key in facts["to_agree"] if key not in facts["agreed"]),
    ]
    return [*lines, f"  digest {facts['digest'][:8]}"]


def _refuse(facts: dict[str, Any]) -> None:
    """Raises Refused for what stands in the way, and for what was not agreed to."""
    from maintenance_defs.core.errors import Refused

    table = facts["table"]
    if facts["obstacles"]:
        said = " ".join(one["message"] for one in facts["obstacles"])
        raise Refused("cannot_convert", f"{table} cannot be partitioned: {said} Nothing was changed.")
    if missing := [key for key in facts["to_agree"] if key not in facts["agreed"]]:
        raise Refused(
            "not_agreed", f"partitioning {table} ends {', '.join(missing)}. Nothing was changed; agree to each by name."
        )


def _tell(facts: dict[str, Any], done: Converted, as_json: bool) -> None:
    from maintenance_defs.core.quantities import format_instant

    upper = format_instant(done.legacy.upper) if done.legacy.upper else None
    made = [f"{part.schema}.{part.name}" for part in done.created]
    if as_json:
        legacy = {"name": f"{done.legacy.schema}.{done.legacy.name}", "upper": upper}
        print_json(facts | {"legacy": legacy, "created": made, "locked_seconds": round(done.locked_seconds, 3)})
        return
    click.echo(
        f"{done.table} is partitioned. Its earlier rows are in {done.legacy}, until {upper}; made {', '.join(made)}. "
        f"It was locked for {done.locked_seconds * 1000:.0f} ms."
    )
