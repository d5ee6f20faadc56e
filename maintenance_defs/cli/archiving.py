"""The verbs of archives: what writes them, and how far they came. `plan` and `apply` take months out of their tables.

Reading is archive_reading.py, bringing back archive_undoing.py, letting go archive_forgetting.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from maintenance_defs.cli import Verbs
from maintenance_defs.cli.shared import (
    CLEAN,
    FINDINGS,
    PARTIAL,
    as_of_option,
    load_system,
    print_json,
    progress,
    system_argument,
    verb,
    working_home,
)

if TYPE_CHECKING:
    from maintenance_defs.archive.units.exporting import Work
    from maintenance_defs.control.home import Home
    from maintenance_defs.core.declaration import System
    from maintenance_defs.core.errors import MaintenanceError

ARCHIVE_VERBS: Mapping[str, Mapping[str, str]] = {
    "Write": {"run": "archiving", "status": "archiving", "publish": "archive_publishing"},
    "Read": {
        "get": "archive_reading",
        "query": "archive_reading",
        "views": "archive_reading",
        "reads": "archive_reading",
    },
    "Undo and forget": {
        "restore": "archive_undoing",
        "expire": "archive_forgetting",
        "sweep": "archive_forgetting",
        "shred": "archive_forgetting",
    },
    "Tables": {"ahead": "archive_tables", "convert": "archive_tables"},
}

archive_argument = click.argument("name", metavar="[ARCHIVE]", required=False)


class Month(click.ParamType["str"]):
    """A UTC month: 2025-10."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value):
            self.fail(f"{value!r} is no month; write it as 2025-10", param, ctx)
        return str(value)


class _ArchiveVerbs(Verbs):
    verbs = ARCHIVE_VERBS


@click.group(cls=_ArchiveVerbs, short_help="Months of growing tables in files: write, read, restore them.")
def archive() -> None:
    """Months of tables that only grow, as files: write, look at, read and restore them.

    A month goes through three commands: `archive run` writes and proves its files and removes nothing; `plan` says
    what would leave the table then, and what has expired; `apply` does that, once its digest was repeated.

    Every one of these takes --json and --debug, and has a --help of its own.
    """


def names(system: System, name: str | None, home: Home) -> list[str]:
    """The archive that was named, else every enabled one. Raises Refused where there is none."""
    from maintenance_defs.archive.declared import find_archive
    from maintenance_defs.cli.kinds import enabled_names
    from maintenance_defs.core.errors import Refused

    if name is not None:
        find_archive(system, name)
        return [name]
    found = [one for one in enabled_names(system, home) if one in system.archives]
    if not found:
        raise Refused("no_archive", f"{system.name} declares no archive that is enabled here. Nothing was done.")
    return found


def instant_or_now(as_of: datetime | None) -> datetime:
    """Raises AsOfInTheFuture."""
    from maintenance_defs.core.errors import AsOfInTheFuture
    from maintenance_defs.core.quantities import format_instant

    now = datetime.now(UTC)
    if as_of is not None and as_of > now:
        raise AsOfInTheFuture(f"as-of {format_instant(as_of)} lies in the future. Nothing was done.")
    return as_of or now


def work_on(system: System, name: str, home: Home, as_of: datetime, as_json: bool) -> Work:
    """What the steps of a unit need; its lines go to stderr where JSON is on stdout."""
    from maintenance_defs.archive.units.exporting import Work

    run_id = uuid.uuid4().hex
    owner = f"{run_id}-{uuid.uuid4().hex[:8]}"
    return Work(system, name, home, owner, as_of, run_id, lambda line: click.echo(line, err=as_json))


