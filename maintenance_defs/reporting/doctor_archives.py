"""What doctor says of archives: half a detach, months that stopped or are missing, rows that stayed too long, and
files that the catalogue and the store do not agree about. Reads only.

Source: S4-40, S4-76, S4-83; hazards C41, D52, I123; V6, V11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.health import published
from maintenance_defs.archive.survey import Survey, survey
from maintenance_defs.control.archive import FileRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import Archive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.quantities import format_duration
from maintenance_defs.core.retention_rules import enabled_by
from maintenance_defs.databases.partitions.ahead import gaps, next_month
from maintenance_defs.databases.partitions.catalog import PartitionedTable
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote
from maintenance_defs.reporting.archive_status import Seen, status_facts
from maintenance_defs.reporting.finding import Finding, Status
from maintenance_defs.reporting.text import count, shown
from maintenance_defs.stores import open_store

WHOLE_MONTH = timedelta(days=32)  # a row is hot for so much longer than `hot`, because whole months leave
LAST = chr(0x10FFFF)  # after every other character
NAMED = 3  # files that a finding names

Tell = Callable[..., Finding]


def examine_archives(system: System, home: Home, now: datetime) -> Iterator[Finding]:
    """Findings about every enabled archive of a system whose database and store are known here."""
    for name, archive in system.archives.items():
        if not enabled_by(archive.enabled, archive.enabled_env, home.environment):
            continue
        subject = f"archive {name}"

        def tell(status: Status, what: str, todo: str = "", *, subject: str = subject) -> Finding:
            return Finding(system.name, subject, status, what, todo)

        found = None
        if system.database.url_env in home.environment:
            try:
                with archive_database(system, home).snapshot() as snapshot:
                    found = survey(snapshot, archive, count=False)
                    yield from _table(tell, system, name, snapshot, found, now)
            except MaintenanceError as error:
                yield _failed(tell, error)
        yield from _units(tell, system, name, home, found, now)
        if archive.iceberg is not None:
            yield from _iceberg(tell, system, name, home)
        if system.stores[archive.store].url_env in home.environment:
            try:
                yield from _files(tell, system, name, home)
            except MaintenanceError as error:
                yield _failed(tell, error)


def _iceberg(tell: Tell, system: System, name: str, home: Home) -> Iterator[Finding]:
    try:
        sign = published(system, name, home)
    except MaintenanceError as error:
        yield _failed(tell, error)
        return
    for problem in sign.problems:
        what, _, todo = problem.partition(". ")
        yield tell("fail" if sign.severe else "warn", f"{what}.", todo)
    if sign.well:
        yield tell("ok", f"its Iceberg table names {count(int(sign.numbers['files']), 'file')}, as the catalogue says.")


def _failed(tell: Tell, error: MaintenanceError) -> Finding:
    what, _, todo = str(error).partition(". ")
    return tell("fail", what.rstrip(".") + ".", todo)


def _table(
    tell: Tell, system: System, name: str, snapshot: PostgresSnapshot, found: Survey, now: datetime
) -> Iterator[Finding]:
    archive, table = system.archives[name], found.table
    if isinstance(table, PartitionedTable):
        for part in table.partitions:
            if part.detach_pending:
                yield tell(
                    "fail", f"{part} has begun to leave {table} and is not out: its rows are kept, but no reader sees "
                    f"them, and inserts into its time fail.",
                    f"Finish it: maintain plan {system.name} {name}, then maintain apply {system.name}.",
                )  # fmt: skip
        yield from _months_ahead(tell, system, name, archive, table, now)
    oldest = _oldest(snapshot, archive, found)
    late = now - archive.hot - WHOLE_MONTH
    if oldest is not None and oldest < late:
        days = (now - oldest).days
        yield tell(
            "warn", f"the oldest row of {archive.table} is {days} days old; with {format_duration(archive.hot)} hot "
            f"and whole months none should be older than {format_duration(archive.hot + WHOLE_MONTH)}.",
            f"See what keeps it: maintain plan {system.name} {name}",
        )  # fmt: skip
    elif oldest is not None:
        yield tell("ok", f"the oldest row of {archive.table} is {(now - oldest).days} days old.")


def _oldest(snapshot: PostgresSnapshot, archive: Archive, found: Survey) -> datetime | None:
    """The time of the oldest row that has one; an index on it makes this instant."""
    time = quote(archive.time)
    kind = next(column for column in found.columns if column.name == archive.time)
    utc = time if kind.builtin == "timestamptz" else f"CAST({time} AS timestamp) AT TIME ZONE 'UTC'"
    rows = snapshot.rows(
        f"SELECT {utc} AS oldest FROM {quote(found.table.schema)}.{quote(found.table.name)} "
        f"WHERE {time} > '-infinity' AND {time} < 'infinity' ORDER BY {time} LIMIT 1"
    )
    return rows[0]["oldest"] if rows else None


def _months_ahead(
    tell: Tell, system: System, name: str, archive: Archive, table: PartitionedTable, now: datetime
) -> Iterator[Finding]:
    if table.partman is not None:
        yield tell("ok", f"{table} gets its months from pg_partman.")
        return
    starts = [now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    for _ in range(archive.months_ahead + 1):
        starts.append(next_month(starts[-1]))
    missing = [f"{lower:%Y-%m}" for lower, upper in pairwise(starts) if gaps(table, lower, upper)]
    if not missing:
        yield tell("ok", f"{table} has a partition for this month and the next {archive.months_ahead}.")
        return
    urgent = table.default is None and missing[0] == f"{starts[0]:%Y-%m}"
    then = "they go to the DEFAULT partition, and can only leave row by row" if table.default else "inserts fail"
    yield tell(
        "fail" if urgent else "warn", f"{table} has no partition for {', '.join(missing)}: {then}.",
        f"Make them: maintain archive ahead {system.name} {name}",
    )  # fmt: skip


def _units(tell: Tell, system: System, name: str, home: Home, found: Survey | None, now: datetime) -> Iterator[Finding]:
    facts = status_facts(system, name, home, now, Seen(found))
    for unit in facts["units"]:
        if unit["message"]:
            yield tell("warn", f"{unit['month']} stopped at {unit['since']}: {shown(unit['message'])}",
                       f"Try again: {unit['retry']}")  # fmt: skip
    if facts["units"] and not facts["totals"]["stopped"]:
        yield tell("ok", f"none of its {count(len(facts['units']), 'month')} stopped.")


@dataclass
class _Keys:
    """So many, and the first of them."""

    number: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, key: str) -> None:
        self.number += 1
        self.first += [key] if len(self.first) < NAMED else []

    def words(self) -> str:
        return ", ".join(map(shown, self.first)) + (", …" if self.number > NAMED else "")


@dataclass
class _Compared:
    files: int = 0
    missing: _Keys = field(default_factory=_Keys)
    other_size: _Keys = field(default_factory=_Keys)
    back: _Keys = field(default_factory=_Keys)  # expired, seen to be gone, and there again
    unknown: _Keys = field(default_factory=_Keys)

    @property
    def well(self) -> bool:
        return not any(keys.number for keys in (self.missing, self.other_size, self.back, self.unknown))


def _files(tell: Tell, system: System, name: str, home: Home) -> Iterator[Finding]:
    """The catalogue beside the store's own list; the bytes themselves are compared at every read and before a drop."""
    archive = system.archives[name]
    done = _compare(system, name, archive, home)
    for keys, status, what, todo in (
        (done.missing, "fail", "in the catalogue and not in the store: rows that are nowhere else cannot be read",
         "Bring them back, from a version or a replica of the store. Nothing is dropped from the table meanwhile."),
        (done.other_size, "fail", "of another size than was stored and proven",
         "Bring the right ones back, from a version or a replica of the store."),
        (done.back, "fail", "expired and in the store again", "See who put them there; delete them by hand."),
        (done.unknown, "warn", "in the store where the archive writes, and in no catalogue",
         f"A broken-off run leaves such files: maintain archive sweep {system.name} {name}, then reconcile."),
    ):  # fmt: skip
        if keys.number:
            yield tell(status, f"{count(keys.number, 'file is', 'files are')} {what}: {keys.words()}.", todo)
    if done.files and done.well:
        yield tell("ok", f"{count(done.files, 'file is', 'files are')} in the store as the catalogue says.")


def _compare(system: System, name: str, archive: Archive, home: Home) -> _Compared:
    states = ("live", "stored", "superseded", "expired")
    known: dict[str, FileRow] = {
        file.key: file for file in home.control.archive.files(system.name, name, states=states)
    }  # fmt: skip
    done = _Compared(sum(file.state == "live" for file in known.values()))
    begins = archive.path.split("{")[0]  # no other archive's do (check_archives)
    span = {"after": begins, "until": begins + LAST} if begins else {}
    seen: set[str] = set()
    store = open_store(archive.store, system.stores[archive.store], home.value)
    for batch in store.list(**span):
        rows: list[dict[str, Any]] = batch.select(["key", "size_bytes"]).to_pylist()
        for row in rows:
            if not row["key"].startswith(begins):
                continue
            file = known.get(row["key"])
            if file is None:
                done.unknown.add(row["key"])
            elif file.state == "expired" and file.object_gone_at is not None:
                done.back.add(row["key"])
            elif file.state == "live" and file.size_bytes != row["size_bytes"]:
                done.other_size.add(row["key"])
            seen |= {row["key"]} & known.keys()
    for key, file in known.items():
        if file.state == "live" and key not in seen:
            done.missing.add(key)
    return done
