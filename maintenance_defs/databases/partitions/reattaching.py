"""The undo: a parked month goes back into its table, with whatever arrived for it meanwhile (D67).

Readers see every row once throughout: late rows move and the month appears in one transaction. Nothing is
scanned under its lock, since the bounds are proven beforehand, while nobody sees the month.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused, SourceUnavailable
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.catalog import Partition, PartitionedTable, read_partitioned
from maintenance_defs.databases.partitions.making import bound, find_late_lane, overlaps
from maintenance_defs.databases.partitions.parking import Parked, find_parked, unpark
from maintenance_defs.databases.partitions.sql import act, ask, state_of, with_patience, words_of
from maintenance_defs.databases.statements import quote

PROOF = "maintenance_bounds"
HOLD_SECONDS = 2.0  # for so long readers of the whole table may wait while late rows move
# What a row is copied with: all but generated columns, which are computed again.
COLUMNS = """
SELECT quote_ident(a.attname) AS name FROM pg_attribute a
 WHERE a.attrelid = CAST(%(oid)s AS oid) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Reattached:
    """late_rows: rows that had arrived for the month. roles_gone: they had grants, and are no roles any more."""

    partition: Partition
    late_rows: int
    roles_gone: tuple[str, ...]
    seconds: float


def reattach(
    database: ArchiveDatabase,
    table: str,
    unit_id: str,
    *,
    wait_seconds: float = 60.0,
    hold_seconds: float = HOLD_SECONDS,
) -> Reattached:
    """Put the unit's parked month back, merged with its late lane, or with late rows in the DEFAULT partition.

    hold_seconds: a merge that takes longer under the lock is undone as a whole.
    Raises Refused, nothing changed: not_parked, another_table, covered, conflict, too_many_late_rows, not_fitting,
    name_taken, side_effects, and as find_parked.
    """
    began = time.monotonic()

    def proven() -> None:
        with database.transaction() as connection:
            found, parked = _both(connection, table, unit_id)
            if not ask(
                connection,
                "SELECT 1 FROM pg_constraint WHERE conrelid = CAST(%(oid)s AS oid) AND conname = %(name)s",
                oid=parked.oid,
                name=PROOF,
            ):
                key, part = quote(found.key_column), parked.partition
                rules = [f"{key} IS NOT NULL"]
                if part.lower is not None:
                    rules.append(f"{key} >= {bound(found, part.lower, '')}")
                if part.upper is not None:
                    rules.append(f"{key} < {bound(found, part.upper, '')}")
                act(
                    connection,
                    f"ALTER TABLE {parked.qualified} ADD CONSTRAINT {PROOF} CHECK ({' AND '.join(rules)}) NOT VALID",
                )
            act(connection, f"ALTER TABLE {parked.qualified} VALIDATE CONSTRAINT {PROOF}")

    def attached() -> Reattached:
        with database.transaction() as connection:
            found, parked = _both(connection, table, unit_id)
            act(connection, f"SET LOCAL statement_timeout = {max(1, int(hold_seconds * 1000))}")
            try:
                late, gone = _attach(connection, found, parked, unit_id)
            except DBAPIError as error:
                _explain(error, found, parked, hold_seconds)
                raise
            part = read_partitioned(connection, table).by_oid(parked.oid)
            assert part is not None, "it was attached by this transaction"  # noqa: S101
            return Reattached(part, late, tuple(gone), time.monotonic() - began)

    with_patience(proven, wait_seconds)
    return with_patience(attached, wait_seconds)


def _both(connection: Connection, table: str, unit_id: str) -> tuple[PartitionedTable, Parked]:
    found, parked = read_partitioned(connection, table), find_parked(connection, unit_id)
    if parked is None:
        raise Refused("not_parked", f"unit {unit_id} has no parked table: there is nothing to put back.")
    if found.oid != parked.table_oid:
        raise Refused(
            "another_table",
            f"{parked} left another table than {found}, which was made later or restored. Nothing was changed.",
        )
    return found, parked


def _attach(connection: Connection, table: PartitionedTable, parked: Parked, unit_id: str) -> tuple[int, list[str]]:
    part = parked.partition
    lane = find_late_lane(connection, table, unit_id)
    others = [str(one) for one in table.partitions if one != lane and _meets(one, part)]
    if others:
        raise Refused("covered", f"the span of {part} is held by {', '.join(others)}. Nothing was changed.")
    late = 0
    gone = unpark(connection, unit_id)  # its guard goes with it, so that rows can be added
    if lane is not None:
        act(connection, f"ALTER TABLE {table.qualified} DETACH PARTITION {lane.qualified}")
        late = move_rows(connection, lane.qualified, parked.oid, part.qualified, "true")
        act(connection, f"DROP TABLE {lane.qualified} RESTRICT")
    elif table.default is not None:
        late = from_default(connection, table, parked.oid, part)
    act(connection, f"ALTER TABLE {table.qualified} ATTACH PARTITION {part.qualified} {part.bounds}")
    act(connection, f"ALTER TABLE {part.qualified} DROP CONSTRAINT {PROOF}")
    return late, gone


