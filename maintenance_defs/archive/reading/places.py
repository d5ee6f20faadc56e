"""Where each row is to be read, so that it is read once in every state of its unit (V6, H109).

What the table shows in one snapshot is read there. A unit's files count where its rows have left the table: a
partition that is not attached in that snapshot, and rows that leave one by one and are not in the table any more,
told by their key. A partition that is detached while nothing says that it left (a run is on its way, or was killed) is
read itself.

The snapshot is taken first, the catalogue is read after it: what had left is recorded by then, and what leaves later
is still in the snapshot. Only a detach that completes while a query is planned is part of no snapshot (L22): the
partitions are counted before and after, and who finds them changed begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.rows.columns import Column, read_columns
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.databases.statements import quote

TRIES = 10  # a month that leaves changes its place four or five times in a second or two
PAUSE_SECONDS = 0.05  # and so much longer each time
MANY = 1_000_000  # rows of one question
Found = TypeVar("Found")

TABLE = "SELECT CAST(CAST(:name AS regclass) AS oid)::int8 AS oid, (SELECT count(*) FROM {} WHERE false) AS locked"
# Whether partitions are attached: now, and as the snapshot sees it. No lock on them is taken: a second session reads
# them, and would wait behind a detach that waits for this one. pg_partition_ancestors looks at the catalog as it is
# now, and leaves out a partition whose detach has begun.
STATES = """
SELECT u.oid, EXISTS (SELECT FROM pg_partition_ancestors(CAST(CAST(u.oid AS oid) AS regclass)) a
                       WHERE CAST(a.relid AS oid) = CAST(:parent AS oid)) AS now,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = CAST(u.oid AS oid) AND i.inhparent = CAST(:parent AS oid)
                  AND NOT i.inhdetachpending) AS seen
  FROM unnest(CAST(:oids AS int8[])) AS u (oid)
"""
NAMES = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent <> CAST(:parent AS oid)) AS elsewhere
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (CAST(:oids AS oid[]))
"""
KEY = """
SELECT a.attname AS name
  FROM pg_index i
  JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (attnum, place) ON k.place <= i.indnkeyatts
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = :oid AND i.indisprimary
 ORDER BY k.place
"""


class Moved(Exception):  # a signal between these modules; nobody reads it
    """A partition came or went between two questions: begin anew. Its argument: the error that told so, if one did."""


@dataclass(frozen=True)
class Place:
    """One table in one snapshot, and whose rows are read from the archive instead."""

    snapshot: PostgresSnapshot
    oid: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]  # the primary key, or what the declaration says; empty where there is none
    relations: tuple[str, ...]  # quoted: the table, and partitions that were detached without being recorded so
    left: Mapping[str, UnitRow]  # by id: units whose files count
    partitions: Mapping[int, bool]  # those that units were planned for: whether they are attached

    def stream(
        self, columns: str, where: str, joined: str = "", *, batch_bytes: int | None = None
    ) -> Iterable[pa.RecordBatch]:
        """The hot rows `t` for which `where` holds, each once; joined: what to add to FROM. Raises Moved."""
        each = [f"FROM {relation} t{joined} WHERE {where}" for relation in self.relations]
        reader: Iterable[pa.RecordBatch] = ()
        with self._moving():
            # A bulk read takes two more sessions, most of the time of an answer that is in the archive alone.
            if self.snapshot.any("\nUNION ALL\n".join(f"SELECT 1 {one}" for one in each)):
                rows = "\nUNION ALL\n".join(f"SELECT {columns} {one}" for one in each)
                reader = self.snapshot.stream(rows, batch_bytes=batch_bytes)
        self._unchanged()
        return reader

    def hot(self, keys: Sequence[Sequence[str | None]]) -> set[int]:
        """Which of these keys, as texts of the key's columns, are in the table now: their positions. Raises Moved."""
        if not keys or not self.key:
            return set()
        by_name = {column.name: column for column in self.columns}
        lists = {f"k{n}": [key[n] for key in keys] for n in range(len(self.key))}
        arrays = ", ".join(f"CAST(:{name} AS text[])" for name in lists)
        names = ", ".join(lists)
        same = " AND ".join(
            f"t.{quote(column)} = CAST(k.{name} AS {by_name[column].type_name})"
            for name, column in zip(lists, self.key, strict=True)
        )
        each = [
            f"SELECT k.place AS place FROM unnest({arrays}) WITH ORDINALITY AS k ({names}, place) "
            f"JOIN {relation} t ON {same}"
            for relation in self.relations
        ]
        with self._moving():
            found = self.snapshot.rows("\nUNION ALL\n".join(each), lists, limit=MANY)
        self._unchanged()
        return {row["place"] - 1 for row in found}

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """A detached partition may be dropped or attached again while it is read by its name."""
        try:
            yield
        except SourceUnavailable as error:
            self._unchanged()
            if len(self.relations) > 1:
                raise Moved(error) from None
            raise

    def _unchanged(self) -> None:
        if _attached(self.snapshot, self.oid, self.partitions) != self.partitions:
            raise Moved


