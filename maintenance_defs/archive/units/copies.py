"""Restored copies: tables of their own, which nothing of ours ever expires.

Each says in its comment what it is a copy of, so that it is found for as long as it is there, wherever it was moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from maintenance_defs.core.quantities import format_instant, parse_instant
from maintenance_defs.databases.partitions.sql import qualified
from maintenance_defs.databases.postgres import PostgresSnapshot

COMMENT = "maintenance restored copy of "
COPIES = """
SELECT n.nspname AS schema, c.relname AS name, d.description AS comment,
       pg_total_relation_size(c.oid) AS size_bytes
  FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND c.relkind IN ('r', 'p')
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0 AND starts_with(d.description, :comment)
 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Copy:
    """A table with the archived rows of one month."""

    schema: str
    name: str
    month: str
    restored_at: datetime
    size_bytes: int

    @property
    def qualified(self) -> str:
        return qualified(self.schema, self.name)


def comment_of(system: str, archive: str, month: str, at: datetime) -> str:
    return f"{COMMENT}{system}/{archive} {month}, made {format_instant(at.replace(microsecond=0))}"


def find_copies(snapshot: PostgresSnapshot, system: str, archive: str) -> list[Copy]:
    """Those of one archive, by schema and name; one whose comment somebody changed is not found."""
    mine = f"{COMMENT}{system}/{archive} "
    found = []
    for row in snapshot.rows(COPIES, {"comment": mine}):
        month, _, made = row["comment"].removeprefix(mine).partition(", made ")
        found.append(Copy(row["schema"], row["name"], month, parse_instant(made), row["size_bytes"]))
    return found
