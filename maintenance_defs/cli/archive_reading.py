"""The verbs that read archives: get, query, views; and reads, which says who did.

What is read of an archive of class phi is on record before anything of it is shown: who, what, when, no values.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli.shared import (
    CLEAN,
    Instant,
    actor_option,
    load_all,
    load_system,
    person,
    print_json,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maintenance_defs.archive.reading import Got
    from maintenance_defs.control.archive import FileRow
    from maintenance_defs.control.home import Home
    from maintenance_defs.core.declaration import System

csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
since_option = click.option("--since", type=Instant(), metavar="INSTANT", help="Only rows of this time or later.")
until_option = click.option("--until", type=Instant(), metavar="INSTANT", help="Only rows before this time.")
file_type = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Print every row of one value, archived or not.")
@system_argument
@click.argument("archive_name", metavar="ARCHIVE")
@click.argument("value", metavar="VALUE")
@since_option
@until_option
@click.option("--organisation", metavar="ID", help="Only rows of this organisation.")
@csv_option
@actor_option
@verb
def get(
    name: str,
    archive_name: str,
    value: str,
    since: datetime | None,
    until: datetime | None,
    organisation: str | None,
    as_csv: bool,
    actor: str | None,
    as_json: bool,
) -> int:
    """Print the rows of one VALUE of ARCHIVE's lookup column, from files and table alike, in the order of time.

    Of an archived column it prints the whole value of the row with the id VALUE. A value that nobody knows has no
    rows, and that is no error; rows that retention deleted are said to be so.

    \b
      maintain archive get shop order_log order-1024
      maintain archive get shop order_log order-1024 --since 2025-01-01T00:00:00Z --csv
    """
    from maintenance_defs.archive.declared import find_archive
    from maintenance_defs.archive.reading import get as read

    if as_csv and as_json:
        raise click.UsageError("give --csv or --json, not both")
    system = load_system(name).system
    with working_home() as home:
        if archive_name in system.archived_columns:
            if since or until or organisation or as_csv:
                raise click.UsageError(f"{archive_name} is an archived column: its values have no time, no rows")
            return _get_value(system, archive_name, home, value, person(actor), as_json)
        archive = find_archive(system, archive_name)
        got = read(system, archive_name, home, value=value, organisation=organisation, since=since, until=until)
        if archive.class_ == "phi":
            what = {"rows": got.hot_rows + got.archived_rows, "value_sha256": _hash(value), "since": since,
                    "until": until}  # fmt: skip
            _note(system, archive_name, home, "get", person(actor), what, organisation)
        _print(system, archive_name, value, got, as_csv, as_json)
    return CLEAN


def _print(system: System, name: str, value: str, got: Got, as_csv: bool, as_json: bool) -> None:
    from maintenance_defs.cli.answers import print_csv, print_rows_json, print_table

    if as_json:
        cost = {"requests": got.reads.requests, "bytes": got.reads.bytes, "cache_hits": got.reads.cache_hits}
        before = {
            "system": system.name, "archive": name, "value": value, "hot_rows": got.hot_rows,
            "archived_rows": got.archived_rows, "expired": [_expired(file) for file in got.expired], "reads": cost,
        }  # fmt: skip
        print_rows_json(before, got)
        return
    rows = print_csv(got.schema.names, got) if as_csv else print_table(got.schema.names, got)
    for line in _deleted(got.expired):
        click.echo(line, err=True)
    if not rows and not got.expired:
        click.echo(f"No row of {value!r}, neither in the table nor in the archive.", err=True)


def _expired(file: FileRow) -> dict[str, Any]:
    from maintenance_defs.cli.answers import plain

    return {"organisation": file.label, "first_at": plain(file.first_at), "last_at": plain(file.last_at),
            "ended_at": plain(file.ended_at), "why": file.ended_why}  # fmt: skip


def _deleted(files: Iterable[FileRow]) -> Iterable[str]:
    for file in files:
        of = f" of {file.first_at:%Y-%m}" if file.first_at else ""
        at = f" at {file.ended_at:%Y-%m-%dT%H:%M:%SZ}" if file.ended_at else ""
        yield f"Rows{of} were deleted by retention{at}: {file.ended_why}."


def _get_value(system: System, name: str, home: Home, row_id: str, actor: str, as_json: bool) -> int:
    """The exact text of one archived value."""
    import json

    from maintenance_defs.archive.values import get_value
    from maintenance_defs.core.errors import Refused

    text: str | None = None
    said = ""
    try:
        text = get_value(system, name, home, row_id).decode()
    except Refused as refused:
        if refused.reason not in ("not_archived", "expired"):
            raise
        said = str(refused)
    if text is not None and system.archived_columns[name].class_ == "phi":
        _note(system, name, home, "get", actor, {"rows": 1, "value_sha256": _hash(row_id)}, None)
    if as_json:
        value = None if text is None else json.loads(text)
        rows = [] if text is None else [{"id": row_id, "value": value}]
        print_json({"system": system.name, "archive": name, "value": row_id, "message": said or None, "rows": rows})
    elif text is None:
        click.echo(said, err=True)
    else:
        click.echo(text)
    return CLEAN


@click.command(short_help="Answer one SELECT over archives and their tables.")
@click.argument("sql", metavar="SQL")
@click.option("--cold-only", is_flag=True, help="Leave the tables alone: only <archive>, no <archive>_all.")
@since_option
@until_option
@csv_option
@actor_option
@verb
def query(
    sql: str,
    cold_only: bool,
    since: datetime | None,
    until: datetime | None,
    as_csv: bool,
    actor: str | None,
    as_json: bool,
) -> int:
    """Answer one SELECT in DuckDB's SQL over views of every system's archives. Nothing can be written through it.

    The view <archive> has what is archived, <archive>_all that and what is still in the table, each row once; two
    systems' archives of one name are system.archive. --since and --until say how much of a table is read for it.

    \b
      maintain archive query 'SELECT level, count(*) FROM order_log_all GROUP BY 1'
      maintain archive query --cold-only --csv "SELECT * FROM order_log WHERE level = 'ERROR'" > errors.csv
    """
    from maintenance_defs.archive.reading import is_asked
    from maintenance_defs.archive.reading import query as ask
    from maintenance_defs.cli.answers import print_csv, print_rows_json, print_table

    if as_csv and as_json:
        raise click.UsageError("give --csv or --json, not both")
    systems = [loaded.system for loaded in load_all().values() if loaded.system.archives]
    with working_home() as home:
        reader = ask(home, systems, sql, hot=not cold_only, since=since, until=until)
        for system in systems:
            for name, archive in system.archives.items():
                if archive.class_ == "phi" and is_asked(sql, name):
                    what = {"sql_sha256": _hash(sql), "since": since, "until": until}
                    _note(system, name, home, "query", person(actor), what, None)
        names = reader.schema.names
        if as_json:
            print_rows_json({"columns": list(names)}, reader)
        elif as_csv:
            print_csv(names, reader)
        elif not print_table(names, reader):
            click.echo("No rows.")
    return CLEAN


@click.command(short_help="Write views of the archives, for notebooks.")
@click.argument("names", metavar="[SYSTEM]...", nargs=-1)
@click.option("--sql", "script", type=file_type, help="Write DuckDB's SQL to this file.")
@click.option("--duckdb", "database", type=file_type, help="Write a DuckDB database to this file.")
@verb
def views(names: tuple[str, ...], script: Path | None, database: Path | None, as_json: bool) -> int:
    """Write one view for each archive of each SYSTEM, over its files as the catalogue lists them now.

    They hold no rows, no key and no password. Archives of class phi are left out: reading those is on record, and a
    notebook's would not be. Files that come, go or expire later are not in them: write them again after each run.

    \b
      maintain archive views --sql archives.sql shop
      maintain archive views --duckdb archives.duckdb
    """
    from maintenance_defs.archive.reading import write_views
    from maintenance_defs.core.errors import Refused

    if (script is None) == (database is None):
        raise click.UsageError("name one file: --sql FILE or --duckdb FILE")
    target = script or database or Path()
    if database is not None and database.suffix != ".duckdb":
        raise click.BadParameter("its name must end in .duckdb", param_hint="--duckdb")
    if script is not None and script.suffix == ".duckdb":
        raise click.BadParameter("a script's name does not end in .duckdb", param_hint="--sql")
    loaded = [load_system(name) for name in names] if names else list(load_all().values())
    systems = [_open_to_all(one.system) for one in loaded]
    made = [f"{system.name}.{name}" for system in systems for name in system.archives]
    left_out = [f"{one.system.name}.{name}" for one in loaded for name, archive in one.system.archives.items()
                if archive.class_ == "phi"]  # fmt: skip
    if not made:
        raise Refused("no_archive", "no archive is declared that may have a view. Nothing was written.")
    with working_home() as home:
        write_views(home, [system for system in systems if system.archives], target, datetime.now(UTC))
    if as_json:
        print_json({"file": str(target), "views": made, "left_out": left_out})
        return CLEAN
    click.echo(f"{target} has the views {', '.join(made)}.")
    if left_out:
        click.echo(f"Left out, because reads of class phi are on record: {', '.join(left_out)}.")
    return CLEAN


def _open_to_all(system: System) -> System:
    open_ = {name: archive for name, archive in system.archives.items() if archive.class_ != "phi"}
    return system.model_copy(update={"archives": open_})


@click.command(short_help="Say who read archives of class phi.")
@system_argument
@click.argument("archive_name", metavar="[ARCHIVE]", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="So many, the newest first.")
@verb
def reads(name: str, archive_name: str | None, limit: int, as_json: bool) -> int:
    """List who read which archive of class phi, when and how, as the ledger has it; no values are in it."""
    from maintenance_defs.archive.declared import find_archive
    from maintenance_defs.core.quantities import format_instant
    from maintenance_defs.reporting.text import Table, shown, text_table

    system = load_system(name).system
    if archive_name is not None and archive_name not in system.archived_columns:
        find_archive(system, archive_name)
    with working_home(serve=False) as home:
        noted = home.control.archive.reads(system.name, archive_name, limit)
    facts = [
        {"id": one.id, "at": format_instant(one.at.replace(microsecond=0)), "actor": one.actor,
         "organisation": one.organisation, **one.what}
        for one in noted
    ]  # fmt: skip
    if as_json:
        print_json({"system": system.name, "reads": facts})
        return CLEAN
    rows = [(one["at"], shown(one["actor"]), one["archive"], one["verb"], shown(one["organisation"] or ""),
             "" if one.get("rows") is None else f"{one['rows']:,}") for one in facts]  # fmt: skip
    headers = ("at", "who", "archive", "by", "organisation", "rows")
    click.echo(text_table(Table(headers, rows, frozenset({5}))) if rows else "Nothing is on record.")
    return CLEAN


def _note(
    system: System, name: str, home: Home, verb_name: str, actor: str, what: dict[str, Any], organisation: str | None
) -> None:
    """On record before anything is shown; what cannot be recorded is not shown."""
    archive = system.archives.get(name) or system.archived_columns[name]
    said = {key: value for key, value in what.items() if value is not None}
    home.control.archive.note_read(
        system.name, actor, archive.table, {"archive": name, "verb": verb_name, **said}, organisation
    )


def _hash(text: str) -> str:
    """Tells whether something known was asked for, and not what was."""
    return sha256(text.encode()).hexdigest()
