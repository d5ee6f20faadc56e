"""The hash chain below the ledger: one a system, so that the acts of all its plans stand in one order.

A row's hash covers its values and the hash of the row before it; `chain` keeps where it ends. What a
purged row image held is replaced by its digest, which is what the hash covers: erased for good, and
the chain still verifies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control import findings
from maintenance_defs.control.retention.tables import act, chain

BATCH_ROWS = 5000  # rows a statement; large enough that round trips do not count
GENESIS = "0" * 64
TEXTS = ("evidence", "undo")  # hashed by their digest
HASHED = tuple(c.name for c in act.c if c.name not in ("at", "purge_at", "hash", *TEXTS))
_ERASED = re.compile(r'\{"erased":"([0-9a-f]{64})"\}')


@dataclass(frozen=True)
class Broken:
    """The first act of a system's ledger that is not what was written."""

    plan_id: str | None  # null: nothing is left that could say
    seq: int | None
    number: int  # its place in the system's chain
    what: str


def dump(value: Any) -> str | None:
    """Canonical JSON; instants in ISO format. Raises ValueError or TypeError for what is none."""
    if value is None:
        return None
    return _CANONICAL.encode(value)


def load(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def append(connection: sa.Connection, system: str, phase: str, rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Add rows, all intents or all outcomes, to the end of the system's chain; the numbers [first, after) they got.

    rows: columns of the ledger, the same ones in each.
    """
    end = lock(connection, system)
    number = first = end.number + 1
    previous = end.hash
    fresh = iter(rows)
    while batch := list(islice(fresh, BATCH_ROWS)):
        for row in batch:
            row |= {"system": system, "phase": phase, "number": number, "prev_hash": previous}
            row["hash"] = previous = hash_of(row)
            number += 1
        _insert(connection, batch)
    if number > first:
        connection.execute(chain.update().where(chain.c.system == system).values(number=number - 1, hash=previous))
    return first, number


def _insert(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """As `execute(act.insert(), rows)`; SQLite would spend a third of the time on looking at each value of each row."""
    if connection.dialect.name != "sqlite":
        connection.execute(act.insert(), rows)
        return
    names = [column.name for column in act.c if column.name in rows[0]]
    statement = str(act.insert().compile(dialect=connection.dialect, column_keys=names))
    columns = []
    for name in names:
        convert = act.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        values = [row[name] for row in rows]
        columns.append(values if convert is None else [None if v is None else convert(v) for v in values])
    connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))


def lock(connection: sa.Connection, system: str) -> sa.Row[Any]:
    """The end of the chain; nobody else appends before this transaction ends."""
    fresh = findings.insert(connection, chain).values(system=system, number=-1, hash=GENESIS)
    connection.execute(fresh.on_conflict_do_nothing())
    return connection.execute(sa.select(chain).where(chain.c.system == system).with_for_update()).one()


def next_seq(connection: sa.Connection, plan_id: str) -> int:
    last = connection.execute(sa.select(sa.func.max(act.c.seq)).where(act.c.plan_id == plan_id)).scalar_one()
    return 0 if last is None else int(last) + 1


def hash_of(row: Any) -> str:
    """Of every column but the hash itself; row: a mapping, columns that are not there count as null."""
    get = row.get
    values = [get(name) for name in HASHED]
    values += [None if (at := get(name)) is None else _instant(at) for name in ("at", "purge_at")]
    values += [None if (text := get(name)) is None else _digest(text) for name in TEXTS]
    return sha256(_COMPACT.encode(values).encode()).hexdigest()


def erase(connection: sa.Connection, plan_id: str, seq: int) -> None:
    """Replace evidence and undo of this act by their digests."""
    mine = sa.and_(act.c.plan_id == plan_id, act.c.seq == seq)
    for row in connection.execute(sa.select(act.c.phase, *(act.c[name] for name in TEXTS)).where(mine)).all():
        gone = {n: f'{{"erased":"{_digest(text)}"}}' for n in TEXTS if (text := row._mapping[n]) is not None}
        if gone:
            connection.execute(act.update().where(mine, act.c.phase == row.phase).values(**gone))


def verify(connection: sa.Connection, system: str) -> Broken | None:
    """Read the whole chain; the first row that is not what was written, or null."""
    end = connection.execute(sa.select(chain).where(chain.c.system == system)).one_or_none()
    number, previous = -1, GENESIS
    last: Any = None
    for row in _rows(connection, system):
        number += 1
        place: tuple[str, int, int] = (row["plan_id"], row["seq"], number)
        if row["number"] != number:
            return Broken(*place, f"{row['number'] - number} rows before it are gone")
        if row["prev_hash"] != previous:
            return Broken(*place, "it does not follow the row before it")
        if hash_of(row) != row["hash"]:
            return Broken(*place, "its values are not the ones that were written")
        previous, last = row["hash"], row
    if end is None and last is None:
        return None
    if end is None or (end.number, end.hash) != (number, previous):
        kept = 0 if end is None else end.number + 1
        what = f"the chain has {number + 1} rows, and {kept} were recorded"
        return Broken(last and last["plan_id"], last and last["seq"], number, what)
    return _erased_without_purge(connection, system)


def _erased_without_purge(connection: sa.Connection, system: str) -> Broken | None:
    purge = act.alias()
    begins = [act.c[name].like('{"erased":"%') for name in TEXTS]
    purged = (
        sa.exists()
        .where(purge.c.of_plan == act.c.plan_id, purge.c.of_seq == act.c.seq)
        .where(purge.c.outcome == "purged")
    )
    query = sa.select(act.c.plan_id, act.c.seq, act.c.number).where(act.c.system == system, sa.or_(*begins), ~purged)
    row = connection.execute(query.order_by(act.c.number).limit(1)).one_or_none()
    return None if row is None else Broken(row.plan_id, row.seq, row.number, "its content was erased, but never purged")


def _rows(connection: sa.Connection, system: str) -> Iterator[dict[str, Any]]:
    query = sa.select(act).where(act.c.system == system).order_by(act.c.number)
    result = connection.execution_options(yield_per=BATCH_ROWS).execute(query)
    for rows in result.mappings().partitions():
        yield from map(dict, rows)


@lru_cache(64)  # many acts share one instant
def _instant(at: Any) -> str:
    if not isinstance(at, datetime):
        raise TypeError(f"{type(at).__name__} is no JSON")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_instant)
_COMPACT = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _digest(text: str) -> str:
    known = _ERASED.fullmatch(text)
    return known[1] if known else sha256(text.encode()).hexdigest()
