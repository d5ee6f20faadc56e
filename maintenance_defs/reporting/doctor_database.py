"""The database as a declaration sees it: rights, tables, columns, and what a few rows would resolve to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from maintenance_defs.control.home import Home
from maintenance_defs.core import resolve
from maintenance_defs.core.declaration import Reference, RowCheck, System
from maintenance_defs.core.errors import SourceUnavailable
from maintenance_defs.databases import open_database
from maintenance_defs.databases.base import Snapshot, Table
from maintenance_defs.databases.urls import reading_url
from maintenance_defs.reconcile.reading.rows import from_table, right_to_read
from maintenance_defs.reconcile.reading.store_names import store_names
from maintenance_defs.reporting.finding import Finding, Status, Where
from maintenance_defs.reporting.text import count, shown

PREVIEW_ROWS = 5
SHOWN_TABLES = 20
SAMPLE_ROWS = 1000  # enough to see every usual form of URL, few enough to be instant
INDEX_WORTH_ROWS = 1_000_000  # below, the server sorts in seconds

ROLE = "SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user"
RIGHTS = """
SELECT has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes, c.relrowsecurity AS guarded,
       c.reltuples::bigint AS row_estimate
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = :schema AND c.relname = :name
"""
SORTED_INDEXES = """
SELECT a.attname AS name
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
  JOIN pg_collation k ON k.oid = i.indcollation[0]
 WHERE n.nspname = :schema AND c.relname = :name AND k.collname IN ('C', 'POSIX')
