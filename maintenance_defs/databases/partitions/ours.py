"""The schema of ours in the source database: where parked partitions wait, and what was removed from it.

The ledger lives beside the rows so that a removal and its record commit together; the control database,
which is elsewhere, is repaired from it (D69).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.partitions.sql import act, ask, state_of
from maintenance_defs.databases.statements import quote

SCHEMA = "maintenance_archive"
LOCK_KEY = 0x6D61_6172  # of the advisory lock under which the schema is created
TABLES = (
    """
CREATE TABLE IF NOT EXISTS maintenance_archive.parked (
  unit_id text PRIMARY KEY,
  relation oid NOT NULL UNIQUE,
  table_oid oid NOT NULL, table_schema text NOT NULL, table_name text NOT NULL,
  schema text NOT NULL, name text NOT NULL,
  bounds text NOT NULL, lower timestamptz, upper timestamptz,
  grants jsonb NOT NULL, names jsonb NOT NULL, comment text,
  parked_at timestamptz NOT NULL DEFAULT clock_timestamp())
""",
    """
CREATE TABLE IF NOT EXISTS maintenance_archive.ledger (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  unit_id text NOT NULL,
  act text NOT NULL CHECK (act IN ('dropped', 'rows deleted', 'all rows seen', 'returned')),
  relation text NOT NULL, lower timestamptz, upper timestamptz,
  rows bigint NOT NULL, seen bigint, fingerprint text, kept jsonb,
  at timestamptz NOT NULL DEFAULT clock_timestamp(), actor text NOT NULL)
""",
    """
CREATE UNIQUE INDEX IF NOT EXISTS ledger_once ON maintenance_archive.ledger (unit_id)
 WHERE act IN ('dropped', 'all rows seen')
""",
    "CREATE INDEX IF NOT EXISTS ledger_unit ON maintenance_archive.ledger (unit_id, id)",
    """
CREATE OR REPLACE FUNCTION maintenance_archive.refuse_writes() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'the rows of %.% are archived and may not change; nothing was written', TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'read_only_sql_transaction', HINT = 'Write through the partitioned table.';
END $$
""",
)


READABLE = """
SELECT count(*) = 2 AS readable FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'maintenance_archive' AND c.relname IN ('parked', 'ledger')
   AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
"""
LEFT_HERE = """
SELECT unit_id, lower FROM maintenance_archive.parked WHERE concat(table_schema, '.', table_name) = %(table)s
 UNION
SELECT unit_id, lower FROM maintenance_archive.ledger
 WHERE act IN ('dropped', 'rows deleted') AND (relation = %(table)s OR right(relation, length(%(table)s) + 4) =
       concat(' of ', CAST(%(table)s AS text)))
"""


@dataclass(frozen=True)
class Removal:
    """What the ledger says about a unit that is gone from the source."""

    unit_id: str
    act: str
    relation: str
    rows: int
    fingerprint: str | None
    at: datetime
    actor: str


def ensure_ours(connection: Connection) -> None:
    """Create the schema and its tables unless they are there. Raises Refused (not_permitted) with the SQL to run."""
    if _complete(connection):
        return
    act(connection, f"SELECT pg_advisory_xact_lock({LOCK_KEY})")  # two runs that create it at once
    try:
        with connection.begin_nested():
            if not ask(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %(name)s", name=SCHEMA):
                act(connection, f"CREATE SCHEMA {SCHEMA}")
            act(connection, *TABLES)
    except DBAPIError as error:
        if state_of(error) != "42501":
            raise
        role = ask(connection, "SELECT current_user::text AS role")[0]["role"]
        raise Refused(
            "not_permitted",
            f"role {role} may not create schema {SCHEMA}, where detached partitions wait until they may be dropped. "
            f"Nothing was changed. Let an administrator run: CREATE SCHEMA {SCHEMA} AUTHORIZATION {quote(role)};",
        ) from None


def was_removed(connection: Connection, unit_id: str) -> Removal | None:
    """The ledger's word that the unit's rows left the source, by drop or row by row; None when it has none (D69)."""
    if not _complete(connection):
        return None
    found = ask(
        connection,
        "SELECT l.unit_id, l.act, l.relation, l.fingerprint, l.at, l.actor, CASE l.act WHEN 'dropped' THEN l.rows ELSE "
        "(SELECT coalesce(sum(d.rows), 0) FROM maintenance_archive.ledger d WHERE d.unit_id = l.unit_id)::int8 END "
        "AS rows FROM maintenance_archive.ledger l "
        "WHERE l.unit_id = %(unit)s AND l.act IN ('dropped', 'all rows seen') ORDER BY l.id DESC LIMIT 1",
        unit=unit_id,
    )
    return Removal(**found[0]) if found else None


def left_here(connection: Connection, table: str) -> dict[str, datetime | None]:
    """Units whose rows left this table, and the lower bound of each; none where the role may not read of them.

    table: with its schema. Rows that left a DEFAULT or an open partition one by one are not among them.
    """
    if not ask(connection, READABLE)[0]["readable"]:
        return {}
    return {row["unit_id"]: row["lower"] for row in ask(connection, LEFT_HERE, table=table)}


def _complete(connection: Connection) -> bool:
    return bool(
        ask(
            connection,
            "SELECT to_regclass('maintenance_archive.parked') IS NOT NULL AND "
            "to_regclass('maintenance_archive.ledger_unit') IS NOT NULL AND "
            "to_regproc('maintenance_archive.refuse_writes') IS NOT NULL AS there",
        )[0]["there"]
    )
