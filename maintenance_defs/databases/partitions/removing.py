"""The last step: a parked partition is dropped when what is in it is, under a lock, what was archived (V2).

Comparison, ledger row and DROP share one transaction. RESTRICT, never CASCADE (V10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.archiving import ArchiveDatabase
from maintenance_defs.databases.partitions.ours import Removal, ensure_ours, was_removed
from maintenance_defs.databases.partitions.parking import Parked, find_parked
from maintenance_defs.databases.partitions.sql import act, ask, state_of, with_patience, words_of


class Contents(Protocol):
    """How many rows, and a text that another content would not have."""

    @property
    def rows(self) -> int: ...

    @property
    def total(self) -> str: ...


@dataclass(frozen=True)
class Dropped:
    """again: an earlier run had dropped it, and the ledger says so; nothing was done now."""

    removal: Removal
    again: bool


def drop_parked(
    database: ArchiveDatabase,
    unit_id: str,
    expected: Contents,
    fingerprint: Callable[[Connection, Parked], Contents],
    *,
    actor: str,
    wait_seconds: float = 60.0,
) -> Dropped:
    """Drop the unit's parked table.

    expected: of what is archived and was fetched back. fingerprint: computes the same of the table, in this
        transaction and under its lock.
    Raises Refused, nothing dropped: differs, not_parked, parked_gone, not_ours, depended_on.
    """

    def once() -> Dropped:
        with database.transaction() as connection:
            ensure_ours(connection)
            removal = was_removed(connection, unit_id)
            if removal is not None:
                return Dropped(removal, again=True)
            parked = find_parked(connection, unit_id)
            if parked is None:
                raise Refused("not_parked", f"unit {unit_id} has no parked table. Nothing was dropped.")
            act(connection, f"LOCK TABLE {parked.qualified} IN ACCESS EXCLUSIVE MODE")
            if find_parked(connection, unit_id) != parked:  # looked at again: what it was before the lock may be gone
                raise Refused("not_ours", f"{parked} was changed by somebody else meanwhile. Nothing was dropped.")
            found = fingerprint(connection, parked)
            if (found.rows, found.total) != (expected.rows, expected.total):
                raise Refused(
                    "differs",
                    f"the archive of unit {unit_id} holds {expected.rows:,} rows, {parked} {found.rows:,}"
                    f"{' others' if found.rows == expected.rows else ''}. The table was kept. Rows were written after "
                    f"the export: archive it again.",
                )
            _record(connection, parked, expected, actor)
            try:
                act(connection, f"DROP TABLE {parked.qualified} RESTRICT")
            except DBAPIError as error:
                if state_of(error) != "2BP01":
                    raise
                raise Refused(
                    "depended_on",
                    f"{parked} was kept: {words_of(error)}. Drop what depends on it, such as a view, or point it at "
                    f"the partitioned table, and run again.",
                ) from None
            removal = was_removed(connection, unit_id)
            assert removal is not None, "the row was inserted by this transaction"  # noqa: S101
            return Dropped(removal, again=False)

    return with_patience(once, wait_seconds)


def _record(connection: Connection, parked: Parked, expected: Contents, actor: str) -> None:
    part = parked.partition
    ask(
        connection,
        "INSERT INTO maintenance_archive.ledger (unit_id, act, relation, lower, upper, rows, fingerprint, actor) "
        "VALUES (%(unit)s, 'dropped', %(relation)s, %(lower)s, %(upper)s, %(rows)s, %(total)s, %(actor)s) RETURNING 1",
        unit=parked.unit_id, relation=f"{part} of {parked.table_schema}.{parked.table_name}", lower=part.lower,
        upper=part.upper, rows=expected.rows, total=expected.total, actor=actor,
    )  # fmt: skip
    ask(connection, "DELETE FROM maintenance_archive.parked WHERE unit_id = %(unit)s RETURNING 1", unit=parked.unit_id)