"""


def examine_database(system: System, home: Home, *, where: Where, folder: Path) -> Iterator[Finding]:
    """Findings about the database. Raises MaintenanceError when it cannot be read at all."""
    tell = _teller(system)
    database = open_database(reading_url(system, home.value))
    names = store_names(system, home)
    began = time.monotonic()
    with database.snapshot() as snapshot:
        took = time.monotonic() - began
        yield tell(
            "database", "ok", f"{database.display_url} answers in {took * 1000:.0f} ms: {snapshot.evidence.version}."
        )
        yield from _moment(tell, snapshot)
        tables: dict[str, tuple[Table, list[Reference]]] = {}
        for number, reference in enumerate(system.references):
            wanted = _columns(reference.id, reference.object.columns, reference.size, reference.dated_by)
            table, wrong = _table(tell, snapshot, reference, wanted, where(("references", number)))
            if wrong is not None:
                yield wrong
            if table is not None:
                tables.setdefault(str(table), (table, []))[1].append(reference)
                yield from _preview(tell, snapshot, table, reference, names)
        if snapshot.dialect == "postgresql":
            if not home.is_demo(system.database.url_env):  # the demonstration made its own, and owns it
                yield from _role(tell, snapshot, [table for table, _ in tables.values()])
            for table, references in tables.values():
                yield from _indexes(tell, snapshot, table, references)
        for name, check in system.checks.items():
            form = check.requires.columns if check.requires else ()
            wanted = _columns(check.id, form, *check.show)
            _, wrong = _table(tell, snapshot, check, wanted, where(("checks", name)))
            if wrong is not None:
                yield wrong
        yield from _queries(tell, snapshot, system, folder)


class _teller:
    def __init__(self, system: System) -> None:
        self._system = system.name

    def __call__(self, subject: str, status: Status, what: str, todo: str = "") -> Finding:
        return Finding(self._system, subject, status, what, todo)


def _columns(*groups: str | tuple[str, ...] | None) -> list[str]:
    return [c for group in groups if group for c in ((group,) if isinstance(group, str) else group)]


def _moment(tell: _teller, snapshot: Snapshot) -> Iterator[Finding]:
    """What the age of an orphan will be measured against (I5)."""
    evidence = snapshot.evidence
    if evidence.is_replica:
        known = evidence.replayed_at is not None
        yield tell(
            "database", "warn", "is a replica" + ("." if known else " that does not say how far it has come."),
            "Read from the primary: nothing may be acted on by a replica's word.",
        )  # fmt: skip
    elif not evidence.oldest_transaction_known:
        yield tell(
            "database", "warn", "this role may not see other sessions, so an open transaction may hide rows.",
            "GRANT pg_read_all_stats to it; until then nothing may be acted on.",
        )  # fmt: skip


def _role(tell: _teller, snapshot: Snapshot, tables: list[Table]) -> Iterator[Finding]:
    """Whether the role may do more than read (H14), and what was hidden from it (A07)."""
    if any(role["superuser"] for role in snapshot.rows(ROLE)):
        yield tell(
            "database role", "warn", "is a superuser; reports need only SELECT.",
            "Use a role with SELECT on the declared tables (deploy/README.md).",
        )  # fmt: skip
        return
    rights = {str(table): snapshot.rows(RIGHTS, {"schema": table.schema, "name": table.name}) for table in tables}
    if writable := [table for table, seen in rights.items() if any(row["writes"] for row in seen)]:
        yield tell("database role", "warn", f"may write to {', '.join(writable)}.", "Reports need only SELECT.")
    else:
        yield tell("database role", "ok", "can only read the declared tables.")
    if guarded := [table for table, seen in rights.items() if any(row["guarded"] for row in seen)]:
        told = "have row-level security; they were read with row_security = off, so nothing was hidden."
        yield tell("database role", "ok", f"{', '.join(guarded)} {told}")


def _indexes(tell: _teller, snapshot: Snapshot, table: Table, references: list[Reference]) -> Iterator[Finding]:
    place = {"schema": table.schema, "name": table.name}
    rows = max((seen["row_estimate"] for seen in snapshot.rows(RIGHTS, place)), default=0)
    if rows < INDEX_WORTH_ROWS:
        return
    sorted_columns = {seen["name"] for seen in snapshot.rows(SORTED_INDEXES, place)}
    for reference in references:
        column = reference.object.column
        if column and column not in sorted_columns:
            names = ", ".join(snapshot.quote(name) for name in reference.id)
            yield tell(
                f"table {table}", "warn", f"about {rows:,} rows are sorted by {column} for every snapshot.",
                f'An index makes that free: CREATE INDEX CONCURRENTLY ON {table} ({snapshot.quote(column)} '
                f'COLLATE "C", {names});',
            )  # fmt: skip


def _table(
    tell: _teller, snapshot: Snapshot, declared: Reference | RowCheck, wanted: list[str], place: str
) -> tuple[Table | None, Finding | None]:
    """The table if it and its columns are there, else what is wrong and where that is declared."""
    subject = f"table {declared.table}"
    table = snapshot.table(declared.table)
    if table is None:
        if declared.optional:
            return None, tell(subject, "ok", f"is not there, and need not be ({place}).")
        seen = [str(found) for found in snapshot.tables()]
        names = ", ".join(seen[:SHOWN_TABLES]) + (", …" if len(seen) > SHOWN_TABLES else "")
        return None, tell(subject, "fail", f"is not there ({place}).", f"This role sees {names or 'no table'}.")
    known = set(table.columns) if snapshot.dialect == "postgresql" else {column.lower() for column in table.columns}
    missing = [c for c in wanted if (c if snapshot.dialect == "postgresql" else c.lower()) not in known]
    if missing:
        todo = f"It has {', '.join(table.columns)}."
        return None, tell(subject, "fail", f"has no column {', '.join(missing)} ({place}).", todo)
    if denied := [c for c in wanted if c in table.unreadable]:
        told = f"hides column {', '.join(denied)} from this role ({place})."
        return None, tell(subject, "fail", told, right_to_read(table, *denied))
    for predicate in _predicates(declared):
        try:
            snapshot.rows(f"SELECT 1 AS one FROM {from_table(snapshot, table)}\nWHERE 1 = 0 AND (\n{predicate}\n)")
        except SourceUnavailable as error:
            return None, tell(subject, "fail", f"does not take `{predicate}` ({place}): {error}", "Correct it.")
    return table, None


def _predicates(declared: Reference | RowCheck) -> list[str]:
    """The declaration's own SQL about a row; a check's may name instants, and is tried when it runs."""
    if isinstance(declared, RowCheck):
        return []
    return [predicate for predicate in (declared.releases_reference, declared.in_progress) if predicate is not None]


def _preview(
    tell: _teller, snapshot: Snapshot, table: Table, reference: Reference, names: Sequence[resolve.StoreNames]
) -> Iterator[Finding]:
    """What the first rows resolve to (S0-9), and how a sample of values reads (S1-33)."""
    rows = _sample(snapshot, table, reference)
    with duckdb.connect() as con:
        resolve.prepare(con)
        found = resolve.resolve(con, reference, names, rows)
        kinds = dict(con.sql("SELECT kind, count(*) FROM found GROUP BY kind ORDER BY kind").fetchall())
        first = con.sql(f"SELECT coalesce(key, value, reason, kind) FROM found LIMIT {PREVIEW_ROWS}").fetchall()
        del found
    subject = f"reference {reference}"
    if not rows.num_rows:
        status: Status = "ok" if reference.protects_only else "warn"
        yield tell(subject, status, "the table is empty.", "" if status == "ok" else "Is it the right one (A01)?")
        return
    examples = ", ".join(shown(str(value)) for (value,) in first)
    numbers = ", ".join(f"{kind} {number:,}" for kind, number in kinds.items())
    unread = kinds.get("unresolvable", 0)
    yield tell(
        subject, "warn" if unread else "ok", f"of {count(rows.num_rows, 'row')}: {numbers}. First: {examples}.",
        "Values that cannot be read block automatic acts: declare their host, or correct them." if unread else "",
    )  # fmt: skip


def _sample(snapshot: Snapshot, table: Table, reference: Reference) -> pa.Table:
    """The first rows in the shape the resolver takes; nothing of them leaves this module but what it resolves to."""

    def text(column: str) -> str:
        actual = next((c for c in table.columns if c == column), None) or next(
            c for c in table.columns if c.lower() == column.lower()
        )
        return snapshot.as_text(snapshot.quote(actual), table.columns[actual])

    columns = [f"{text(reference.id[0])} AS row_id"]
    columns += [f"{text(column)} AS v{n}" for n, column in enumerate(resolve.needed_columns(reference))]
    source = ".".join(snapshot.quote(part) for part in (table.schema, table.name) if part)
    read = snapshot.read(f"SELECT {', '.join(columns)} FROM {source} LIMIT {SAMPLE_ROWS}").read_all()
    schema = resolve.rows_schema(reference)
    return pa.table(
        [
            read.column(field.name).cast(field.type)
            if field.name in read.column_names
            else pa.nulls(read.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def _queries(tell: _teller, snapshot: Snapshot, system: System, folder: Path) -> Iterator[Finding]:
    for name, query in system.queries.items():
        subject = f"query {name}"
        missing = []
        for needed, columns in query.needs.items():
            table = snapshot.table(needed)
            missing += [f"{needed}.{c}" for c in columns if table is None or c not in table.columns]
        if missing:
            named = f"migration {query.migration} is not applied: " if query.migration else ""
            yield tell(subject, "warn", f"{named}{', '.join(missing)} missing.", "The report leaves this table out.")
            continue
        if not (folder / query.sql).is_file():
            yield tell(subject, "fail", f"{folder / query.sql} is not there.", "Write it, or remove the query.")
            continue
        yield from _timed(tell, subject, snapshot, (folder / query.sql).read_text(encoding="utf-8"))


def _timed(tell: _teller, subject: str, snapshot: Snapshot, sql: str) -> Iterator[Finding]:
    parameters: dict[str, Any] = {"as_of": snapshot.evidence.taken_at} if ":as_of" in sql else {}
    began = time.monotonic()
    try:
        rows = snapshot.rows(sql, parameters)
    except SourceUnavailable as error:
        yield tell(subject, "fail", str(error))
    else:
        yield tell(subject, "ok", f"{count(len(rows), 'row')} in {(time.monotonic() - began) * 1000:.0f} ms.")
