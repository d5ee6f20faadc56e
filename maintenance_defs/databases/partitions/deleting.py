"""Rows deleted one by one where no partition can be dropped: exactly those that are archived, unchanged since.

A row goes only if its hash is still the one that was archived; every other stays for the next generation
(F78). Batches are recorded in the ledger in their own transaction, so a killed run goes on where it was (F80).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import PlainTable, Reference, read_references, read_relation
from maintenance_defs.databases.partitions.ours import ensure_ours
from maintenance_defs.databases.partitions.sql import act, ask, qualified, with_patience
from maintenance_defs.databases.statements import quote

HASH = "hash"
CASCADES = {"c": "cascade", "n": "set null", "d": "set default"}
# Columns of a key that tells every row from every other: unique, complete, valid, not null, not partial.
KEYS = """
SELECT i.indisprimary AS is_primary, (SELECT array_agg(a.attname::text ORDER BY u.n)
         FROM unnest(i.indkey::int2[]) WITH ORDINALITY u (attnum, n)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        WHERE u.n <= i.indnkeyatts) AS columns
  FROM pg_index i
 WHERE i.indrelid = CAST(%(oid)s AS oid) AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
   AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY u (attnum, n)
                     LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
                    WHERE u.n <= i.indnkeyatts AND (u.attnum = 0 OR NOT a.attnotnull))
 ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
"""
SIDE_EFFECTS = """
SELECT 'trigger ' || t.tgname || ' of ' || n.nspname || '.' || c.relname AS what
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND (t.tgtype & 8) <> 0 AND c.oid = ANY (CAST(%(oids)s AS oid[]))
UNION
SELECT 'rule ' || r.rulename || ' of ' || n.nspname || '.' || c.relname
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE r.ev_type = '4' AND c.oid = ANY (CAST(%(oids)s AS oid[]))
ORDER BY 1
"""
TYPES = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, format_type(a.atttypid, NULL) AS bare
  FROM pg_attribute a
 WHERE a.attrelid = CAST(%(oid)s AS oid) AND a.attnum > 0 AND NOT a.attisdropped
"""
# Families of relations whose foreign keys a deletion here fires: the table, its partitions, its parents.
FAMILY = """
SELECT relid::int8 AS oid FROM pg_partition_tree(CAST(%(oid)s AS oid))
UNION SELECT relid::int8 FROM pg_partition_ancestors(CAST(%(oid)s AS oid))
UNION SELECT CAST(%(oid)s AS int8)
"""


@dataclass(frozen=True)
class Deleted:
    """deleted, kept: rows of the list, over all runs of the unit. kept: changed, locked, referred to, or gone."""

    deleted: int
    kept: int


@dataclass(frozen=True)
class Doomed:
    """What a deletion is made of, quoted and looked up once."""

    table: PlainTable
    keys: tuple[tuple[str, str], ...]  # column, type
    span: str  # the condition on time
    guards: tuple[Reference, ...]  # a row that one of these refers to stays