def from_default(connection: Connection, table: PartitionedTable, oid: int, part: Partition) -> int:
    """Move rows of the span out of the DEFAULT partition into a table that is about to be attached; how many.

    Raises Refused (side_effects) when moving them would set something off.
    """
    default = table.default
    assert default is not None, "the caller looked"  # noqa: S101
    key = f"t.{quote(table.key_column)}"
    span = " AND ".join(
        [f"{key} >= {bound(table, part.lower, '')}"] * (part.lower is not None)
        + [f"{key} < {bound(table, part.upper, '')}"] * (part.upper is not None)
    ) or f"{key} IS NOT NULL"  # fmt: skip
    looked = f"SELECT EXISTS (SELECT FROM {default.qualified} t WHERE {span}) AS some"
    if ask(connection, looked)[0]["some"]:
        # A reader that has already chosen its partitions, and waits for the DEFAULT, would miss what leaves it:
        # whoever is reading ends first, whoever comes chooses afterwards (V6, measured).
        act(connection, f"LOCK TABLE ONLY {table.qualified} IN ACCESS EXCLUSIVE MODE")
    else:
        act(connection, f"LOCK TABLE {default.qualified} IN ACCESS EXCLUSIVE MODE")  # as ATTACH does in any case
        if not ask(connection, looked)[0]["some"]:
            return 0
        raise SourceUnavailable(f"rows came into {default} meanwhile. Nothing was changed.", transient=True)
    act(connection, f"LOCK TABLE {default.qualified} IN ACCESS EXCLUSIVE MODE")
    triggers = ask(
        connection,
        "SELECT tgname::text AS name FROM pg_trigger WHERE tgrelid = CAST(%(oid)s AS oid) AND NOT tgisinternal "
        "AND tgenabled <> 'D' AND (tgtype & 8) <> 0",
        oid=default.oid,
    )
    if table.references or triggers:
        what = [str(one) for one in table.references] + [f"trigger {row['name']}" for row in triggers]
        raise Refused(
            "side_effects",
            f"{default} holds rows from {part.lower} to {part.upper}, and moving them would set off {', '.join(what)}. "
            f"Nothing was changed; move them in a maintenance window.",
        )
    return move_rows(connection, default.qualified, oid, part.qualified, span)


def move_rows(connection: Connection, source: str, oid: int, target: str, where: str) -> int:
    """Move rows between tables of one shape; how many. oid: of the target, whose columns are named.

    The caller holds locks under which no row is added. Raises Refused (side_effects) when not every row arrived.
    """
    columns = ", ".join(row["name"] for row in ask(connection, COLUMNS, oid=oid))
    counts = ask(
        connection,
        f"WITH moved AS (DELETE FROM {source} t WHERE {where} RETURNING {columns}), "
        f"put AS (INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM moved RETURNING 1) "
        f"SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM put) AS put",
    )[0]
    left = ask(connection, f"SELECT EXISTS (SELECT FROM {source} t WHERE {where}) AS some")[0]["some"]
    if counts["moved"] != counts["put"] or left:
        raise Refused(
            "side_effects",
            f"of the rows of {source} {counts['moved']:,} could be taken and {counts['put']:,} arrived in {target}"
            f"{', and others stayed' if left else ''}: a trigger or rule stands between. Nothing was changed.",
        )
    return int(counts["put"])


def _explain(error: DBAPIError, table: PartitionedTable, parked: Parked, hold_seconds: float) -> None:
    state, said = state_of(error), words_of(error)
    if state == "23505":
        raise Refused(
            "conflict",
            f"a row that arrived late for {parked.partition} has the key of one that is archived ({said}). Both were "
            f"kept where they are; remove one, or give it another key, and run again.",
        ) from None
    if state == "57014":
        raise Refused(
            "too_many_late_rows",
            f"so many rows arrived late for {parked.partition} that moving them would hold up {table} for more than "
            f"{hold_seconds:g} s. Nothing was changed; allow a longer hold in a quiet hour.",
        ) from None
    if state == "42P07":
        raise Refused(
            "name_taken", f"{parked} cannot have its old name back: {said}. Nothing was changed; rename the other."
        ) from None
    if state in ("42804", "42P16", "42704"):
        raise Refused(
            "not_fitting",
            f"{parked} does not fit {table} any more, which was altered meanwhile: {said}. Nothing was changed; alter "
            f"the parked table in the same way, and run again.",
        ) from None


def _meets(one: Partition, other: Partition) -> bool:
    if other.lower is None or other.upper is None:
        return not one.is_default
    return overlaps(one, other.lower, other.upper)
