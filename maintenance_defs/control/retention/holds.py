"""Holds and pauses: what nobody may act on, and what is switched off (K11, C-14).

A hold covers more rather than less: keys are compared without case, Unicode form and outer slashes,
tables without their schema. Looser equality only ever protects (I2).
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.retention.base import Part, instant, said
from maintenance_defs.control.retention.tables import hold, pause
from maintenance_defs.core.errors import Paused, Refused


@dataclass(frozen=True)
class Hold:
    """Objects (store, key, prefix) and rows (table, row_id) that stay; without any of these, all of the system.

    policy: only this one is held back; null: every path of I12.
    """

    id: int
    system: str
    store: str | None
    key: str | None
    prefix: str | None
    table: str | None
    row_id: str | None
    policy: str | None
    until: datetime | None
    actor: str
    reason: str
    placed_at: datetime
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None

    def is_on(self, table: str) -> bool:
        """Whether rows of this table may be meant."""
        return self.table is None or _table(self.table) == _table(table)

    def words(self) -> str:
        parts = [
            f"{name} {value}"
            for name in ("store", "key", "prefix", "table", "row_id", "policy")
            if (value := getattr(self, name)) is not None
        ]
        return f"hold {self.id} on {', '.join(parts) or 'the whole system'} ({self.actor}: {self.reason})"


@dataclass(frozen=True)
class Pause:
    """A system, or one of its policies, is switched off."""

    id: int
    system: str
    policy: str | None  # null: the whole system
    actor: str
    reason: str
    paused_at: datetime

    def words(self) -> str:
        what = f"{self.system}/{self.policy}" if self.policy else f"system {self.system}"
        return f"{what} is paused since {instant(self.paused_at)} by {self.actor}: {self.reason}"

    def then(self) -> str:
        """The command that ends it: a single policy's pause ends by its name only."""
        what = f"{self.system} {self.policy}" if self.policy else self.system
        return f"When its reason is gone: maintain resume {what} --reason '...'"


class Covering:
    """Open holds, made ready to be asked about many items."""

    def __init__(self, holds: Iterable[Hold]) -> None:
        self._broad: list[Hold] = []
        self._keys: defaultdict[str, list[Hold]] = defaultdict(list)
        self._prefixes: defaultdict[int, defaultdict[str, list[Hold]]] = defaultdict(lambda: defaultdict(list))
        self._rows: defaultdict[tuple[str | None, str | None], list[Hold]] = defaultdict(list)
        for one in holds:
            self._add(one)

    def _add(self, one: Hold) -> None:
        if one.key is not None:
            self._keys[_loose(one.key)].append(one)
        if one.prefix is not None:
            prefix = _loose_start(one.prefix)
            self._prefixes[len(prefix)][prefix].append(one)
        if one.table is not None or one.row_id is not None:
            self._rows[_table(one.table), one.row_id].append(one)
        elif one.key is None and one.prefix is None:
            self._broad.append(one)

    def hold_on(
        self, policy: str | None, *, store: str | None = None, key: str | None = None,
        table: str | None = None, row_id: str | None = None,
    ) -> Hold | None:  # fmt: skip
        """A hold that covers this object (store, key) or row (table, row_id), if there is one."""
        for one in self._broad:
            if _of_policy(one, policy) and (one.store is None or (key is not None and one.store == store)):
                return one
        if key is not None:
            for one in self._of_key(key):
                if _of_policy(one, policy) and (one.store is None or store is None or one.store == store):
                    return one
        if table is not None or row_id is not None:
            name = _table(table)
            for at in {(name, row_id), (name, None), (None, row_id)}:
                for one in self._rows.get(at, ()):
                    if _of_policy(one, policy):
                        return one
        return None

    def _of_key(self, key: str) -> Iterator[Hold]:
        if self._keys:
            yield from self._keys.get(_loose(key), ())
        if self._prefixes:
            start = _loose_start(key)
            for length, prefixes in self._prefixes.items():
                yield from prefixes.get(start[:length], ())