def delete_rows(
    database: ArchiveDatabase,
    table: str,
    key_columns: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    *,
    unit_id: str,
    time_column: str,
    lower: datetime | None,
    upper: datetime | None,
    actor: str,
    batch: int = 5000,
    before_batch: Callable[[], None] | None = None,
    progress: Callable[[Deleted], None] | None = None,
    cascades_allowed: bool = False,
    triggers_allowed: bool = False,
) -> Deleted:
    """Delete the listed rows that are unchanged, of a plain table, a partition, or a partitioned table as a whole.

    batches: the key columns as text, and `hash` int64: hashtextextended(t::text, 0) of the row, taken from this
        same relation (a partition may have another column order than its parent). The same order at each run.
    lower, upper: aware UTC, half-open; a row outside them stays, whatever the list says.
    before_batch: may wait, as for replicas (see wait_for_replicas).
    Raises Refused, nothing deleted: no_key, cascades, triggers, no_column, naive_time, not_the_list.
    """
    with database.transaction() as connection:
        ensure_ours(connection)
        doomed = prepare(connection, table, key_columns, time_column, lower, upper)
        _refuse_side_effects(connection, doomed, cascades_allowed=cascades_allowed, triggers_allowed=triggers_allowed)
        if cascades_allowed:
            guards = tuple(one for one in doomed.guards if one.on_delete not in CASCADES)
            doomed = Doomed(doomed.table, doomed.keys, doomed.span, guards)
        seen, total, finished = _so_far(connection, unit_id)
    if finished:
        return Deleted(total, seen - total)
    for rows in _slices(batches, [*(column for column, _ in doomed.keys), HASH], batch, seen):
        if before_batch is not None:
            before_batch()
        start, old = seen, total

        def once(rows: pa.RecordBatch = rows, start: int = start, old: int = old) -> tuple[int, int]:
            with database.transaction() as connection:
                ask(connection, "SELECT pg_advisory_xact_lock(hashtextextended(%(unit)s, 7))", unit=unit_id)
                done = _so_far(connection, unit_id)
                if done[0] != start:  # the answer to our commit was lost, or another run works on the unit
                    if done[0] == start + rows.num_rows and done[1] >= old:
                        return done[0], done[1]
                    raise Refused("busy", f"another run deletes the rows of unit {unit_id}. This one stopped.")
                kept = delete_batch(connection, doomed, rows)
                gone = rows.num_rows - len(kept)
                _record(connection, doomed, unit_id, actor, lower, upper, gone, start + rows.num_rows, kept)
                return start + rows.num_rows, old + gone

        seen, total = with_patience(once, 60.0)
        if progress is not None:
            progress(Deleted(total, seen - total))
    with database.transaction() as connection:
        _record(connection, doomed, unit_id, actor, lower, upper, 0, seen, act="all rows seen")
    return Deleted(total, seen - total)


def refuse_deleting(
    database: ArchiveDatabase,
    table: str,
    key_columns: Sequence[str],
    time_column: str,
    lower: datetime | None,
    upper: datetime | None,
) -> None:
    """Raises Refused where delete_rows would before its first batch: no_key, cascades, triggers, … Changes nothing."""
    with database.transaction() as connection:
        doomed = prepare(connection, table, key_columns, time_column, lower, upper)
        _refuse_side_effects(connection, doomed, cascades_allowed=False, triggers_allowed=False)


def prepare(
    connection: Connection,
    table: str,
    key_columns: Sequence[str],
    time_column: str,
    lower: datetime | None,
    upper: datetime | None,
) -> Doomed:
    """Look the table up. Raises Refused: no_key (F79), no_column, naive_time."""
    found = read_relation(connection, table)
    types = {row["name"]: row for row in ask(connection, TYPES, oid=found.oid)}
    absent = [column for column in [*key_columns, time_column] if column not in types]
    if absent:
        raise Refused("no_column", f"{found} has no column {', '.join(absent)}. Nothing was deleted.")
    if not key_columns or not any(set(key) <= set(key_columns) for key in row_keys(connection, found.oid)):
        named = f"({', '.join(key_columns)})" if key_columns else "nothing"
        what = f"{named} is no primary key and no unique key of not-null columns"
        raise Refused(
            "no_key",
            f"rows of {found} cannot be told apart: {what}. Nothing was deleted; add such a key, or archive it by "
            f"partitions.",
        )
    parts = ["true"]
    for sign, bound in ((">=", lower), ("<", upper)):
        if bound is not None:
            if bound.tzinfo is None:
                raise Refused("naive_time", "bounds need a time zone. Nothing was deleted.")
            instant = f"TIMESTAMPTZ '{bound.isoformat()}'"
            if types[time_column]["bare"] != "timestamp with time zone":
                instant = f"({instant} AT TIME ZONE 'UTC')"
            parts.append(f"t.{quote(time_column)} {sign} {instant}")
    references = {
        (one.schema, one.table, one.name): one
        for row in ask(connection, FAMILY, oid=found.oid)
        for one in read_references(connection, row["oid"])
    }
    keys = tuple((column, types[column]["type"]) for column in key_columns)
    return Doomed(found, keys, " AND ".join(parts), tuple(references.values()))


