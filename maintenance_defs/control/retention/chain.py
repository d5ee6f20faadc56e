"""The hash chain below the ledger: one a system, so that the acts of all its plans stand in one order.

A row's hash covers its values and the hash of the row before it; `chain` keeps where it ends. What a
purged row image held is replaced by its digest, which is what the hash covers: erased for good, and
the chain still verifies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from itertools import repeat
from json.encoder import encode_basestring_ascii
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


def append(
    connection: sa.Connection, end: sa.Row[Any], phase: str, count: int, columns: Mapping[str, Any]
) -> tuple[int, int]:
    """Add so many rows, all intents or all outcomes, to the chain of a system; the numbers [first, after) they got.

    end: of the chain, from `lock`, in this transaction.
    columns: of the ledger; a list holds a value for each row, anything else is the same in all of them.
    """
    first, after = end.number + 1, end.number + 1 + count
    previous, hashes = [], []
    rows = {name: _same_in_all(values) for name, values in columns.items()}
    rows |= {"system": end.system, "phase": phase, "number": list(range(first, after))}
    last = end.hash
    for before, behind in _texts(rows, count):
        previous.append(last)
        last = _hash(before, last, behind)
        hashes.append(last)
    for start in range(0, count, BATCH_ROWS):
        part = slice(start, min(start + BATCH_ROWS, count))
        whole = {**rows, "prev_hash": previous, "hash": hashes}
        some = {name: values[part] if isinstance(values, list) else values for name, values in whole.items()}
        _insert(connection, part.stop - part.start, some)
    if count:
        connection.execute(chain.update().where(chain.c.system == end.system).values(number=after - 1, hash=last))
    return first, after


def _insert(connection: sa.Connection, count: int, columns: Mapping[str, Any]) -> None:
    """As `execute(act.insert(), rows)`; SQLite would spend a third of the time on looking at each value of each row."""
    names = [column.name for column in act.c if column.name in columns]
    if connection.dialect.name != "sqlite":
        rows = zip(*(_repeated(columns[name], count) for name in names), strict=True)
        connection.execute(act.insert(), [dict(zip(names, row, strict=True)) for row in rows])
        return
    statement = str(act.insert().compile(dialect=connection.dialect, column_keys=names))
    converted = []
    for name in names:
        values = columns[name]
        convert = act.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        if convert is not None and isinstance(values, list):
            values = [None if v is None else convert(v) for v in values]
        elif convert is not None and values is not None:
            values = convert(values)
        converted.append(_repeated(values, count))
    connection.exec_driver_sql(statement, list(zip(*converted, strict=True)))


def _same_in_all(values: Any) -> Any:
    """One value for a column that has no other, so that it is written and hashed without looking at each."""
    return values[0] if isinstance(values, list) and values and values.count(values[0]) == len(values) else values


def _repeated(values: Any, count: int) -> Any:
    return values if isinstance(values, list) else repeat(values, count)


def lock(connection: sa.Connection, system: str) -> sa.Row[Any]:
    """The end of the chain; nobody else appends before this transaction ends."""
    fresh = findings.insert(connection, chain).values(system=system, number=-1, hash=GENESIS)
    connection.execute(fresh.on_conflict_do_nothing())
    return connection.execute(sa.select(chain).where(chain.c.system == system).with_for_update()).one()


def next_seq(connection: sa.Connection, plan_id: str) -> int:
    last = connection.execute(sa.select(sa.func.max(act.c.seq)).where(act.c.plan_id == plan_id)).scalar_one()
    return 0 if last is None else int(last) + 1


def hash_of(row: Mapping[str, Any]) -> str:
    """Of every column but the hash itself; columns that are not there count as null."""
    [(before, behind)] = _texts(row, 1)
    return _hash(before, row["prev_hash"], behind)


def _hash(before: str, previous: str, behind: str) -> str:
    return sha256(f"{before}{previous}{behind}".encode()).hexdigest()


def _texts(columns: Mapping[str, Any], count: int) -> Iterator[tuple[str, str]]:
    """Each row as one JSON array, in two parts: what stands before the hash of the previous row, and behind it.

    columns: as for `append`.
    """
    cells: list[Any] = [_cells(columns.get(name), _json) for name in HASHED]
    cells += [_cells(columns.get(name), _instant_json) for name in ("at", "purge_at")]
    cells += [_cells(columns.get(name), _digest_json) for name in TEXTS]
    place = HASHED.index("prev_hash")
    parts = (cells[:place], cells[place + 1 :])
    rows = [map(",".join, zip(*(_repeated(c, count) for c in part), strict=True)) for part in parts]
    for before, behind in zip(*rows, strict=True):
        yield f'[{before},"', f'",{behind}]'


def _cells(values: Any, text: Callable[[Any], str]) -> Any:
    if not isinstance(values, list):
        return text(values)
    if text is _json:  # the same, without a call of ours for each
        kinds = set(map(type, values))
        if kinds == {str}:
            return list(map(encode_basestring_ascii, values))
        if kinds == {int}:
            return list(map(repr, values))
    return [text(value) for value in values]


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
    for row, (before, behind) in _rows(connection, system):
        number += 1
        place: tuple[str, int, int] = (row["plan_id"], row["seq"], number)
        if row["number"] != number:
            return Broken(*place, f"{row['number'] - number} rows before it are gone")
        if row["prev_hash"] != previous:
            return Broken(*place, "it does not follow the row before it")
        if _hash(before, previous, behind) != row["hash"]:
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


def _rows(connection: sa.Connection, system: str) -> Iterator[tuple[sa.RowMapping, tuple[str, str]]]:
    query = sa.select(act).where(act.c.system == system).order_by(act.c.number)
    result = connection.execution_options(yield_per=BATCH_ROWS).execute(query)
    for rows in result.mappings().partitions():
        columns = {column.name: [row[column.name] for row in rows] for column in act.c}
        yield from zip(rows, _texts(columns, len(rows)), strict=True)


@lru_cache(64)  # many acts share one instant
def _instant(at: Any) -> str:
    if not isinstance(at, datetime):
        raise TypeError(f"{type(at).__name__} is no JSON")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _digest(text: str) -> str:
    known = _ERASED.fullmatch(text)
    return known[1] if known else sha256(text.encode()).hexdigest()


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=_instant)


def _json(value: str | int | None) -> str:
    if value is None:
        return "null"
    return encode_basestring_ascii(value) if isinstance(value, str) else repr(value)


def _instant_json(at: Any) -> str:
    return "null" if at is None else f'"{_instant(at)}"'


def _digest_json(text: str | None) -> str:
    return "null" if text is None else f'"{_digest(text)}"'
