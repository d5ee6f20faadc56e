"""What stands in the way of archiving a partition, asked before anything is changed. Reads only, takes no lock
that a reader or writer could notice."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, Reference
from maintenance_defs.databases.partitions.sql import ask, literal, qualified
from maintenance_defs.databases.statements import quote

ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
ROLE = """
SELECT current_user::text AS name, pg_is_in_recovery() AS replica, pg_backend_pid() AS pid,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owns,
       row_security_active(c.oid) AS hidden, c.relforcerowsecurity AS forced
  FROM pg_class c WHERE c.oid = CAST(%(oid)s AS oid)
"""


@dataclass(frozen=True)
class Obstacle:
    """A reason not to begin. code: one word for machines; message: what it is and what to do."""

    code: str
    message: str


def preflight(connection: Connection, table: PartitionedTable, partition: Partition) -> list[Obstacle]:
    """Everything that stands in the way, not only the first thing; nothing when the partition may be archived.

    Codes: replica, pooler, not_owner, row_security, detach_pending, referenced, partman,
    foreign_tables, is_partition, unbounded.
    """
    found: list[Obstacle] = []

    def stands(code: str, message: str) -> None:
        found.append(Obstacle(code, message))

    role = ask(connection, ROLE, oid=table.oid)[0]
    if role["replica"]:
        stands("replica", "the server is a replica: partitions leave their table on the primary only. Give its URL.")
    if pooled(connection):
        stands(
            "pooler",
            "the connection goes through a pooler: a statement that must stay on one session may land on another. Give "
            "the URL of the server itself.",
        )
    if not role["owns"]:
        stands(
            "not_owner",
            f"role {role['name']} does not own {table}, which belongs to {table.owner}. Run: GRANT "
            f"{quote(table.owner)} TO {quote(role['name'])};",
        )
    below = ask(connection, ROLE, oid=partition.oid)
    for name, row in ((str(table), role), *((str(partition), one) for one in below)):
        if row["hidden"]:
            stands(
                "row_security",
                f"row-level security of {name}{', which is forced,' if row['forced'] else ''} would hide rows from "
                f"role {role['name']}, which could then drop rows that it never saw. Grant the role BYPASSRLS.",
            )
    if partition.is_default or partition.upper is None:
        stands("unbounded", f"{partition} has no upper bound, so its rows are never old enough. Delete them by rows.")
    if table.pending is not None:
        stands(
            "detach_pending",
            f"the detach of {table.pending} was begun and not finished: the table does not show its rows and refuses "
            f"inserts into its range. Repair the table first.",
        )
    if table.is_partition:
        stands("is_partition", f"{table} is itself a partition of another table; archive that one.")
    if partition.has_foreign_tables:
        stands("foreign_tables", f"{partition} has foreign tables, whose rows are on another server.")
    for reference in table.references:
        rows = referring(connection, reference, partition)
        if rows:
            stands(
                "referenced",
                f"{rows:,} rows refer to {partition} through {reference} (on delete {ACTIONS[reference.on_delete]}): a "
                f"partition that is referred to cannot leave. Archive those rows first, or drop the constraint.",
            )
    if table.partman is not None and table.partman.retention is not None:
        config = qualified(table.partman.schema, "part_config")
        stands(
            "partman",
            f"pg_partman drops or detaches partitions of {table} after {table.partman.retention} "
            f"({table.partman.schema}.part_config): two would take months out, and one of them without an archive. "
            f"Leave it the making of months, and take the removing from it. Run: UPDATE {config} SET retention = NULL "
            f"WHERE parent_table = {literal(str(table))};",
        )
    return found


def referring(connection: Connection, reference: Reference, partition: Partition) -> int:
    """How many rows of another table the foreign key ties to this partition."""
    pairs = zip(reference.columns, reference.referred, strict=True)
    same = " AND ".join(f"p.{quote(referred)} = r.{quote(column)}" for column, referred in pairs)
    return int(
        ask(
            connection,
            f"SELECT count(*) AS rows FROM {qualified(reference.schema, reference.table)} r "
            f"WHERE EXISTS (SELECT FROM {partition.qualified} p WHERE {same})",
        )[0]["rows"]
    )


def pooled(connection: Connection) -> bool:
    """Whether something between us and the server hands our statements to sessions of its own (D59).

    At the start of a session the server gives its process id, which a pooler replaces by one of its own, and
    which is not the one that answers when another session does.
    """
    driver = connection.connection.dbapi_connection
    announced = driver.info.backend_pid if driver is not None else 0
    return bool(announced != ask(connection, "SELECT pg_backend_pid() AS pid")[0]["pid"])