def row_keys(connection: Connection, oid: int) -> list[tuple[str, ...]]:
    """The keys that tell every row of the relation from every other, the primary key first."""
    return [tuple(row["columns"]) for row in ask(connection, KEYS, oid=oid)]


def kept_rows(connection: Connection, unit_id: str) -> Iterator[list[tuple[str, ...]]]:
    """Keys of the listed rows that we did not delete, as text, a batch at a time: they changed, or others did it."""
    last = 0
    while True:
        found = ask(
            connection,
            "SELECT id, kept FROM maintenance_archive.ledger WHERE unit_id = %(unit)s AND kept IS NOT NULL "
            "AND id > %(last)s ORDER BY id LIMIT 1",
            unit=unit_id,
            last=last,
        )
        if not found:
            return
        last = found[0]["id"]
        yield [tuple(key) for key in found[0]["kept"]]


def delete_batch(connection: Connection, doomed: Doomed, rows: pa.RecordBatch) -> list[tuple[str, ...]]:
    """Delete those of the rows that are unchanged and not referred to; the keys of the others.

    Rows are locked first and deleted by a second statement: only that one sees who began to refer to them
    before the lock; afterwards nobody can. A row locked by another is skipped (it is being changed).
    """
    # A key is probed by its index. Left alone, the planner reads a table of a million rows for every batch.
    act(connection, "SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off")
    names = [f"k{n}" for n in range(len(doomed.keys))]
    keys = list(zip(names, doomed.keys, strict=True))
    table, columns = _percent(doomed.table.qualified), ", ".join(names)
    same = _percent(" AND ".join(f"t.{quote(column)} = b.{name}" for name, (column, _) in keys))
    casts = ", ".join(f"CAST({name} AS {_percent(kind)}) AS {name}" for name, (_, kind) in keys)
    lists = ", ".join(f"CAST(%({name})s AS text[])" for name in names)
    values: dict[str, list[Any]] = {name: rows.column(n).to_pylist() for n, name in enumerate(names)}
    asked = list(zip(*values.values(), strict=True))
    locked = ask(
        connection,
        f"WITH b AS MATERIALIZED (SELECT {casts}, h, n FROM unnest({lists}, CAST(%(h)s AS bigint[])) WITH ORDINALITY "
        f"u ({columns}, h, n))\nSELECT b.n FROM {table} t JOIN b ON {same}\n"
        f" WHERE hashtextextended(CAST(t.* AS text), 0) = b.h AND {_percent(doomed.span)} FOR UPDATE OF t SKIP LOCKED",
        **values,
        h=rows.column(len(names)).to_pylist(),
    )
    places = sorted({row["n"] - 1 for row in locked})
    if not places:
        return asked
    guards = _percent("".join(f" AND NOT EXISTS (SELECT FROM {_refers(one)})" for one in doomed.guards))
    gone = ask(
        connection,
        f"WITH b AS MATERIALIZED (SELECT {casts}, n FROM unnest({lists}, CAST(%(n)s AS bigint[])) u ({columns}, n))\n"
        f"DELETE FROM {table} t USING b WHERE {same}{guards} RETURNING b.n",
        **{name: [column[place] for place in places] for name, column in values.items()},
        n=places,
    )
    done = {row["n"] for row in gone}
    return [key for place, key in enumerate(asked) if place not in done]


