"""Files of an archive, whose rows they hold, and where one value's rows are. The truth for readers (V6)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from maintenance_defs.control.archive.tables import file, group, index, keep, schema
from maintenance_defs.control.archive.units import UnitRow, advance
from maintenance_defs.control.retention.base import Part, key_hash
from maintenance_defs.core.errors import Refused

PAGE = 5000
EXPIRED_ROWS = "expired rows"  # ends the reason of a file that was written again without some


@dataclass(frozen=True)
class FileRow:
    """See tables.FileColumns. The id is file_id(store, key): the same object is the same file."""

    id: str
    unit_id: str
    generation: int
    system: str
    archive: str
    store: str
    key: str
    sha256: str
    size_bytes: int
    rows: int
    label: str
    first_at: datetime | None
    last_at: datetime | None
    schema_version: int
    row_groups: int
    created_at: datetime
    state: str = "stored"
    version_id: str | None = None
    key_id: str | None = None
    wrapped_key: str | None = None
    ended_at: datetime | None = None
    ended_why: str | None = None
    object_gone_at: datetime | None = None
    footer_sha256: str | None = None


@dataclass(frozen=True)
class Group:
    """The rows of one organisation in one file. high and low: sums of the halves of their hashes, modulo 2^64."""

    file_id: str
    organisation: str
    rows: int
    high: int
    low: int
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True)
class IndexRow:
    """Where the rows of one value of the lookup column are."""

    file_id: str
    value: str
    organisation: str
    rows: int
    first_group: int
    last_group: int
    first_at: datetime | None
    last_at: datetime | None


def file_id(system: str, store: str, key: str) -> str:
    """The same for the same object, whoever stores it again."""
    return hashlib.sha256("\0".join((system, store, key)).encode()).hexdigest()[:32]


class Files(Part):
    """Recording, publishing and ending files; looking values up; schema versions; periods seen."""

    def store_files(
        self, unit: UnitRow, owner: str, files: Sequence[FileRow], held: Iterable[Group], **values: Any
    ) -> None:
        """The unit is `exported`, with these files, which nobody reads yet; in one transaction. Raises LeaseLost.

        held: whose rows are in which file. values: further columns of the unit.
        A file that is live and came out the same again stays live; one that had ended is `stored` anew. Announced
        ones that are not among them are superseded: an export was broken off, and its objects go with a sweep.
        """
        with self._write() as connection:
            mine = sa.and_(file.c.unit_id == unit.id, file.c.state == "stored")
            announced = set(connection.execute(sa.select(file.c.id).where(mine)).scalars())
            connection.execute(group.delete().where(group.c.file_id.in_(sa.select(file.c.id).where(mine))))
            for one in files:
                if one.id in announced:
                    connection.execute(file.delete().where(mine, file.c.id == one.id))
            ended = {"state": "superseded", "ended_at": self._clock(), "ended_why": "an export that was broken off"}
            connection.execute(file.update().where(mine).values(**ended))
            # What an export of this generation left live that was broken off before its end is not of this one.
            ours = sa.and_(file.c.unit_id == unit.id, file.c.state == "live", file.c.generation == unit.generation)
            connection.execute(file.update().where(ours).values(generation=unit.generation - 1))
            held = list(held)
            for one in files:
                same = (file.c.system == one.system, file.c.store == one.store, file.c.key_hash == key_hash(one.key))
                known = connection.execute(sa.select(file).where(*same)).one_or_none()
                if known is None:
                    connection.execute(file.insert(), asdict(one) | {"key_hash": key_hash(one.key)})
                    continue
                if (known.id, known.unit_id, known.sha256) != (one.id, unit.id, one.sha256):
                    raise Refused("key_taken", f"{one.key} is a file of another unit. Nothing was recorded.")
                changes: dict[str, Any] = {"generation": one.generation}
                if known.state != "live":
                    changes |= {"state": "stored", "ended_at": None, "ended_why": None, "object_gone_at": None}
                connection.execute(file.update().where(*same).values(**changes))
                held = [g for g in held if g.file_id != one.id]  # those of the known row stand
            rows = [asdict(g) | {"high": str(g.high), "low": str(g.low)} for g in held]
            if rows:
                connection.execute(group.insert(), rows)
            advance(connection, unit.id, owner, "exported", self._clock(), **values)

    def publish_files(self, unit: UnitRow, owner: str, entries: Iterable[IndexRow]) -> None:
        """The unit is `catalogued`: its new files are live, those of its earlier generation superseded (V6).

        entries: where each value of the lookup column is, in any number. One transaction. Raises LeaseLost.
        """
        with self._write() as connection:
            now = self._clock()
            # A file that came out the same again has its entries already.
            mine = sa.select(file.c.id).where(file.c.unit_id == unit.id, file.c.generation == unit.generation)
            connection.execute(index.delete().where(index.c.file_id.in_(mine)))
            page: list[dict[str, Any]] = []
            for entry in entries:
                page.append(asdict(entry) | {"value_hash": key_hash(entry.value)})
                if len(page) == PAGE:
                    connection.execute(index.insert(), page)
                    page = []
            if page:
                connection.execute(index.insert(), page)
            ours = file.update().where(file.c.unit_id == unit.id)
            ended = {"state": "superseded", "ended_at": now, "ended_why": f"generation {unit.generation} replaced it"}
            connection.execute(ours.where(file.c.state == "live", file.c.generation < unit.generation).values(**ended))
            connection.execute(ours.where(file.c.state == "stored").values(state="live"))
            advance(connection, unit.id, owner, "catalogued", now)

    def announce_file(self, new: FileRow) -> None:
        """It is about to be stored: should the run be killed, its object is known and does not stay for ever."""
        with self._write() as connection:
            same = (file.c.system == new.system, file.c.store == new.store, file.c.key_hash == key_hash(new.key))
            known = connection.execute(sa.select(file).where(*same).with_for_update()).one_or_none()
            if known is None:
                connection.execute(file.insert(), asdict(new) | {"key_hash": key_hash(new.key), "state": "stored"})
            elif (known.id, known.unit_id, known.sha256) != (new.id, new.unit_id, new.sha256) or known.state == "live":
                raise Refused("key_taken", f"{new.key} is the object of another file. Nothing was stored.")
            else:
                again = {"state": "stored", "ended_at": None, "ended_why": None, "object_gone_at": None}
                connection.execute(file.update().where(*same).values(**again))

    def withdraw_file(self, id: str) -> None:
        """An announced file was not stored: what is under its key is somebody else's."""
        with self._write() as connection:
            connection.execute(file.delete().where(file.c.id == id, file.c.state == "stored"))

    def replace_file(self, old_id: str, new: FileRow | None, groups: Sequence[Group], entries: Iterable[IndexRow],
                     why: str) -> None:  # fmt: skip
        """Readers see `new` instead of the old file, which is superseded; or nothing, where nothing is left of it.

        One transaction. Raises Refused("not_live") unless the old one is live.
        """
        with self._write() as connection:
            now = self._clock()
            ended = {"state": "superseded", "ended_at": now, "ended_why": why}
            old = file.update().where(file.c.id == old_id, file.c.state == "live")
            if connection.execute(old.values(**ended)).rowcount != 1:
                raise Refused("not_live", f"archive file {old_id} is not live any more. Nothing was changed.")
            if new is not None:
                values = asdict(new) | {"key_hash": key_hash(new.key), "state": "live"}
                connection.execute(file.delete().where(file.c.id == new.id, file.c.state == "stored"))  # announced
                connection.execute(group.delete().where(group.c.file_id == new.id))
                connection.execute(index.delete().where(index.c.file_id == new.id))
                connection.execute(file.insert(), values)
                rows = [asdict(g) | {"high": str(g.high), "low": str(g.low)} for g in groups]
                if rows:
                    connection.execute(group.insert(), rows)
                rest = iter(entries)
                while page := [asdict(e) | {"value_hash": key_hash(e.value)} for e in islice(rest, PAGE)]:
                    connection.execute(index.insert(), page)

    def files(
        self, system: str, archive: str | None = None, *, states: Iterable[str] = ("live",), unit_id: str | None = None
    ) -> list[FileRow]:
        """By archive, time and label. Only `live` ones are for readers."""
        query = sa.select(file).where(file.c.system == system, file.c.state.in_(list(states)))
        if archive is not None:
            query = query.where(file.c.archive == archive)
        if unit_id is not None:
            query = query.where(file.c.unit_id == unit_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(file.c.archive, file.c.first_at, file.c.label, file.c.id))
            return [_row(FileRow, row) for row in rows]

    def file(self, id: str) -> FileRow | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(file).where(file.c.id == id)).one_or_none()
        return None if row is None else _row(FileRow, row)

    def live_among(self, sha256s: Sequence[str]) -> set[str]:
        """Those of these digests that a live file of any archive has."""
        found: set[str] = set()
        with self._engine.connect() as connection:
            for start in range(0, len(sha256s), PAGE):
                page = sha256s[start : start + PAGE]
                query = sa.select(file.c.sha256).where(file.c.sha256.in_(page), file.c.state == "live")
                found.update(connection.execute(query).scalars())
        return found

    def groups(self, file_ids: Sequence[str]) -> list[Group]:
        """Of these files, by file and organisation."""
        found: list[Group] = []
        with self._engine.connect() as connection:
            for start in range(0, len(file_ids), PAGE):
                ids = file_ids[start : start + PAGE]
                query = sa.select(group).where(group.c.file_id.in_(ids)).order_by(group.c.file_id, group.c.organisation)
                found += [
                    Group(r.file_id, r.organisation, r.rows, int(r.high), int(r.low), r.first_at, r.last_at)
                    for r in connection.execute(query)
                ]
        return found

    def find_value(self, system: str, archive: str, value: str) -> list[tuple[FileRow, IndexRow]]:
        """The live files that hold rows of this value of the lookup column, oldest first."""
        names = list(IndexRow.__dataclass_fields__)
        query = (
            sa.select(file, *(index.c[name].label(f"index_{name}") for name in names))
            .join(index, index.c.file_id == file.c.id)
            .where(index.c.value_hash == key_hash(value), index.c.value == value)
            .where(file.c.system == system, file.c.archive == archive, file.c.state == "live")
            .order_by(index.c.first_at, file.c.id)
        )
        with self._engine.connect() as connection:
            return [
                (_row(FileRow, row), IndexRow(**{name: row._mapping[f"index_{name}"] for name in names}))
                for row in connection.execute(query)
            ]

    def ended_with(self, system: str, archive: str, value: str) -> list[FileRow]:
        """Files that held rows of this value which expired with them, or were taken out of them: what an answer 'it
        was deleted' rests on. The last one of a unit and label, oldest rows first.
        """
        kept, entry = file.alias(), index.alias()
        still = (
            sa.exists()
            .where(entry.c.value_hash == index.c.value_hash, entry.c.value == index.c.value)
            .where(entry.c.organisation == index.c.organisation, kept.c.id == entry.c.file_id)
            .where(kept.c.unit_id == file.c.unit_id, kept.c.state == "live")
        )
        taken_out = sa.and_(file.c.state == "superseded", file.c.ended_why.endswith(EXPIRED_ROWS), ~still)
        query = (
            sa.select(file)
            .join(index, index.c.file_id == file.c.id)
            .where(index.c.value_hash == key_hash(value), index.c.value == value)
            .where(file.c.system == system, file.c.archive == archive)
            .where(sa.or_(file.c.state == "expired", taken_out))
            .order_by(file.c.ended_at)
        )
        with self._engine.connect() as connection:
            found = {(row.unit_id, row.label): _row(FileRow, row) for row in connection.execute(query)}
        return sorted(found.values(), key=lambda one: (one.first_at is None, one.first_at, one.id))

    def index_of(self, file_id: str) -> Iterator[IndexRow]:
        """Every entry of one file, streaming."""
        names = list(IndexRow.__dataclass_fields__)
        query = sa.select(*(index.c[name] for name in names)).where(index.c.file_id == file_id)
        with self._engine.connect() as connection:
            for page in connection.execution_options(yield_per=PAGE).execute(query).partitions():
                yield from (_row(IndexRow, row) for row in page)

    def index_sizes(self, system: str, archive: str) -> dict[str, int]:
        """How many values of the lookup column each live file holds rows of: file id -> values."""
        query = (
            sa.select(index.c.file_id, sa.func.count(sa.distinct(index.c.value)))
            .join(file, file.c.id == index.c.file_id)
            .where(file.c.system == system, file.c.archive == archive, file.c.state == "live")
            .group_by(index.c.file_id)
        )
        with self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def end_files(self, ids: Sequence[str], state: str, why: str) -> None:
        """`superseded` or `expired` (a tombstone): no reader sees them from now on. Ended ones stay as they are,
        but superseded ones may expire."""
        if state not in ("superseded", "expired"):
            raise ValueError(f"a file ends superseded or expired, not {state}")
        before = ("live", "stored", "superseded") if state == "expired" else ("live", "stored")
        with self._write() as connection:
            for start in range(0, len(ids), PAGE):
                mine = file.c.id.in_(ids[start : start + PAGE])
                connection.execute(
                    file.update()
                    .where(mine, file.c.state.in_(before))
                    .values(state=state, ended_at=self._clock(), ended_why=why)
                )

    def mark_gone(self, id: str) -> None:
        """Its object was looked for, in every version, and is not there (V11)."""
        with self._write() as connection:
            connection.execute(file.update().where(file.c.id == id).values(object_gone_at=self._clock()))

    # Schemas

    def schema_version(self, system: str, archive: str, columns: Sequence[Mapping[str, Any]]) -> int:
        """The number of this set of columns: the known one, or a new one. Numbers begin with 1."""
        listed = [dict(column) for column in columns]
        digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
        mine = sa.and_(schema.c.system == system, schema.c.archive == archive)
        with self._write() as connection:
            found = connection.execute(sa.select(schema.c.version).where(mine, schema.c.digest == digest)).scalar()
            if found is not None:
                return int(found)
            last = connection.execute(sa.select(sa.func.max(schema.c.version)).where(mine)).scalar() or 0
            values = {"version": last + 1, "digest": digest, "columns": listed, "seen_at": self._clock()}
            connection.execute(schema.insert(), {"system": system, "archive": archive, **values})
            return int(last) + 1

    def schemas(self, system: str, archive: str) -> dict[int, list[dict[str, Any]]]:
        """Columns by version, oldest first."""
        query = sa.select(schema).where(schema.c.system == system, schema.c.archive == archive)
        with self._engine.connect() as connection:
            return {row.version: row.columns for row in connection.execute(query.order_by(schema.c.version))}

    # Periods

    def keeps(self, system: str, archive: str) -> dict[str, str]:
        """organisation -> how long its rows were to be kept when a plan was last carried out ('365 d', 'forever')."""
        query = sa.select(keep).where(keep.c.system == system, keep.c.archive == archive)
        with self._engine.connect() as connection:
            return {row.organisation: row.keep for row in connection.execute(query)}

    def remember_keeps(self, system: str, archive: str, keeps: Mapping[str, str]) -> None:
        with self._write() as connection:
            now = self._clock()
            for organisation, said in keeps.items():
                mine = (keep.c.system == system, keep.c.archive == archive, keep.c.organisation == organisation)
                if connection.execute(keep.update().where(*mine).values(keep=said, seen_at=now)).rowcount == 0:
                    values = {"system": system, "archive": archive, "organisation": organisation}
                    connection.execute(keep.insert(), values | {"keep": said, "seen_at": now})


def _row(kind: Any, row: sa.Row[Any]) -> Any:
    return kind(**{name: row._mapping[name] for name in kind.__dataclass_fields__})
