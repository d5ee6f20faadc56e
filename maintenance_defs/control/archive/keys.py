"""Keys of organisations, wrapped. Of a destroyed one the row stays, without the key: its files are unreadable."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.archive.tables import key
from maintenance_defs.control.retention.base import Part, said


@dataclass(frozen=True)
class KeyRow:
    id: str
    system: str
    archive: str
    organisation: str
    wrapped: str | None  # null: destroyed
    created_at: datetime
    destroyed_at: datetime | None = None
    destroyed_by: str | None = None
    reason: str | None = None


class Keys(Part):
    def organisation_key(self, system: str, archive: str, organisation: str) -> KeyRow | None:
        """The one in use; null where there is none yet, or the last was destroyed."""
        query = (
            sa.select(key)
            .where(key.c.system == system, key.c.archive == archive, key.c.organisation == organisation)
            .where(key.c.wrapped.is_not(None))
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else _row(row)

    def add_key(self, system: str, archive: str, organisation: str, wrapped: str) -> KeyRow:
        new = KeyRow(uuid.uuid4().hex, system, archive, organisation, wrapped, self._clock())
        with self._write() as connection:
            connection.execute(key.insert(), {name: getattr(new, name) for name in KeyRow.__dataclass_fields__})
        return new

    def key(self, id: str) -> KeyRow | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(key).where(key.c.id == id)).one_or_none()
        return None if row is None else _row(row)

    def destroy_keys(self, system: str, archive: str, organisation: str, actor: str, reason: str) -> list[str]:
        """The ids of the keys destroyed now; there is no way back."""
        said(actor, reason, "destroying a key")
        mine = sa.and_(key.c.system == system, key.c.archive == archive, key.c.organisation == organisation)
        with self._write() as connection:
            ids = list(connection.execute(sa.select(key.c.id).where(mine, key.c.wrapped.is_not(None))).scalars())
            ended = {"wrapped": None, "destroyed_at": self._clock(), "destroyed_by": actor, "reason": reason}
            connection.execute(key.update().where(key.c.id.in_(ids)).values(**ended))
        return ids


def _row(row: sa.Row[Any]) -> KeyRow:
    return KeyRow(**{name: row._mapping[name] for name in KeyRow.__dataclass_fields__})
