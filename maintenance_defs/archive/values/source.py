"""The table of an archived column in SQL, and its rows as they are judged.

What a declaration says is over the bare table, which therefore has no alias, and beside it stand only names that no
table of people has. A declared expression that fails on one row fails for that row alone.
Source: S4-50, S4-51, S4-55; archive hazards F79, F85; V2, V3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote as percent_encoded

from maintenance_defs.archive.values.registering import Registering, open_registering
from maintenance_defs.control.home import Home
from maintenance_defs.core.archive import UNKNOWN, ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused, RowSecurity, SourceUnavailable
from maintenance_defs.core.parameters import named_parameters
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.retention_rules import timings_of_checks
from maintenance_defs.databases.base import Table
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote
from maintenance_defs.reconcile.reading.rows import column_of, from_table

ID_TYPES = ("uuid", "smallint", "integer", "bigint", "text", "character varying")  # whose text says which row it is
UNIQUE = """
SELECT EXISTS (
  SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
   WHERE i.indrelid = CAST(:table AS regclass) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
     AND i.indnkeyatts = 1 AND a.attnotnull AND a.attname = :id) AS found
"""
TEXT, SLIM = '"maintenance text"', '"maintenance slim"'


@dataclass(frozen=True)
class Source:
    """SQL over the bare table. `finished` and `checks` say which rows may go and which are held."""

    table: Table
    sql: str  # "public"."jobs"
    id: str
    id_type: str
    id_text: str
    column: str
    assigned: str  # "result", as SET takes it
    kind: str  # json, jsonb
    organisation: str
    dated: str
    finished: str
    slim: str
    checks: dict[str, str]
    registering: Registering | None = None

    @property
    def typeof(self) -> str:
        return f"{self.kind}_typeof"

    @property
    def whole(self) -> str:
        """The whole row: its hash tells whether it is still the one that was read (V2)."""
        return f"hashtextextended(({quote(self.table.name)}.*)::text, 0)"

    @property
    def is_object(self) -> str:
        return f"{self.typeof}({self.column}) = 'object'"

    def ids(self, parameter: str = ":ids") -> str:
        """The condition that is true for these rows."""
        return f"{self.id} = ANY(CAST({parameter} AS {self.id_type}[]))"


@dataclass(frozen=True)
class Row:
    """One row at the snapshot's moment. text and hash: only where the whole was asked for.

    slim_sha256: of the text of the value that would stay; None where the declared expression gives no object,
    `trouble` says why not. digest: SHA-256 of the value's text.
    """

    row_id: str
    organisation: str
    dated_at: datetime | None
    finished: bool
    shape: str | None
    size_bytes: int
    digest: str
    slim_sha256: str | None
    trouble: str | None = None
    hash: int | None = None
    text: str | None = None


def open_source(
    snapshot: PostgresSnapshot, system: System, archive: ColumnArchive, home: Home, as_of: datetime
) -> Source:
    """Raises SourceUnavailable for what is not there or cannot be meant, Refused for a table without a row id."""
    table = snapshot.table(archive.table)
    if table is None:
        raise SourceUnavailable(f"there is no table {archive.table}. Nothing was archived.")
    at = from_table(snapshot, table)

    def named(name: str, of: Table = table, where: str = at) -> tuple[str, str]:
        column = column_of(of, name, snapshot)
        return f"{where}.{quote(column)}", of.columns[column]

    id_, id_type = named(archive.id)
    column, kind = named(archive.column)
    dated, time_type = named(archive.time)
    base = re.sub(r"\(.*\)", "", id_type)
    if kind not in ("json", "jsonb"):
        raise Refused(
            "no_json", f"{archive.table}.{archive.column} is {kind}, not json or jsonb. Nothing was archived."
        )
    unique = snapshot.rows(UNIQUE, {"table": at, "id": archive.id})[0]["found"]
    if base not in ID_TYPES or not unique:
        why = f"is {id_type}" if unique else "is not unique and NOT NULL by an index of its own"
        raise Refused(
            "no_row_id",
            f"{archive.table}.{archive.id} {why}, so a row cannot be told from another by it. Nothing was archived; "
            f"declare a column of type {', '.join(ID_TYPES[:-1])} or varchar that is (F79).",
        )
    timings = timings_of_checks(system, home.environment, as_of)
    source = Source(
        table=table,
        sql=at,
        id=id_,
        id_type=base,
        id_text=f"CAST({id_} AS text)",
        column=column,
        assigned=quote(column_of(table, archive.column, snapshot)),
        kind=kind,
        organisation=_organisation(snapshot, archive, table, at),
        dated=snapshot.as_instant(dated, time_type),
        finished=written(archive.where, as_of, timings),
        slim=written(archive.slim, as_of, timings),
        checks={name: written(system.checks[name].where or "true", as_of, timings) for name in archive.holds},
    )
    if archive.register_ is not None:
        rows = written(archive.register_.rows, as_of, timings)
        source = replace(source, registering=open_registering(snapshot, archive.register_, rows))
    # What is wrong with the SQL itself is said at once, not of every row.
    snapshot.rows(f"SELECT CAST((\n{source.slim}\n) AS {kind}), (\n{source.finished}\n) FROM {at} WHERE false")
    return source


def written(sql: str, as_of: datetime, timings: dict[str, str]) -> str:
    """Declared SQL with its parameters as literals, so that it can stand in any statement."""
    for name, value in named_parameters(sql, as_of, timings).items():
        said = f"TIMESTAMPTZ '{format_instant(value)}'" if isinstance(value, datetime) else str(int(value))
        sql = re.sub(rf"(?<![:\w]):{name}\b", said, sql)
    return sql


def _organisation(snapshot: PostgresSnapshot, archive: ColumnArchive, table: Table, at: str) -> str:
    declared = archive.organisation
    if declared is None:
        return "CAST(NULL AS text)"
    if declared.table is None:
        return f"CAST({at}.{quote(column_of(table, declared.column, snapshot))} AS text)"
    other = snapshot.table(declared.table)
    if other is None:
        raise SourceUnavailable(f"there is no table {declared.table}, which organisation names. Nothing was archived.")
    alias = '"maintenance organisation"'
    pairs = " AND ".join(
        f"{alias}.{quote(column_of(other, theirs, snapshot))} = {at}.{quote(column_of(table, mine, snapshot))}"
        for mine, theirs in declared.by.items()
    )
    owner = f"CAST({alias}.{quote(column_of(other, declared.column, snapshot))} AS text)"
    return f"(SELECT {owner} FROM {from_table(snapshot, other)} AS {alias} WHERE {pairs})"


def read_rows(snapshot: PostgresSnapshot, source: Source, row_ids: Sequence[str], *, whole: bool) -> dict[str, Row]:
    """The rows with these ids, by id; whole: with text and hash. A row that is gone is not in it.

    A declared expression that fails on a row gives that row `trouble`. Raises SourceUnavailable otherwise.
    """
    if not row_ids:
        return {}
    try:
        found = snapshot.rows(_select(source, whole), {"ids": list(row_ids)}, limit=len(row_ids))
    except RowSecurity:
        raise
    except SourceUnavailable as error:
        if error.transient:
            raise
        if len(row_ids) > 1:  # which one it is, by halves
            half = len(row_ids) // 2
            first = read_rows(snapshot, source, row_ids[:half], whole=whole)
            return first | read_rows(snapshot, source, row_ids[half:], whole=whole)
        without = replace(source, slim=f"CAST(NULL AS {source.kind})", finished="false")
        rows = read_rows(snapshot, without, row_ids, whole=whole) if source != without else None
        if rows is None:
            raise
        return {id_: replace(row, trouble="the declared SQL fails on it") for id_, row in rows.items()}
    wanted = set(row_ids)
    rows = {row["row_id"]: _row(row) for row in found}
    return {row_id: row for row_id, row in rows.items() if row_id in wanted}  # the collation may know others as equal


def _select(source: Source, whole: bool) -> str:
    more = f", {TEXT} AS text, {source.whole} AS hash" if whole else ""
    slim = f"CASE WHEN {source.is_object} THEN CAST((\n{source.slim}\n) AS {source.kind}) END"
    return f"""
