"""The short transaction that turns a plain table into the first partition of a new one; see converting.py.

No row is read or moved: what needs reading was proven before. The order is: the old table steps aside with a
key that fits, the new one takes its name and is given everything the old one had, the old one is attached.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.partitions.ahead import gaps, make_month, months_of
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, read_partitioned
from maintenance_defs.databases.partitions.conversion import PROOF, Conversion, key_index
from maintenance_defs.databases.partitions.grants import grant, read_grants
from maintenance_defs.databases.partitions.sql import act, ask, fitted, literal, name_taken, qualified
from maintenance_defs.databases.statements import quote

INDEXES = """
SELECT x.relname AS name, pg_get_indexdef(i.indexrelid) AS definition, k.conname AS constraint, k.contype::text AS kind,
       pg_get_constraintdef(k.oid) AS constraint_definition, i.indisunique AS is_unique,
       %(time)s = ANY (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = i.indrelid
                          AND a.attnum = ANY (i.indkey::int2[])) AS has_time
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
  LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u')
 WHERE i.indrelid = CAST(%(oid)s AS oid) ORDER BY x.relname
"""
KEYS_OUT = """
SELECT k.conname AS name, pg_get_constraintdef(k.oid) AS definition, n.nspname AS schema, c.relname AS table
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.conrelid = CAST(%(oid)s AS oid) AND k.contype = 'f' AND k.confrelid <> k.conrelid
 ORDER BY n.nspname, c.relname, k.conname
"""
TRIGGERS = """
SELECT tgname AS name, pg_get_triggerdef(oid) AS definition FROM pg_trigger
 WHERE tgrelid = CAST(%(oid)s AS oid) AND NOT tgisinternal ORDER BY tgname
"""
SEQUENCES = """
SELECT a.attname AS column, a.attidentity::text AS identity, d.deptype::text AS how, n.nspname AS schema,
       c.relname AS name, format_type(s.seqtypid, NULL) AS type, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,
       s.seqcache, s.seqcycle
  FROM pg_depend d
  JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_sequence s ON s.seqrelid = c.oid
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
   AND d.refobjid = CAST(%(oid)s AS oid) ORDER BY a.attnum
