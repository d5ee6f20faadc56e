"""A detached partition set aside: out of the application's schema, readable by its owner, written by nobody (D6).

What it was (name, bounds, grants, comment) is kept beside it, so that the undo gives everything back.
Identity is oid and comment together: a table of the same name, or a restored copy, is not it (D66).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable
from maintenance_defs.databases.partitions.grants import grant, read_grants, revoke
from maintenance_defs.databases.partitions.ours import SCHEMA, ensure_ours
from maintenance_defs.databases.partitions.sql import act, ask, fitted, literal, name_taken, qualified, with_patience
from maintenance_defs.databases.statements import quote

COMMENT = "maintenance unit "
TRIGGER = "maintenance_refuse_writes"
# The table, and below it whatever it is itself partitioned into; what moves with them are indexes and sequences.
TREE = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, t.level
  FROM pg_partition_tree(CAST(%(oid)s AS oid)) t
  JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
UNION SELECT c.oid::int8, n.nspname, c.relname, 0
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = CAST(%(oid)s AS oid)
 ORDER BY level, oid
"""
COMPANIONS = """
SELECT i.indexrelid::int8 AS oid FROM pg_index i WHERE i.indrelid = ANY (CAST(%(oids)s AS oid[]))
UNION
SELECT c.oid::int8 FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
   AND d.refobjid = ANY (CAST(%(oids)s AS oid[]))
 ORDER BY 1
"""
PARKED = """
SELECT p.unit_id, p.relation::int8 AS oid, c.relname AS name, n.nspname AS schema, p.table_oid::int8 AS table_oid,
       p.table_schema, p.table_name, p.schema AS old_schema, p.name AS old_name, p.bounds, p.lower, p.upper,
       p.grants, p.names, p.comment, p.parked_at, c.relispartition AS attached,
       obj_description(c.oid, 'pg_class') AS marked
  FROM maintenance_archive.parked p
  LEFT JOIN pg_class c ON c.oid = p.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.unit_id = %(unit)s
"""


