"""Values of archived columns: where each is, and how far it came.

    planned -> proven -> slimmed -> expiring -> expired
                            └─ restored ─┘

A value is `planned` before anything of it is stored: its row surely holds it. `proven`: its object was read back and
is equal, and the row is about to be slimmed; after a crash the row says whether it was. `slimmed`: only the object
holds it. `restored`: the row holds it again, beside the object. `expiring`: no reader sees it any more, the object
may still be there. `expired`: a tombstone, the object was looked for and is not there (V11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.archive.tables import value
from maintenance_defs.control.retention.base import Part
from maintenance_defs.core.errors import Refused

STATES = ("planned", "proven", "slimmed", "restored", "expiring", "expired")
PAGE = 500  # bound values of one statement


@dataclass(frozen=True)
class ValueRow:
    """See tables.ValueColumns."""

    system: str
    archive: str
    row_id: str
    source: str
    organisation: str | None
    store: str
    key: str
    sha256: str
    size_bytes: int
    value_bytes: int
    dated_at: datetime | None
    archived_at: datetime
    changed_at: datetime
    state: str = "planned"
    slim_sha256: str | None = None


class Values(Part):
    """Recording values of archived columns, and finding them."""

    def plan_values(self, new: Sequence[ValueRow]) -> None:
        """What is about to be stored, in place of what was planned of these rows before.

        One transaction. Raises Refused("value_known") where more than a plan is recorded of one of the rows.
        """
        with self._write() as connection:
            for start in range(0, len(new), PAGE):
                page = new[start : start + PAGE]
                mine = sa.and_(*_mine(page[0].system, page[0].archive), value.c.row_id.in_([r.row_id for r in page]))
                connection.execute(value.delete().where(mine, value.c.state == "planned"))
                taken = connection.execute(sa.select(value.c.row_id).where(mine)).scalars().first()
                if taken is not None:
                    raise Refused(
                        "value_known", f"a value of row {taken} was archived before. Nothing was recorded; plan again."
                    )
                now = self._clock()
                rows = [vars(one) | {"state": "planned", "slim_sha256": None, "changed_at": now} for one in page]
                connection.execute(value.insert(), rows)

    def prove_values(self, system: str, archive: str, proven: Mapping[str, tuple[int, str]]) -> None:
        """Row id -> (bytes of the object, SHA-256 of the slim value): from now on the row may be slim.

        Raises Refused("value_gone") for a row of which nothing, or only a tombstone is recorded.
        """
        before = ("planned", "proven", "slimmed", "restored")
        mine = (*_mine(system, archive), value.c.state.in_(before))
        each = value.update().where(*_mine(system, archive), value.c.row_id == sa.bindparam("id"))
        each = each.values(size_bytes=sa.bindparam("bytes"), slim_sha256=sa.bindparam("slim"))
        ids = list(proven)
        with self._write() as connection:
            for start in range(0, len(ids), PAGE):
                page = ids[start : start + PAGE]
                wanted = (*mine, value.c.row_id.in_(page))
                there = set(connection.execute(sa.select(value.c.row_id).where(*wanted).with_for_update()).scalars())
                if gone := [row_id for row_id in page if row_id not in there]:
                    raise Refused("value_gone", f"the value of row {gone[0]} is not planned. Nothing was recorded.")
                connection.execute(
                    each, [{"id": i, "bytes": size, "slim": slim} for i in page for size, slim in [proven[i]]]
                )
                connection.execute(value.update().where(*wanted).values(state="proven", changed_at=self._clock()))

    def mark_values(self, system: str, archive: str, row_ids: Sequence[str], state: str) -> None:
        """They reached a state. Tombstones stay as they are."""
        if state not in STATES:
            raise ValueError(f"state {state!r} is none of {', '.join(STATES)}")
        with self._write() as connection:
            now = self._clock()
            for start in range(0, len(row_ids), PAGE):
                ids = row_ids[start : start + PAGE]
                connection.execute(
                    value.update()
                    .where(*_mine(system, archive), value.c.row_id.in_(ids), value.c.state != "expired")
                    .values(state=state, changed_at=now)
                )

    def values_of(self, system: str, archive: str, row_ids: Sequence[str]) -> dict[str, ValueRow]:
        """What is recorded of these rows, by row id."""
        found: dict[str, ValueRow] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(row_ids), PAGE):
                ids = row_ids[start : start + PAGE]
                query = sa.select(value).where(*_mine(system, archive), value.c.row_id.in_(ids))
                found |= {row.row_id: _row(row) for row in connection.execute(query)}
        return found

    def value(self, system: str, archive: str, row_id: str) -> ValueRow | None:
        return self.values_of(system, archive, [row_id]).get(row_id)

    def values(self, system: str, archive: str, states: Sequence[str]) -> Iterator[list[ValueRow]]:
        """All in these states, page by page, in the order of their ids; what is recorded meanwhile may be in it."""
        query = sa.select(value).where(*_mine(system, archive), value.c.state.in_(list(states)))
        after: str | None = None
        while True:
            page = query if after is None else query.where(value.c.row_id > after)
            with self._engine.connect() as connection:
                rows = [_row(row) for row in connection.execute(page.order_by(value.c.row_id).limit(PAGE))]
            if rows:
                yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1].row_id

    def count_values(self, system: str, archive: str) -> dict[str, tuple[int, int, int]]:
        """State -> (values, bytes of their objects, bytes of the values)."""
        sums = (sa.func.count(), sa.func.sum(value.c.size_bytes), sa.func.sum(value.c.value_bytes))
        query = sa.select(value.c.state, *sums).where(*_mine(system, archive)).group_by(value.c.state)
        with self._engine.connect() as connection:
            return {state: (n, int(size), int(whole)) for state, n, size, whole in connection.execute(query)}


def _mine(system: str, archive: str) -> tuple[sa.ColumnElement[bool], ...]:
    return value.c.system == system, value.c.archive == archive


def _row(row: sa.Row[Any]) -> ValueRow:
    return ValueRow(**{name: row._mapping[name] for name in ValueRow.__dataclass_fields__})