"""
FACTS = """
SELECT obj_description(c.oid, 'pg_class') AS comment, c.relreplident::text AS identity,
       (SELECT k.conname FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p') AS primary_key
  FROM pg_class c WHERE c.oid = CAST(%(oid)s AS oid)
"""


@dataclass(frozen=True)
class Converted:
    """legacy: the partition that the old rows are. locked_seconds: how long nobody could use the table.

    again: an earlier run had done it; nothing was done now.
    """

    table: PartitionedTable
    legacy: Partition
    created: tuple[Partition, ...]
    locked_seconds: float
    again: bool


def swap(
    connection: Connection, plan: Conversion, first: Conversion, now: datetime, months_ahead: int,
    default_partition: bool, naming: str,
) -> Converted:  # fmt: skip
    """The short transaction. plan: read in it; first: the one that was prepared for."""
    old, schema = plan.table, plan.table.schema
    oid, place = old.oid, old.qualified
    if oid != first.table.oid or plan.key != first.key:
        raise Refused("cannot_convert", f"{old} was changed by somebody else meanwhile. It is as they left it.")
    taken = name_taken(connection, schema)
    keys_out = ask(connection, KEYS_OUT, oid=oid)
    for referred in sorted({qualified(row["schema"], row["table"]) for row in keys_out}):
        act(connection, f"LOCK TABLE ONLY {referred} IN SHARE ROW EXCLUSIVE MODE")
    act(connection, f"LOCK TABLE ONLY {place} IN ACCESS EXCLUSIVE MODE")
    began = time.monotonic()
    facts = ask(connection, FACTS, oid=oid)[0]
    indexes = [row for row in ask(connection, INDEXES, oid=oid, time=plan.time_column) if row["name"] != key_index(old)]
    triggers, sequences = ask(connection, TRIGGERS, oid=oid), ask(connection, SEQUENCES, oid=oid)
    grants = read_grants(connection, [oid])

    # The old table steps aside, with a key that fits.
    for one in old.references:
        act(connection, f"ALTER TABLE {qualified(one.schema, one.table)} DROP CONSTRAINT {quote(one.name)}")
    for row in triggers:
        act(connection, f"DROP TRIGGER {quote(row['name'])} ON {place}")
    legacy = fitted(old.name, "_legacy", taken)
    aside = qualified(schema, legacy)
    act(connection, f"ALTER TABLE {place} RENAME TO {quote(legacy)}")
    act(connection, f"ALTER TABLE {aside} ALTER COLUMN {quote(plan.time_column)} SET NOT NULL")
    if plan.builds_key:
        act(
            connection,
            f"ALTER TABLE {aside} DROP CONSTRAINT {quote(facts['primary_key'])}",
            f"ALTER TABLE {aside} ADD CONSTRAINT {quote(fitted(facts['primary_key'], '_legacy', taken))} "
            f"PRIMARY KEY USING INDEX {key_index(old)}",
        )
        indexes = [row for row in indexes if row["kind"] != "p"]
    indexes = [row for row in indexes if row["has_time"] or not row["is_unique"]]
    for row in indexes:
        act(connection, f"ALTER INDEX {qualified(schema, row['name'])} RENAME TO "
                        f"{quote(fitted(row['name'], '_legacy', taken))}")  # fmt: skip
    positions = [_put_off(connection, row, aside) for row in sequences]

    # The new one takes its name; what it is made of is written as it was for the old.
    act(
        connection,
        f"CREATE TABLE {place} (LIKE {aside} INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY) "
        f"PARTITION BY RANGE ({quote(plan.time_column)})",
        f"ALTER TABLE {place} DROP CONSTRAINT {PROOF}",
        f"ALTER TABLE {place} OWNER TO {quote(old.owner)}",
    )
    if plan.builds_key and plan.key is not None:
        columns = ", ".join(quote(column) for column in plan.key)
        act(connection, f"ALTER TABLE {place} ADD CONSTRAINT {quote(facts['primary_key'])} PRIMARY KEY ({columns})")
    for row in indexes:
        if row["constraint"]:
            act(
                connection,
                f"ALTER TABLE {place} ADD CONSTRAINT {quote(row['constraint'])} {row['constraint_definition']}",
            )
        else:
            act(connection, row["definition"])
    for row in keys_out:
        act(connection, f"ALTER TABLE {place} ADD CONSTRAINT {quote(row['name'])} {row['definition']}")
    if facts["identity"] in ("f", "n"):
        act(connection, f"ALTER TABLE {place} REPLICA IDENTITY {'FULL' if facts['identity'] == 'f' else 'NOTHING'}")
    act(connection, f"ALTER TABLE {place} ATTACH PARTITION {aside} FOR VALUES FROM (MINVALUE) TO ({limit_of(plan)})")
    act(connection, f"ALTER TABLE {aside} DROP CONSTRAINT {PROOF}")
    for row, position in zip(sequences, positions, strict=True):
        _take_over(connection, row, position, place)
    act(connection, *(row["definition"] for row in triggers))
    if facts["comment"] is not None:
        act(connection, f"COMMENT ON TABLE {place} IS {literal(facts['comment'])}")
    for given in grants:
        grant(connection, given, place)
    if plan.target != old.name:
        act(connection, f"ALTER TABLE {place} RENAME TO {quote(plan.target)}")
    return _finish(connection, plan, grants, legacy, now, months_ahead, default_partition, naming, began)


def _finish(
    connection: Connection, plan: Conversion, grants: list[dict[str, Any]], legacy: str, now: datetime,
    months_ahead: int, default_partition: bool, naming: str, began: float,
) -> Converted:  # fmt: skip
    """The months to come, and the old name as a view where the table has a new one; in the same transaction."""
    place = qualified(plan.table.schema, plan.target)
    table = read_partitioned(connection, place)
    created = []
    for lower, upper in months_of(max(now, plan.boundary), 0) + months_of(now, months_ahead):
        for gap in gaps(table, lower, upper):
            made, _, _ = make_month(connection, place, *gap, naming, 0.0)
            created += [made] if made is not None else []
        table = read_partitioned(connection, place)
    if default_partition:
        name = fitted(plan.target, "_default", name_taken(connection, plan.table.schema))
        rest = qualified(plan.table.schema, name)
        act(
            connection,
            f"CREATE TABLE {rest} PARTITION OF {place} DEFAULT",
            f"ALTER TABLE {rest} OWNER TO {quote(plan.table.owner)}",
        )
    if plan.target != plan.table.name:
        view = plan.table.qualified
        invoker = ask(connection, "SELECT current_setting('server_version_num')::int >= 150000 AS known")[0]["known"]
        act(
            connection,
            f"CREATE VIEW {view} {'WITH (security_invoker = true) ' if invoker else ''}AS SELECT * FROM {place}",
            f"ALTER VIEW {view} OWNER TO {quote(plan.table.owner)}",
        )
        for given in grants:
            grant(connection, given, view)
    table = read_partitioned(connection, place)
    found = next(part for part in table.partitions if part.name == legacy)
    return Converted(table, found, tuple(created), time.monotonic() - began, again=False)


def _put_off(connection: Connection, sequence: dict[str, Any], aside: str) -> tuple[int, bool]:
    """Take an identity off the old table, whose partitions may not have one; where it stood. A serial stays."""
    place = qualified(sequence["schema"], sequence["name"])
    at = ask(connection, f"SELECT last_value, is_called FROM {place}")[0]
    if sequence["how"] == "i":
        act(connection, f"ALTER TABLE {aside} ALTER COLUMN {quote(sequence['column'])} DROP IDENTITY")
    return at["last_value"], at["is_called"]


def _take_over(connection: Connection, sequence: dict[str, Any], at: tuple[int, bool], place: str) -> None:
    """The new table goes on counting where the old one stood."""
    named, column = qualified(sequence["schema"], sequence["name"]), quote(sequence["column"])
    if sequence["how"] == "a":  # a serial: it would go with the old rows if they still owned it
        act(connection, f"ALTER SEQUENCE {named} OWNED BY {place}.{column}")
        return
    act(
        connection,
        f"ALTER TABLE {place} ALTER COLUMN {column} ADD GENERATED "
        f"{'ALWAYS' if sequence['identity'] == 'a' else 'BY DEFAULT'} AS IDENTITY (SEQUENCE NAME {named} "
        f"START WITH {sequence['seqstart']} INCREMENT BY {sequence['seqincrement']} MINVALUE {sequence['seqmin']} "
        f"MAXVALUE {sequence['seqmax']} CACHE {sequence['seqcache']}{' CYCLE' if sequence['seqcycle'] else ''})",
    )
    ask(
        connection,
        "SELECT setval(%(name)s::regclass, %(at)s, %(called)s)",
        name=named, at=at[0], called=at[1],
    )  # fmt: skip


def limit_of(plan: Conversion) -> str:
    """The boundary as the time column has it."""
    return f"'{plan.boundary.isoformat(sep=' ')}'" if plan.key_type == "timestamp with time zone" else (
        f"'{plan.boundary:%Y-%m-%d}'"
    )  # fmt: skip