def again(work: Callable[[], Found]) -> Found:
    """What `work` returns, begun anew when partitions came or went meanwhile. Raises Refused when they do not rest."""
    for attempt in range(TRIES - 1):
        try:
            return work()
        except Moved:
            time.sleep(PAUSE_SECONDS * attempt)
    try:
        return work()
    except Moved as moved:
        if moved.args:
            raise moved.args[0] from None
        raise Refused(
            "partitions_move",
            "partitions came and went each time the table was read. Nothing was answered, for a row might be missing "
            "or doubled. Ask again in a moment.",
        ) from None


@contextmanager
def looking(system: System, name: str, home: Home) -> Iterator[Place]:
    """Raises SourceUnavailable; what is done with the Place may raise Moved, see `again`."""
    archive = system.archives[name]
    with archive_database(system, home).snapshot() as snapshot:
        found = snapshot.table(archive.table)
        if found is None:
            raise SourceUnavailable(
                f"table {archive.table} does not exist, or this role does not see it. Nothing was answered, for rows "
                f"that have not left it would be missing."
            )
        table = f"{quote(found.schema or 'public')}.{quote(found.name)}"
        # The count locks the table while the snapshot lives: a detach that begins from now on waits for us.
        oid = snapshot.small(TABLE.format(table), {"name": table})[0]["oid"]
        units = home.control.archive.units(system.name, name)
        # Of another source's partitions this database knows nothing.
        ours = [unit for unit in units if unit.method == "partition" and unit.source == snapshot.evidence.identity]
        partitions = _attached(snapshot, oid, [unit.relation_oid for unit in ours])
        left, strays = _judged(home, units, snapshot.evidence.identity, partitions)
        named = snapshot.small(NAMES, {"oids": sorted(strays), "parent": oid}) if strays else []
        # Attached to another table, as after a table was made anew under its name: its rows are that one's.
        names = {row["oid"]: f"{quote(row['schema'])}.{quote(row['name'])}" for row in named if not row["elsewhere"]}
        # Dropped by hand, with nothing recorded: all that is left of its rows is the archive.
        there = {row["oid"] for row in named}
        left |= {unit.id: unit for oid, unit in strays.items() if oid not in there}
        key = archive.id or tuple(row["name"] for row in snapshot.small(KEY, {"oid": oid}))
        yield Place(
            snapshot, oid, read_columns(snapshot, oid), key, (table, *(names[oid] for oid in sorted(names))), left,
            partitions,
        )  # fmt: skip


def _judged(
    home: Home, units: Sequence[UnitRow], source: str, partitions: Mapping[int, bool]
) -> tuple[dict[str, UnitRow], dict[int, UnitRow]]:
    """Units whose files count, by id; units that are not attached though nothing says that they left, by oid."""
    left: dict[str, UnitRow] = {}
    strays: dict[int, UnitRow] = {}
    for unit in units:
        partition = unit.method == "partition" and unit.source == source
        if partition and partitions[unit.relation_oid]:
            continue
        if unit.left_at is not None:
            left[unit.id] = unit
        elif partition and home.control.archive.files(unit.system, unit.archive, unit_id=unit.id):
            strays[unit.relation_oid] = unit
    return left, strays


def _attached(snapshot: PostgresSnapshot, oid: int, partitions: Iterable[int]) -> dict[int, bool]:
    """oid of a partition -> whether queries in this snapshot read it. Raises Moved where that may change any moment."""
    asked = sorted(set(partitions))
    found = snapshot.small(STATES, {"oids": asked, "parent": oid})
    if any(row["seen"] and not row["now"] for row in found):
        # Its detach began after the snapshot: read as long as it lasts, and not any more once it is complete.
        raise Moved
    return {row["oid"]: row["now"] for row in found}


def bounds(column: Column, since: datetime | None, until: datetime | None) -> str:
    """PostgreSQL: `since <= t.column < until`; a date counts from its midnight in UTC."""
    value = f"t.{quote(column.name)}"
    if column.builtin != "timestamptz":
        value = f"(CAST({value} AS timestamp) AT TIME ZONE 'UTC')"
    said = [
        f"{value} {sign} TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"
        for sign, at in ((">=", since), ("<", until))
        if at is not None
    ]
    return " AND ".join(said) or "true"
