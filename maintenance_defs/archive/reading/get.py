"""One value's rows, archived and hot, each once and in the order of time (S4-79, A4-4, H111, H113).

The catalogue's index says which row groups hold the value; only those are read, by ranges, through the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from maintenance_defs.archive.plans.periods import told_otherwise
from maintenance_defs.archive.reading.door import Door
from maintenance_defs.archive.reading.hot import Hot, join_of
from maintenance_defs.archive.reading.places import Moved, Place, again, bounds, looking
from maintenance_defs.archive.reading.shapes import Shape, shape
from maintenance_defs.archive.reading.sorting import Sorter
from maintenance_defs.archive.reading.stored import FileDamaged, Reads
from maintenance_defs.archive.reading.values import canonical, in_file, in_table, texts
from maintenance_defs.archive.rows.part import UNKNOWN
from maintenance_defs.control.archive import FileRow, IndexRow
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused, SourceUnavailable

KEYS = 1000  # asked of the table in one question


@dataclass
class Got:
    """An answer: iterate it once, for batches of `schema` in the order of time and key."""

    schema: pa.Schema
    reads: Reads
    expired: list[FileRow] = field(default_factory=list)  # tombstones: rows of the value stood in these, and are gone
    hot_rows: int = 0
    archived_rows: int = 0
    _batches: Iterator[pa.RecordBatch] = field(default=iter(()), repr=False)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def read_all(self) -> pa.Table:
        return pa.Table.from_batches(list(self), self.schema)


def get(
    system: System,
    name: str,
    home: Home,
    *,
    value: str,
    organisation: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Got:
    """Rows of one value of the archive's lookup column, with `since <= time < until` where given.

    A value that nobody knows has no rows; `expired` tells of rows that retention has deleted.
    Raises Refused where the archive has no lookup, FileDamaged for an object that is missing or another one,
    SourceUnavailable, StoreUnavailable.
    """
    door = Door(system, name, home)
    if door.archive.lookup is None:
        raise Refused(
            "no_lookup",
            f"archive {name!r} of {system.name} declares no lookup column. Nothing was read; declare one, or query it.",
        )
    for at in (since, until):
        if at is not None and at.tzinfo is None:
            raise ValueError("an instant without a time zone means nothing")
    question = _Question(door, door.archive.lookup, value, organisation, since, until)
    return again(question.answer)


@dataclass
class _Question:
    door: Door
    lookup: str
    value: str
    organisation: str | None
    since: datetime | None
    until: datetime | None

    def answer(self) -> Got:
        """Raises Moved when a partition or a file came or went meanwhile."""
        door = self.door
        with looking(door.system, door.name, door.home) as place:
            hot = Hot(place, door.archive)
            column = hot.column(self.lookup)
            if column is None:
                raise SourceUnavailable(
                    f"table {door.archive.table} has no column {self.lookup!r}, by which its archive is looked up. "
                    f"Nothing was read; correct the declaration."
                )
            versions = dict(sorted(door.fields().items()))
            number = max(versions, default=0) + 1
            form = shape(versions | {number: hot.fields})
            got = Got(form.schema, door.reads)
            text = canonical(column, self.value)
            if text is None:
                return got
            order = [door.archive.time, *(name for name in place.key if name != door.archive.time)]
            sorter = Sorter(form.schema, order, may_spill=door.archive.class_ != "phi")
            try:
                for batch in hot.rows(self._where(hot, text)):
                    got.hot_rows += batch.num_rows
                    sorter.add(form.batch(number, batch))
                self._archived(place, form, text, got, sorter)
            except BaseException:
                sorter.close()
                raise
        got.expired = door.home.control.archive.ended_with(door.system.name, door.name, text)
        got._batches = sorter.sorted()
        return got

    def _where(self, hot: Hot, text: str) -> str:
        column, time = hot.column(self.lookup), hot.column(self.door.archive.time)
        if column is None or time is None:
            raise SourceUnavailable(
                f"table {self.door.archive.table} has no column {self.door.archive.time!r}, by which it is archived. "
                f"Nothing was read; correct the declaration."
            )
        said = [in_table(column, text), bounds(time, self.since, self.until)]
        if self.organisation is not None:
            said.append(hot.of(self.organisation))
        return " AND ".join(f"({each})" for each in said)

    def _archived(self, place: Place, form: Shape, text: str, got: Got, sorter: Sorter) -> None:
        control = self.door.home.control.archive
        # None: not indexed by this column, and read whole.
        by_file: dict[str, tuple[FileRow, list[IndexRow] | None]] = {
            file.id: (file, None) for file in self._indexed_otherwise(place)
        }
        for file, entry in control.find_value(self.door.system.name, self.door.name, text):
            if file.unit_id in place.left and self.organisation in (None, self._owner(place, file, entry)):
                entries = by_file.setdefault(file.id, (file, []))[1]
                if entries is not None:
                    entries.append(entry)
        for file, entries in by_file.values():
            try:
                found = self._of_file(file, entries, text)
            except FileDamaged:
                now = control.file(file.id)
                if now is None or now.state != "live":  # it ended since the catalogue was read
                    raise Moved from None
                raise
            for batch in found.to_batches():
                kept = _without_hot(place, form.batch(file.schema_version, batch))
                got.archived_rows += kept.num_rows
                sorter.add(kept)
        ended = {file.sha256 for file, _ in by_file.values()}
        ended -= control.live_among(sorted(ended))
        if ended:  # it may have been cached after expiry had looked (V11)
            self.door.cache.forget(ended)

    def _indexed_otherwise(self, place: Place) -> list[FileRow]:
        """Files of months that were archived while another column was declared as `lookup`."""
        door = self.door
        units = {unit.id for unit in place.left.values() if told_otherwise(unit, door.archive, "lookup")}
        if not units:
            return []
        files = [file for file in door.home.control.archive.files(door.system.name, door.name) if file.unit_id in units]
        known = {number for number, fields in door.fields().items() if self.lookup in {one.name for one in fields}}
        found = [file for file in door.readable(files)[0] if file.schema_version in known]
        for file in found:
            self._owner(place, file, None)
        return found

    def _owner(self, place: Place, file: FileRow, entry: IndexRow | None) -> str | None:
        """Whose rows an entry is of. Raises Refused where one organisation is asked for and its month knows others."""
        unit = place.left[file.unit_id]
        if self.organisation is not None and told_otherwise(unit, self.door.archive, "organisation"):
            raise Refused(
                "organisation_changed",
                f"{unit.words()} was archived while `organisation` was declared otherwise: which of its rows are of "
                f"{self.organisation!r} is not known. No answer was given; ask without an organisation.",
            )
        return None if entry is None else entry.organisation

    def _of_file(self, file: FileRow, entries: Sequence[IndexRow] | None, text: str) -> pa.Table:
        """The value's rows in one file. Raises FileDamaged unless it holds as many as the catalogue says.

        entries: of the index; None: every row group is looked through.
        """
        stored = self.door.opened(file)
        groups: Sequence[int] = range(file.row_groups)
        if entries is not None:
            groups = sorted({n for entry in entries for n in range(entry.first_group, entry.last_group + 1)})
        found = []
        for number in groups:
            table = stored.row_group(number)
            mine = in_file(table[self.lookup], text)
            if self.organisation is not None:
                mine = pc.and_(mine, self._mine(table))
            found.append(table.filter(mine))
        rows = pa.concat_tables(found)
        recorded = rows.num_rows if entries is None else sum(entry.rows for entry in entries)
        if rows.num_rows != recorded:
            raise FileDamaged(file, f"holds {rows.num_rows:,} rows of {text!r}, {recorded:,} were recorded")
        return rows.filter(self._in_time(rows[self.door.archive.time]))

    def _mine(self, table: pa.Table) -> pa.ChunkedArray:
        said = self.door.archive.organisation
        join = join_of(self.door.archive)
        if said is None or self.organisation is None:
            return pa.chunked_array([pa.repeat(True, table.num_rows)])
        column = table[join.stored_as if join else said.column]
        return pc.is_null(column) if self.organisation == UNKNOWN else in_file(column, self.organisation)

    def _in_time(self, times: pa.ChunkedArray) -> pa.ChunkedArray:
        mine = pa.chunked_array([pa.repeat(True, len(times))])
        for at, test in ((self.since, pc.greater_equal), (self.until, pc.less)):
            if at is not None:
                instant = pa.scalar(at.astimezone(UTC), pa.timestamp("us", tz="UTC"))
                mine = pc.and_(mine, test(_instants(times), instant))
        return mine


def _instants(times: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_date(times.type):
        times = times.cast(pa.timestamp("us"))
    return times if times.type.tz else pc.assume_timezone(times, "UTC")


def _without_hot(place: Place, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A row that is in the table, too, is the table's: it is on its way, or was changed since."""
    if not place.key:
        return batch
    keep = []
    for start in range(0, batch.num_rows, KEYS):
        part = batch.slice(start, KEYS)
        hot = place.hot(texts(part, place.key))
        keep += [n not in hot for n in range(part.num_rows)]
    return batch.filter(pa.array(keep, pa.bool_()))