@click.command(short_help="Write cold months to files and prove them; remove nothing.")
@click.argument("system_name", metavar="SYSTEM")
@archive_argument
@click.option("--month", type=Month(), metavar="YYYY-MM", help="Only this one.")
@as_of_option
@verb
def run(system_name: str, name: str | None, month: str | None, as_of: datetime | None, as_json: bool) -> int:
    """Export every cold month of ARCHIVE, read the files back, prove them and enter them into the catalogue.

    Nothing leaves its table: that is what `maintain plan` proposes next. What is done already is not done again.
    Without ARCHIVE, every enabled one of SYSTEM. Exits with 1 if some months could not be done.

    \b
      maintain archive run shop
      maintain archive run shop order_log --month 2025-10
    """
    from maintenance_defs.reporting.archive_status_text import run_lines

    system = load_system(system_name).system
    told: list[dict[str, Any]] = []
    failures: list[MaintenanceError] = []
    with working_home() as home:
        at = instant_or_now(as_of)
        for one in names(system, name, home):
            facts, failed = _run(system, one, home, month, at, as_json)
            told.append(facts)
            failures += [failed] if failed is not None else []
            if not as_json:
                click.echo("\n".join(run_lines(facts)))
    done = any(facts["archived"] or facts["already"] for facts in told)
    if failures and not done and len(told) == 1:
        raise failures[0]
    if as_json:
        print_json({"system": system.name, "archives": told})
    return PARTIAL if failures else CLEAN


def _run(
    system: System, name: str, home: Home, month: str | None, at: datetime, as_json: bool
) -> tuple[dict[str, Any], MaintenanceError | None]:
    """What a run came to, and what stopped some of it."""
    from maintenance_defs.archive.gate import run_archive
    from maintenance_defs.core.errors import MaintenanceError
    from maintenance_defs.reporting.archive_status import run_facts

    failed: MaintenanceError | None = None
    began = home.control.now()
    with progress(shown=not as_json) as step:
        try:
            run_archive(
                system, name, home, run_id=uuid.uuid4().hex, as_of=at, label=month,
                progress=lambda units: step(f"{system.name}/{name}: months", units),
                log=lambda line: click.echo(line, err=as_json),
            )  # fmt: skip
        except MaintenanceError as error:
            failed = error
    return run_facts(system, name, home, month=month, as_of=at, began=began, failed=failed), failed


@click.command(short_help="Say how far each month came, and what is next.")
@system_argument
@click.argument("archive_name", metavar="[ARCHIVE]", required=False)
@as_of_option
@click.option(
    "--fail-on-findings",
    is_flag=True,
    help="Exit with 1 if a month stopped, a detach is not finished, or an Iceberg table is not right.",
)
@verb
def status(name: str, archive_name: str | None, as_of: datetime | None, fail_on_findings: bool, as_json: bool) -> int:
    """Say of each month of ARCHIVE how far it came, how large it was and is, what is next and when, and why it stopped;
    of an archived column how many values came how far. Restored copies are named, and how to drop them.

    Without ARCHIVE, of every one that SYSTEM declares. Exits with 1 where the database could not be asked.
    """
    from maintenance_defs.archive.declared import find_archive
    from maintenance_defs.core.errors import Refused
    from maintenance_defs.reporting.archive_iceberg import iceberg_facts
    from maintenance_defs.reporting.archive_status import column_facts, status_facts
    from maintenance_defs.reporting.archive_status_text import column_lines, status_lines

    system = load_system(name).system
    if archive_name is not None and archive_name not in system.archived_columns:
        find_archive(system, archive_name)
    wanted = [archive_name] if archive_name is not None else [*system.archives, *system.archived_columns]
    if not wanted:
        raise Refused("no_archive", f"{system.name} declares no archive.")
    with working_home() as home:
        at = instant_or_now(as_of)
        columns = [column_facts(system, one, home) for one in wanted if one in system.archived_columns]
        told = [
            status_facts(system, one, home, at) | {"iceberg": iceberg_facts(system, one, home)}
            for one in wanted
            if one not in system.archived_columns
        ]
    if as_json:
        print_json({"system": system.name, "archives": told, "columns": columns})
    else:
        texts = [status_lines(facts) for facts in told] + [column_lines(facts) for facts in columns]
        click.echo("\n\n".join("\n".join(lines) for lines in texts))
    findings = any(
        facts["totals"]["stopped"] or facts["pending_detaches"] or (facts["iceberg"] and not facts["iceberg"]["well"])
        for facts in told
    )
    if any(facts["database"] for facts in told):
        return PARTIAL
    return FINDINGS if fail_on_findings and findings else CLEAN