SELECT {source.id_text} AS row_id, {source.organisation} AS organisation, {source.dated} AS dated_at,
       coalesce((\n{source.finished}\n), false) AS finished, {source.typeof}({source.column}) AS shape,
       octet_length({TEXT}) AS size_bytes, {sha256(TEXT)} AS digest,
       CASE WHEN {source.typeof}({SLIM}) = 'object' THEN {sha256(f"CAST({SLIM} AS text)")} END AS slim{more}
  FROM {source.sql}
 CROSS JOIN LATERAL (SELECT CAST({source.column} AS text) AS {TEXT} OFFSET 0) AS "maintenance one"
 CROSS JOIN LATERAL (SELECT {slim} AS {SLIM} OFFSET 0) AS "maintenance two"
 WHERE {source.ids()}"""


def sha256(text: str) -> str:
    """SQL: of the UTF-8 bytes, in hexadecimal."""
    return f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"


def _row(row: dict[str, Any]) -> Row:
    return Row(
        row["row_id"], UNKNOWN if row["organisation"] is None else row["organisation"], row["dated_at"],
        row["finished"], row["shape"], row["size_bytes"] or 0, row["digest"] or "", row["slim"],
        hash=row.get("hash"), text=row.get("text"),
    )  # fmt: skip


def checked_rows(snapshot: PostgresSnapshot, source: Source, row_ids: Sequence[str]) -> dict[str, str]:
    """Which of these rows a check holds: row id -> its name (S4-51)."""
    held: dict[str, str] = {}
    for name, predicate in source.checks.items():
        if source.registering is not None and name == source.registering.check:
            continue  # its rows are written in the act
        sql = f"SELECT {source.id_text} AS row_id FROM {source.sql} WHERE {source.ids()} AND (\n{predicate}\n)"
        for row in snapshot.rows(sql, {"ids": list(row_ids)}, limit=len(row_ids)) if row_ids else ():
            held.setdefault(row["row_id"], name)
    return held


def place_of(archive: ColumnArchive, row_id: str, organisation: str) -> str:
    """The key of a row's object. Other characters than letters, digits and `_.-~` are percent-encoded, so that two
    rows never share a key and none leads out of its folder (C44, C49).
    """
    return archive.path.replace("{org}", segment(organisation)).replace("{id}", segment(row_id))


def segment(text: str) -> str:
    said = percent_encoded(text, safe="")
    return said.replace(".", "%2E") or "%" if set(said) <= {"."} else said  # '' and '..' are no folders
