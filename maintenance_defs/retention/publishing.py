"""Telling the application what a reconciliation found of its rows: which file of each is there (S3-37).

The one write that takes nothing away: it adds to, and updates, a table that a migration of ours made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import Publication, System
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.reconcile.comparing.inputs import reference_files
from maintenance_defs.reconcile.inventory import FILE
from maintenance_defs.retention.doors import open_database_for_acting

BATCH = 1000  # rows of one statement
COLUMNS = ("checked_at", "effective_key", "state", "reason")


@dataclass(frozen=True)
class Published:
    """counts: rows by state; message: why nothing was written."""

    table: str
    counts: Mapping[str, int] = field(default_factory=dict)
    message: str | None = None

    def words(self) -> str:
        """One line."""
        if self.message is not None:
            return f"{self.table}: {self.message}"
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(self.counts.items(), reverse=True))
        return f"{self.table}: {counts or 'no rows'}."


def publish(system: System, home: Home, *, only: str | None = None) -> dict[str, Published]:
    """Write what the newest diff says of every declared publication, by name; nothing where it cannot be trusted.

    A row is 'ok' under the first of its declared references whose object is there and not empty, 'broken' where
    the diff found none, 'unknown' where it could not tell. An answer is never replaced by that of an older look.
    Raises SourceUnavailable, Refused and EnvironmentMissing where the table cannot be written.
    Source: S3-37; A3-3.
    """
    diff = home.control.latest(system.name, "orphan_diff")
    return {name: _publish(system, home, one, diff) for name, one in system.publishes.items() if only in (None, name)}


def _publish(system: System, home: Home, one: Publication, diff: Artefact | None) -> Published:
    if diff is None or diff.verdict != "complete" or diff.uri is None:
        why = "there is none" if diff is None else f"it is {diff.verdict}"
        return Published(one.table, message=f"the last reconciliation is not complete ({why}). Nothing was written.")
    database = open_database_for_acting(system, home)
    exists = (
        f"SELECT to_regclass({literal(one.table)}) IS NOT NULL AS there"
        if database.dialect == "postgresql"
        else f"SELECT COUNT(*) AS there FROM sqlite_schema WHERE name = {literal(one.table)}"
    )
    with database.script(read_only=True) as script:
        if not script.ask(exists)[0]["there"]:
            migration = f"migration {one.migration} is not applied: " if one.migration else ""
            return Published(one.table, message=f"{migration}there is no table {one.table}. Nothing was written.")
    counts: dict[str, int] = {}
    with TemporaryDirectory() as spool, calculator(Path(spool)) as con:
        _judge(system, home, one, diff, con)
        found = con.execute("SELECT row_id, effective_key, state, reason FROM health ORDER BY row_id")
        with database.script() as script:
            while rows := found.fetchmany(BATCH):
                script.run(_upsert(one, format_instant(diff.as_of), rows))
                for row in rows:
                    counts[row[2]] = counts.get(row[2], 0) + 1
    return Published(one.table, counts)


def _judge(system: System, home: Home, one: Publication, diff: Artefact, con: duckdb.DuckDBPyConnection) -> None:
    """Table `health` (row_id, effective_key, state, reason) of the rows of `one.of`."""
    inputs = [home.control.get(id_) for id_ in diff.inputs]
    references = next(a for a in inputs if a.kind == "references")
    folder = home.artefacts.local(references.uri or "", references.digest)
    named = ["SELECT NULL::VARCHAR AS row_id, NULL::INTEGER AS number, NULL::VARCHAR AS key, false AS there"]
    for artefact in inputs:
        if artefact.kind != "inventory" or artefact.uri is None or artefact.name not in system.referenced_stores:
            continue
        inventory = literal(home.artefacts.local(artefact.uri, artefact.digest) / FILE)
        for file in reference_files(system, references, folder, artefact.name):
            if file.table == one.of and file.claims:
                named.append(
                    f"SELECT regexp_replace(f.row_id, '\\[[0-9]+\\]$', ''), {file.number}, f.key, "
                    f"coalesce(i.key IS NOT NULL AND i.size_bytes IS DISTINCT FROM 0, false) "
                    f"FROM read_parquet({literal(file.path)}) f LEFT JOIN read_parquet({inventory}) i USING (key)"
                )
    said = literal(home.artefacts.local(diff.uri or "", diff.digest) / "rows.parquet")
    broken = "'missing_candidate', 'missing_confirmed', 'object_removed'"
    con.execute(
        f"""
        CREATE TEMP TABLE health AS
        WITH named AS (
            SELECT row_id, arg_min(key, number) FILTER (there) AS effective_key, arg_min(key, number) AS first_key
            FROM ({" UNION ALL ".join(named)}) WHERE row_id IS NOT NULL GROUP BY row_id
        ), judged AS (
            SELECT row_id, min(item) AS item, min(coalesce(reason, item)) AS reason FROM read_parquet({said})
            WHERE starts_with(source, {literal(one.of + ":")}) GROUP BY row_id
        )
        SELECT coalesce(n.row_id, j.row_id) AS row_id, n.effective_key,
            CASE WHEN n.effective_key IS NOT NULL THEN 'ok' WHEN j.item IN ({broken}) THEN 'broken'
                ELSE 'unknown' END AS state,
            CASE WHEN n.effective_key IS NULL THEN coalesce(j.reason || coalesce(': ' || n.first_key, ''),
                'its object is empty: ' || n.first_key) END AS reason
        FROM named n FULL JOIN judged j USING (row_id)
        """
    )


def _upsert(one: Publication, checked_at: str, rows: list[tuple[str | None, ...]]) -> str:
    """INSERT … ON CONFLICT, in the words of both dialects."""
    table = ".".join(_quoted(part) for part in one.table.split("."))
    values = ",\n".join(
        f"({_text(row_id)}, {_text(checked_at)}, {_text(key)}, {_text(state)}, {_text(reason)})"
        for row_id, key, state, reason in rows
    )
    columns = ", ".join(_quoted(name) for name in (one.id, *COLUMNS))
    updates = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in COLUMNS)
    mine = _quoted(one.table.split(".")[-1])
    return (
        f"INSERT INTO {table} ({columns}) VALUES {values}\nON CONFLICT ({_quoted(one.id)}) DO UPDATE SET {updates} "
        f"WHERE {mine}.checked_at <= excluded.checked_at"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str | None) -> str:
    return "NULL" if value is None else literal(value)
