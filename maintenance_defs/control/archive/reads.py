"""Who read archives whose reads are on record: on the ledger of the system, in its chain, before anything is shown.

A read has no plan: it stands under an id of its own, `read-…`, and has no outcome. No value is ever in it (V13).
Source: S4-70, S4-79.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.retention import chain
from maintenance_defs.control.retention.base import Part
from maintenance_defs.control.retention.tables import act

READ = "read"


@dataclass(frozen=True)
class ReadNote:
    """One read. what: archive, verb, and what was asked for, without values."""

    id: str
    system: str
    actor: str
    at: datetime
    table: str
    organisation: str | None
    what: dict[str, Any]


class Reads(Part):
    def note_read(
        self, system: str, actor: str, table: str, what: dict[str, Any], organisation: str | None = None
    ) -> str:
        """Append the read to the ledger; its id. Raises ValueError without an actor."""
        if not actor.strip():
            raise ValueError("a read needs somebody who reads")
        id = f"{READ}-{uuid.uuid4().hex}"
        row = {
            "plan_id": id, "seq": 0, "at": self._clock(), "actor": actor.strip(), "act": READ, "kind": "rows",
            "table": table, "tenant": organisation, "evidence": chain.dump(what),
        }  # fmt: skip
        with self._write() as connection:
            chain.append(connection, chain.lock(connection, system), "intent", 1, row)
        return id

    def reads(self, system: str, archive: str | None = None, limit: int = 50) -> list[ReadNote]:
        """The newest ones first."""
        query = sa.select(act).where(act.c.system == system, act.c.act == READ, act.c.phase == "intent")
        found: list[ReadNote] = []
        with self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query.order_by(act.c.number.desc())):
                what = chain.load(row.evidence)
                if archive in (None, what["archive"]):
                    found.append(ReadNote(row.plan_id, row.system, row.actor, row.at, row.table, row.tenant, what))
                if len(found) == limit:
                    break
        return found