@dataclass(frozen=True)
class Parked:
    """A partition that waits in our schema. schema, name: where it is now; table, partition: what it was."""

    unit_id: str
    oid: int
    schema: str
    name: str
    table_oid: int
    table_schema: str
    table_name: str
    partition: Partition
    parked_at: datetime

    @property
    def qualified(self) -> str:
        return qualified(self.schema, self.name)

    @property
    def table(self) -> str:
        """The partitioned table it came from, quoted."""
        return qualified(self.table_schema, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def park(
    database: ArchiveDatabase,
    table: PartitionedTable,
    partition: Partition,
    unit_id: str,
    *,
    wait_seconds: float = 60.0,
) -> Parked:
    """Move the detached partition into our schema, take every grant away and refuse every write; in one transaction.

    table, partition: as they were read before the detach. Parking again answers the same.
    Raises Refused, nothing changed: gone, changed, still_attached, not_permitted, unit_id, parked_for_another.
    """
    if not unit_id or "\n" in unit_id:
        raise Refused("unit_id", "a unit's id is one line of text. Nothing was changed.")

    def once() -> Parked:
        with database.transaction() as connection:
            ensure_ours(connection)
            known = find_parked(connection, unit_id)
            if known is not None:
                if known.oid != partition.oid:
                    raise Refused(
                        "parked_for_another",
                        f"unit {unit_id} has parked {known}, not {partition}. Nothing was changed.",
                    )
                return known
            _park(connection, table, partition, unit_id)
            parked = find_parked(connection, unit_id)
            assert parked is not None, "the row was inserted by this transaction"  # noqa: S101
            return parked

    return with_patience(once, wait_seconds)


def find_parked(connection: Connection, unit_id: str) -> Parked | None:
    """The unit's parked partition; None when it has none.

    Raises Refused: parked_gone when its table was dropped, not_ours when it is there without our mark, or
    attached to some table: not by us, so nothing is done to it (D66, V10).
    """
    if not ask(connection, "SELECT to_regclass('maintenance_archive.parked') IS NOT NULL AS there")[0]["there"]:
        return None
    found = ask(connection, PARKED, unit=unit_id)
    if not found:
        return None
    row = found[0]
    if row["name"] is None:
        raise Refused(
            "parked_gone",
            f"the table of unit {unit_id} (oid {row['oid']}, once {row['old_schema']}.{row['old_name']}) was dropped "
            f"or restored by somebody else. Nothing was changed; find out who did it before anything expires.",
        )
    if row["marked"] != COMMENT + unit_id or row["attached"]:
        raise Refused(
            "not_ours",
            f"{row['schema']}.{row['name']} does not carry the mark of unit {unit_id}, or belongs to a table again: "
            f"somebody else changed it. Nothing was changed.",
        )
    return Parked(
        unit_id=unit_id,
        **{key: row[key] for key in ("oid", "schema", "name", "table_oid", "table_schema", "table_name", "parked_at")},
        partition=Partition(row["oid"], row["old_schema"], row["old_name"], row["bounds"], row["lower"], row["upper"]),
    )


def unpark(connection: Connection, unit_id: str) -> list[str]:
    """Give the parked table its schema, names, grants and comment back, inside the caller's transaction.

    Returns roles that are gone meanwhile, and so got no grant. Raises as find_parked; not_parked.
    """
    parked = find_parked(connection, unit_id)
    if parked is None:
        raise Refused("not_parked", f"unit {unit_id} has no parked table. Nothing was changed.")
    kept = ask(connection, PARKED, unit=unit_id)[0]
    act(connection, f"LOCK TABLE {parked.qualified} IN ACCESS EXCLUSIVE MODE")
    for old in kept["names"]:
        here = _relation(connection, old["oid"])
        if here is None:
            continue  # an index that somebody dropped meanwhile
        if old["moves"]:
            act(connection, f"DROP TRIGGER IF EXISTS {TRIGGER} ON {qualified(*here)}")
        if here[1] != old["name"]:
            act(connection, f"ALTER TABLE {qualified(*here)} RENAME TO {quote(old['name'])}")
        if old["moves"]:
            act(connection, f"ALTER TABLE {qualified(here[0], old['name'])} SET SCHEMA {quote(old['schema'])}")
    missing = set()
    for one in kept["grants"]:
        here = _relation(connection, one["oid"])
        if here is not None and not grant(connection, one, qualified(*here)):
            missing.add(one["grantee"])
    comment = "NULL" if kept["comment"] is None else literal(kept["comment"])
    act(connection, f"COMMENT ON TABLE {parked.partition.qualified} IS {comment}")
    ask(connection, "DELETE FROM maintenance_archive.parked WHERE unit_id = %(unit)s RETURNING 1", unit=unit_id)
    return sorted(missing)


def _park(connection: Connection, table: PartitionedTable, partition: Partition, unit_id: str) -> None:
    here = _relation(connection, partition.oid)
    if here is None:
        raise Refused("gone", f"{partition} (oid {partition.oid}) is not there any more. Nothing was changed.")
    if here != (partition.schema, partition.name):
        raise Refused("changed", f"{partition} is now called {'.'.join(here)}. Nothing was changed; plan it again.")
    act(connection, f"LOCK TABLE {partition.qualified} IN ACCESS EXCLUSIVE MODE")
    attached = "SELECT relispartition AS attached FROM pg_class WHERE oid = CAST(%(oid)s AS oid)"
    if ask(connection, attached, oid=partition.oid)[0]["attached"]:
        raise Refused("still_attached", f"{partition} is still a partition. Nothing was changed; detach it first.")
    tree = ask(connection, TREE, oid=partition.oid)
    oids = [row["oid"] for row in tree]
    grants = read_grants(connection, oids)
    comment = ask(connection, "SELECT obj_description(CAST(%(oid)s AS oid), 'pg_class') AS text", oid=partition.oid)
    names: list[dict[str, Any]] = []
    taken = name_taken(connection, SCHEMA)
    for companion in ask(connection, COMPANIONS, oids=oids):
        schema, name = _relation(connection, companion["oid"]) or ("", "")
        names.append({"oid": companion["oid"], "moves": False, "schema": schema, "name": name})
        if taken(name):
            free = fitted(name, f"_{companion['oid']}", taken)
            act(connection, f"ALTER TABLE {qualified(schema, name)} RENAME TO {quote(free)}")
    for row in tree:
        names.append({"oid": row["oid"], "moves": True, "schema": row["schema"], "name": row["name"]})
        name = fitted(row["name"], f"_{row['oid']}", taken) if taken(row["name"]) else row["name"]
        place = qualified(row["schema"], row["name"])
        if name != row["name"]:
            act(connection, f"ALTER TABLE {place} RENAME TO {quote(name)}")
        act(connection, f"ALTER TABLE {qualified(row['schema'], name)} SET SCHEMA {SCHEMA}")
        place = qualified(SCHEMA, name)
        for one in grants:
            if one["oid"] == row["oid"]:
                revoke(connection, one, place)
        # The owner, whom the application may be, keeps its rights whatever is revoked: hence the trigger.
        act(
            connection,
            f"CREATE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {place} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse_writes()",
            f"ALTER TABLE {place} ENABLE ALWAYS TRIGGER {TRIGGER}",
        )
        if row["oid"] == partition.oid:
            act(connection, f"COMMENT ON TABLE {place} IS {literal(COMMENT + unit_id)}")
    ask(
        connection,
        "INSERT INTO maintenance_archive.parked (unit_id, relation, table_oid, table_schema, table_name, schema, name, "
        "bounds, lower, upper, grants, names, comment) VALUES (%(unit)s, %(oid)s, %(table_oid)s, %(table_schema)s, "
        "%(table_name)s, %(schema)s, %(name)s, %(bounds)s, %(lower)s, %(upper)s, %(grants)s, %(names)s, %(comment)s) "
        "RETURNING 1",
        unit=unit_id, oid=partition.oid, table_oid=table.oid, table_schema=table.schema, table_name=table.name,
        schema=partition.schema, name=partition.name, bounds=partition.bounds, lower=partition.lower,
        upper=partition.upper, grants=json.dumps(grants), names=json.dumps(names), comment=comment[0]["text"],
    )  # fmt: skip


def _relation(connection: Connection, oid: int) -> tuple[str, str] | None:
    found = ask(
        connection,
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = CAST(%(oid)s AS oid)",
        oid=oid,
    )
    return (found[0]["schema"], found[0]["name"]) if found else None
