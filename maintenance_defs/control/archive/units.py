"""Units of an archive: recorded once, worked on by one run at a time, advanced step by step.

    planned -> exported -> verified -> catalogued -> detached -> removed -> expired
                                            └──────> removing ──────^

From `removed` a unit may be `returned`: its rows are in the table again, its files ended, and when they leave once
more they are another part. A partition is detached, later dropped; where rows leave one by one the unit is
`removing` from the first to the last.

A step is recorded after it is true in the database or the store; a run that finds it true already records
it and goes on (V4). Rows that changed since the export send a unit back to `planned`, with the next generation;
its files stay live until the new ones are. `left_at` says from when on readers find its rows in the archive only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.archive.tables import unit
from maintenance_defs.control.retention.base import Part, instant
from maintenance_defs.core.errors import Busy, LeaseLost, Refused

STATES = ("planned", "exported", "verified", "catalogued", "detached", "removing", "removed", "expired", "returned")


@dataclass(frozen=True)
class UnitRow:
    """See tables.UnitColumns."""

    id: str
    system: str
    archive: str
    source: str
    table: str
    relation: str
    relation_oid: int
    lower: datetime
    upper: datetime
    label: str
    part: int
    generation: int
    method: str
    planned_at: datetime
    changed_at: datetime
    state: str = "planned"
    schema_version: int | None = None
    rows: int | None = None
    heap_bytes: int | None = None
    fingerprint: str | None = None
    groups: list[dict[str, Any]] | None = None
    row_ids: str | None = None
    lease_owner: str | None = None
    lease_until: datetime | None = None
    left_at: datetime | None = None
    removed_at: datetime | None = None
    message: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    number: int = 0

    def words(self) -> str:
        """For messages: 'execution_log 2025-10'."""
        return f"{self.archive} {self.label}" + (f" (part {self.part})" if self.part else "")


class Units(Part):
    """Recording, claiming and advancing units."""

    def add_unit(self, new: UnitRow) -> UnitRow:
        """The unit with these bounds and this part: the one recorded earlier, or this one."""
        values = {name: value for name, value in asdict(new).items() if name != "number"}
        try:
            with self._write() as connection:
                connection.execute(unit.insert(), values)
        except sa.exc.IntegrityError:
            same = (
                sa.select(unit)
                .where(unit.c.system == new.system, unit.c.archive == new.archive, unit.c.source == new.source)
                .where(unit.c.lower == new.lower, unit.c.upper == new.upper)
                .where(unit.c.part == new.part)
            )
            with self._engine.connect() as connection:
                return _unit(connection.execute(same).one())
        return self.unit(new.id)

    def unit(self, id: str) -> UnitRow:
        """Raises Refused("unknown_unit")."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(unit).where(unit.c.id == id)).one_or_none()
        if row is None:
            raise Refused("unknown_unit", f"no archive unit {id} is recorded here. Nothing was done.")
        return _unit(row)

    def units(self, system: str, archive: str | None = None, states: Iterable[str] | None = None) -> list[UnitRow]:
        """In the order of archive, lower bound and part."""
        query = sa.select(unit).where(unit.c.system == system)
        if archive is not None:
            query = query.where(unit.c.archive == archive)
        if states is not None:
            query = query.where(unit.c.state.in_(list(states)))
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(unit.c.archive, unit.c.lower, unit.c.part))
            return [_unit(row) for row in rows]

    def take_unit(self, id: str, owner: str, lease_seconds: float) -> UnitRow:
        """Be the only one who works on the unit. Raises Busy while another's lease lasts (C42)."""
        with self._write() as connection:
            row = connection.execute(sa.select(unit).where(unit.c.id == id).with_for_update()).one_or_none()
            if row is None:
                raise Refused("unknown_unit", f"no archive unit {id} is recorded here. Nothing was done.")
            now = self._clock()
            if row.lease_owner not in (None, owner) and row.lease_until is not None and row.lease_until > now:
                raise Busy(
                    f"{row.lease_owner} works on {row.archive} {row.label} until {instant(row.lease_until)}. Nothing "
                    f"was done. Try again later.",
                    owner=row.lease_owner,
                )
            until = now + timedelta(seconds=lease_seconds)
            connection.execute(unit.update().where(unit.c.id == id).values(lease_owner=owner, lease_until=until))
            return _unit(connection.execute(sa.select(unit).where(unit.c.id == id)).one())

    def renew_unit(self, id: str, owner: str, lease_seconds: float) -> None:
        """Keep it. Raises LeaseLost once somebody else took it."""
        with self._write() as connection:
            mine = unit.update().where(unit.c.id == id, unit.c.lease_owner == owner)
            if (
                connection.execute(mine.values(lease_until=self._clock() + timedelta(seconds=lease_seconds))).rowcount
                != 1
            ):
                raise _lost(id, owner)

    def leave_unit(self, id: str, owner: str, message: str | None = None) -> None:
        """Give it back; message: why it did not go on, null when it did. Somebody else's unit stays as it is."""
        with self._write() as connection:
            mine = unit.update().where(unit.c.id == id, unit.c.lease_owner == owner)
            connection.execute(mine.values(lease_owner=None, lease_until=None, message=message))

    def advance(self, id: str, owner: str, state: str, **values: Any) -> UnitRow:
        """Record that the unit reached a state. Raises LeaseLost."""
        with self._write() as connection:
            advance(connection, id, owner, state, self._clock(), **values)
            return _unit(connection.execute(sa.select(unit).where(unit.c.id == id)).one())


def advance(connection: sa.Connection, id: str, owner: str, state: str, now: datetime, **values: Any) -> None:
    """Within the caller's transaction. Raises LeaseLost unless `owner` holds the unit."""
    if state not in STATES:
        raise ValueError(f"state {state!r} is none of {', '.join(STATES)}")
    mine = unit.update().where(unit.c.id == id, unit.c.lease_owner == owner)
    if connection.execute(mine.values(state=state, changed_at=now, message=None, **values)).rowcount != 1:
        raise _lost(id, owner)


def _lost(id: str, owner: str) -> LeaseLost:
    return LeaseLost(id, f"{owner} no longer holds archive unit {id}. Nothing was recorded; run the archive again.")


def _unit(row: sa.Row[Any]) -> UnitRow:
    return UnitRow(**{name: row._mapping[name] for name in UnitRow.__dataclass_fields__})
