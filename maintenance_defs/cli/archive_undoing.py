"""The verb that brings archived rows back: restore."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.archiving import work_on
from maintenance_defs.cli.shared import (
    CLEAN,
    actor_option,
    load_system,
    person,
    print_json,
    progress,
    reason_option,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.control.archive import UnitRow
    from maintenance_defs.control.home import Home
    from maintenance_defs.core.declaration import System


@click.command(short_help="Bring a month's rows back, or one archived value.")
@system_argument
@click.argument("archive_name", metavar="ARCHIVE")
@click.argument("month", metavar="MONTH|ID")
@click.option("--schema", metavar="NAME", help="Load a copy into a table in this schema. [maintenance_restored]")
@click.option("--table", metavar="NAME", help="The name of that table. [like the archived one, with the month]")
@click.option("--in-place", is_flag=True, help="Put rows that were removed back into their table.")
@reason_option
@actor_option
@verb
def restore(
    name: str,
    archive_name: str,
    month: str,
    schema: str | None,
    table: str | None,
    in_place: bool,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Bring back the rows of MONTH.

    A month that was detached and not dropped yet becomes part of its table again. Of a removed one, a copy is loaded
    into a table of its own, and compared; with --in-place its rows go back into their table. What is put back is
    held, so that the next plan does not take it out again. Of an archived column, the value of the row ID goes back
    into its row.

    \b
      maintain archive restore shop order_log 2025-10
      maintain archive restore shop order_log 2024-03 --in-place --reason 'audit 12'
    """
    from maintenance_defs.archive.declared import find_archive
    from maintenance_defs.archive.units.returning import SCHEMA, into_place, put_back
    from maintenance_defs.archive.units.returning import restore as load_copy

    a_copy = schema is not None or table is not None
    if a_copy and in_place:
        raise click.UsageError("--schema and --table are of a copy; --in-place makes none")
    system = load_system(name).system
    said = (reason or "").strip() or "restored by hand"
    who = person(actor)
    with working_home() as home:
        if archive_name in system.archived_columns:
            if a_copy or in_place:
                raise click.UsageError(f"{archive_name} is an archived column: its values go back into their rows")
            return _restore_value(system, archive_name, home, month, as_json)
        archive = find_archive(system, archive_name)
        work = work_on(system, archive_name, home, datetime.now(UTC), as_json)
        units = _of_month(system, archive_name, home, month)
        if archive.class_ == "phi":
            what = {"archive": archive_name, "verb": "restore", "month": month}
            home.control.archive.note_read(system.name, who, archive.table, what)
        facts: dict[str, Any] = {"system": system.name, "archive": archive_name, "month": month}
        detached = [unit for unit in units if unit.state == "detached"]
        with progress(shown=not as_json) as step:
            if detached and not a_copy:
                back = [put_back(work, unit, actor=who, reason=said) for unit in detached]
                rows = sum(unit.rows or 0 for unit in detached)
                late = sum(one.late_rows for one in back)
                facts |= {"how": "put_back", "table": archive.table, "rows": rows, "late_rows": late}
            elif in_place:
                done = into_place(work, units, actor=who, reason=said)
                facts |= {"how": "in_place", "table": archive.table, "rows": done.rows}
            else:
                _in_the_archive(units, a_copy)
                copied = load_copy(
                    work,
                    units,
                    schema or SCHEMA,
                    table,
                    progress=lambda rows: step(f"{archive_name} {month}: rows", rows),
                )
                table = f"{copied.schema}.{copied.table}"
                facts |= {
                    "how": "copy",
                    "table": table,
                    "rows": copied.rows,
                    "files": copied.files,
                    "same": copied.same,
                }
        facts["holds"] = [
            one.id for one in home.control.retention.holds(system.name)
            if (one.policy, one.row_id) == (archive_name, month) and facts["how"] != "copy"
        ]  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        click.echo("\n".join(_restored(facts)))
    return CLEAN


def _of_month(system: System, name: str, home: Home, month: str) -> list[UnitRow]:
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.core.problems import known_names

    units = home.control.archive.units(system.name, name)
    mine = [unit for unit in units if unit.label == month]
    if not mine:
        known = sorted({unit.label for unit in units})
        raise Refused(
            "unknown_month",
            f"{system.name}/{name} has no month {month!r}; months are written as 2025-10. Nothing was restored. "
            f"{known_names(month, known)}",
        )
    return mine


def _in_the_archive(units: Sequence[UnitRow], a_copy: bool) -> None:
    """Raises Refused for a month whose rows are still in their table, unless a copy was asked for."""
    from maintenance_defs.core.errors import Refused

    here = [unit for unit in units if unit.left_at is None]
    if here and not a_copy:
        raise Refused(
            "in_its_table",
            f"the rows of {here[0].words()} are in their table. Nothing was restored; for a copy of what was archived, "
            f"say where: --schema NAME.",
        )


def _restored(facts: dict[str, Any]) -> list[str]:
    from maintenance_defs.reporting.text import count

    rows, table = count(facts["rows"], "row"), facts["table"]
    if facts["how"] == "copy":
        same = {
            True: "Compared: they are what left the table, to the letter.",
            False: "COMPARED: they are NOT what left the table.",
            None: "Some rows of the month have expired or arrived later, so there is nothing whole to compare with; "
            "each file was compared with its digest.",
        }[facts["same"]]
        return [
            f"{rows} of {facts['month']} are in {table}. {same}",
            f"Drop it when it has served: DROP TABLE {table};",
        ]
    lines = [f"{rows} of {facts['month']} are in {table} again, and are read there."]
    if facts.get("late_rows"):
        lines.append(f"{count(facts['late_rows'], 'row')} that had arrived late are there, too.")
    release = f"maintain hold {facts['system']} release"
    lines += [f"Held, so that no plan takes them out: {release} {hold} --reason '...'" for hold in facts["holds"]]
    return lines


def _restore_value(system: System, name: str, home: Home, row_id: str, as_json: bool) -> int:
    from maintenance_defs.archive.values import restore_value

    row = restore_value(system, name, home, row_id)
    if as_json:
        print_json({"system": system.name, "archive": name, "id": row_id, "size_bytes": row.value_bytes})
    else:
        click.echo(f"Row {row_id} of {system.archived_columns[name].table} has its whole value again.")
    return CLEAN