class Holds(Part):
    """Placing and releasing holds; pausing and resuming."""

    def add_hold(
        self, system: str, actor: str, reason: str, *, store: str | None = None, key: str | None = None,
        prefix: str | None = None, table: str | None = None, row_id: str | None = None,
        policy: str | None = None, until: datetime | None = None,
    ) -> Hold:  # fmt: skip
        """From now on no intent is recorded for what it covers. Raises ValueError without actor and reason."""
        said(actor, reason, "a hold")
        values = {
            "system": system, "actor": actor.strip(), "reason": reason.strip(), "store": store, "key": key,
            "prefix": prefix, "table": table, "row_id": row_id, "policy": policy, "until": until,
            "placed_at": self._clock(),
        }  # fmt: skip
        with self._write() as connection:
            id = connection.execute(hold.insert().values(values).returning(hold.c.id)).scalar_one()
            return _hold(connection.execute(sa.select(hold).where(hold.c.id == id)).one())

    def release_hold(self, id: int, actor: str, reason: str) -> Hold:
        """Raises Refused("unknown_hold"), Refused("hold_released") if it was released already."""
        said(actor, reason, "releasing a hold")
        with self._write() as connection:
            done = connection.execute(
                hold.update()
                .where(hold.c.id == id, hold.c.released_at.is_(None))
                .values(released_at=self._clock(), released_by=actor.strip(), release_reason=reason.strip())
            )
            row = connection.execute(sa.select(hold).where(hold.c.id == id)).one_or_none()
            if row is None:
                raise Refused("unknown_hold", f"no hold {id} is recorded here. Nothing was released.")
            if done.rowcount != 1:
                raise Refused("hold_released", f"hold {id} was released by {row.released_by}. Nothing was changed.")
            return _hold(row)

    def holds(self, system: str, *, open_only: bool = True) -> list[Hold]:
        """Oldest first."""
        with self._engine.connect() as connection:
            if open_only:
                return open_holds(connection, system, self._clock())
            rows = connection.execute(sa.select(hold).where(hold.c.system == system).order_by(hold.c.id))
            return [_hold(row) for row in rows]

    def holds_on(self, system: str, policy: str) -> list[Hold]:
        """The open holds that stop this policy."""
        return [hold for hold in self.holds(system) if hold.policy in (None, policy)]

    def covering(self, system: str) -> Covering:
        """The open holds, ready to be asked about many items."""
        return Covering(self.holds(system))

    # Pauses

    def pause(self, system: str, policy: str | None, actor: str, reason: str) -> Pause:
        """Switch a policy off, or the system (policy null). The same actor's same reason is noted once."""
        said(actor, reason, "a pause")
        values = {"system": system, "policy": policy, "actor": actor.strip(), "reason": reason.strip()}
        with self._write() as connection:
            same = [pause.c[name].is_not_distinct_from(value) for name, value in values.items()]
            row = connection.execute(sa.select(pause).where(*same, pause.c.resumed_at.is_(None))).first()
            if row is None:
                new = pause.insert().values(paused_at=self._clock(), **values).returning(pause.c.id)
                id = connection.execute(new).scalar_one()
                row = connection.execute(sa.select(pause).where(pause.c.id == id)).one()
            return _pause(row)

    def resume(self, system: str, policy: str | None, actor: str, reason: str) -> int:
        """End every pause of exactly this system or policy; how many there were."""
        said(actor, reason, "resuming")
        ended = (
            pause.update()
            .where(pause.c.system == system, pause.c.policy.is_not_distinct_from(policy), pause.c.resumed_at.is_(None))
            .values(resumed_at=self._clock(), resumed_by=actor.strip(), resume_reason=reason.strip())
        )
        with self._write() as connection:
            return connection.execute(ended).rowcount

    def was_resumed(self, system: str, policy: str | None, actor: str, reason: str) -> bool:
        """Whether a pause of exactly these words was ended by somebody, who then knew them."""
        values = {"system": system, "policy": policy, "actor": actor, "reason": reason}
        same = [pause.c[name].is_not_distinct_from(value) for name, value in values.items()]
        with self._engine.connect() as connection:
            return (
                connection.execute(sa.select(pause.c.id).where(*same, pause.c.resumed_at.is_not(None))).first()
                is not None
            )

    def paused(self, system: str, policy: str | None = None) -> Pause | None:
        """The pause of the system, else that of the policy, else null."""
        with self._engine.connect() as connection:
            return find_pause(connection, system, policy)

    def pauses(self, system: str) -> list[Pause]:
        """All that are open, oldest first."""
        query = sa.select(pause).where(pause.c.system == system, pause.c.resumed_at.is_(None)).order_by(pause.c.id)
        with self._engine.connect() as connection:
            return [_pause(row) for row in connection.execute(query)]


def open_holds(connection: sa.Connection, system: str, now: datetime) -> list[Hold]:
    query = sa.select(hold).where(
        hold.c.system == system, hold.c.released_at.is_(None), sa.or_(hold.c.until.is_(None), hold.c.until > now)
    )
    return [_hold(row) for row in connection.execute(query.order_by(hold.c.id))]


def find_pause(connection: sa.Connection, system: str, policy: str | None) -> Pause | None:
    of_policy = sa.or_(pause.c.policy.is_(None), pause.c.policy == policy)
    query = sa.select(pause).where(pause.c.system == system, pause.c.resumed_at.is_(None), of_policy)
    row = connection.execute(query.order_by(pause.c.policy.is_not(None), pause.c.id).limit(1)).one_or_none()
    return None if row is None else _pause(row)


def refuse_if_paused(connection: sa.Connection, system: str, policy: str | None) -> None:
    """Raises Paused (C-14)."""
    if found := find_pause(connection, system, policy):
        raise Paused(f"{found.words()}. Nothing more was done. {found.then()}")


def _hold(row: sa.Row[Any]) -> Hold:
    return Hold(**row._mapping)


def _pause(row: sa.Row[Any]) -> Pause:
    return Pause(**{name: row._mapping[name] for name in Pause.__dataclass_fields__})


def _of_policy(one: Hold, policy: str | None) -> bool:
    return one.policy is None or policy is None or one.policy == policy


def _loose_start(key: str) -> str:
    return key.lstrip("/ ").lower() if key.isascii() else unicodedata.normalize("NFC", key).casefold().lstrip("/ ")


def _loose(key: str) -> str:
    return _loose_start(key).rstrip("/ ")


def _table(name: str | None) -> str | None:
    return None if name is None else name.rpartition(".")[2].strip('"').casefold()