def wait_for_replicas(
    database: ArchiveDatabase, most_behind_bytes: int, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return when no replica that follows this server is further behind; for `before_batch` of delete_rows.

    In bytes of log, since the lag in seconds that the server shows stands still while a replica does (measured).
    Raises Refused (replicas_hidden) when the role may not see how far they are.
    """
    while True:
        with database.transaction() as connection:
            found = ask(
                connection,
                "SELECT count(*) FILTER (WHERE state IS NULL) AS hidden, count(*) FILTER (WHERE pg_wal_lsn_diff("
                "pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn)) > %(most)s) AS late FROM pg_stat_replication",
                most=most_behind_bytes,
            )[0]
        if found["hidden"]:
            raise Refused(
                "replicas_hidden",
                "the role may not see how far replicas are behind. Nothing more was deleted; grant it pg_monitor.",
            )
        if not found["late"]:
            return
        sleep(1.0)


def _refers(one: Reference) -> str:
    """FROM and WHERE of the rows that refer to `t`."""
    pairs = zip(one.columns, one.referred, strict=True)
    same = " AND ".join(f"r.{quote(column)} = t.{quote(referred)}" for column, referred in pairs)
    return f"{qualified(one.schema, one.table)} r WHERE {same}"


def _refuse_side_effects(
    connection: Connection, doomed: Doomed, cascades_allowed: bool, triggers_allowed: bool
) -> None:
    found = []
    for one in doomed.guards:
        if one.on_delete in CASCADES and not cascades_allowed:
            count = ask(
                connection,
                f"SELECT count(*) AS rows FROM {doomed.table.qualified} t JOIN LATERAL (SELECT FROM {_refers(one)}) x "
                f"ON true WHERE {doomed.span}",
            )[0]["rows"]
            if count:
                found.append(f"{one} (on delete {CASCADES[one.on_delete]}): {count:,} rows")
    if found:
        raise Refused(
            "cascades",
            f"deleting rows of {doomed.table} would also change {'; '.join(found)}. Nothing was deleted; archive those "
            f"rows first, or allow it.",
        )
    oids = [row["oid"] for row in ask(connection, FAMILY, oid=doomed.table.oid)]
    effects = [row["what"] for row in ask(connection, SIDE_EFFECTS, oids=oids)]
    if effects and not triggers_allowed:
        raise Refused(
            "triggers",
            f"deleting rows of {doomed.table} would set off {'; '.join(effects)}. Nothing was deleted; allow it if "
            f"what they do may happen.",
        )


def _slices(batches: Iterable[pa.RecordBatch], names: list[str], size: int, skip: int) -> Iterator[pa.RecordBatch]:
    """The list in slices of at most `size`, without the first `skip` rows."""
    for one in batches:
        if one.schema.names != names:
            raise Refused(
                "not_the_list",
                f"a list of rows has columns {one.schema.names} instead of {names}. None of its rows was deleted.",
            )
        if skip >= one.num_rows:
            skip -= one.num_rows
            continue
        rows = one.slice(skip)
        skip = 0
        for start in range(0, rows.num_rows, size):
            yield rows.slice(start, size)


def _so_far(connection: Connection, unit_id: str) -> tuple[int, int, bool]:
    """(rows of the list looked at, rows deleted, whether all were looked at) by all runs of the unit."""
    row = ask(
        connection,
        "SELECT coalesce(max(seen), 0)::int8 AS seen, coalesce(sum(rows), 0)::int8 AS rows, "
        "coalesce(bool_or(act = 'all rows seen'), false) AS finished FROM maintenance_archive.ledger "
        "WHERE unit_id = %(unit)s AND act IN ('rows deleted', 'all rows seen')",
        unit=unit_id,
    )[0]
    return row["seen"], row["rows"], row["finished"]


def _record(
    connection: Connection, doomed: Doomed, unit_id: str, actor: str, lower: datetime | None, upper: datetime | None,
    rows: int, seen: int, kept: Sequence[tuple[str, ...]] = (), act: str = "rows deleted",
) -> None:  # fmt: skip
    ask(
        connection,
        "INSERT INTO maintenance_archive.ledger (unit_id, act, relation, lower, upper, rows, seen, actor, kept) "
        "VALUES (%(unit)s, %(act)s, %(relation)s, %(lower)s, %(upper)s, %(rows)s, %(seen)s, %(actor)s, "
        "CAST(%(kept)s AS jsonb)) ON CONFLICT DO NOTHING RETURNING 1",
        unit=unit_id, act=act, relation=str(doomed.table), lower=lower, upper=upper, rows=rows, seen=seen, actor=actor,
        kept=json.dumps(kept) if kept else None,
    )  # fmt: skip


def _percent(sql: str) -> str:
    """The driver reads every percent sign as a marker."""
    return sql.replace("%", "%%")
