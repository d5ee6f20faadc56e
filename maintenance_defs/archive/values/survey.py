"""What a column archive would do now: values that would leave their rows, objects that expire. It changes nothing.

Source: S4-50, S4-51, S4-55, A4-7; hazards F85, G91, G103; V8, V14.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from maintenance_defs.archive.plans.periods import Periods, read_periods
from maintenance_defs.archive.values.judging import (
    CHECK,
    HELD,
    LISTED,
    OTHER_SOURCE,
    RUNNING,
    UNDATED,
    YOUNG,
    Stay,
    judge,
)
from maintenance_defs.archive.values.source import Source, open_source, place_of, read_rows
from maintenance_defs.control.archive import ValueRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.holds import Covering
from maintenance_defs.core.archive import UNKNOWN, ColumnArchive
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.databases.postgres import PostgresSnapshot

PAGE = 500  # rows whose values one question reads
SHOWN = 100  # ids that are remembered of each reason

ITEMS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("organisation", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),  # of the value's text; of the object where it expires
        pa.field("act", pa.string(), nullable=False),  # archive, expire
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass
class Survey:
    """items: batches of ITEMS, once. stays and listed are complete when the last batch was taken.

    stays: reason -> rows that keep their value. listed: reason -> the first ids, with words, where a person may have
    to do something.
    """

    source: str  # which database: a fork is another one
    periods: Periods
    items: Iterator[pa.RecordBatch] = field(repr=False)
    stays: Counter[str] = field(default_factory=Counter)
    listed: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def stay(self, row_id: str, one: Stay) -> None:
        self.stays[one.why] += 1
        if one.why in LISTED and len(shown := self.listed.setdefault(one.why, [])) < SHOWN:
            shown.append((row_id, one.words))


def survey_values(
    snapshot: PostgresSnapshot, system: System, name: str, archive: ColumnArchive, home: Home, as_of: datetime,
    acts: Collection[str] = ("archive", "expire"),
) -> Survey:  # fmt: skip
    """Items in the order of their ids: values to archive, then those to expire. acts: only these are looked for.

    Raises SourceUnavailable, Refused ("no_row_id", "no_json"). The items end with the snapshot.
    """
    found = Survey(snapshot.evidence.identity, read_periods(snapshot, archive), iter(()))
    source = open_source(snapshot, system, archive, home, as_of)
    covering = home.control.retention.covering(system.name)

    def items() -> Iterator[pa.RecordBatch]:
        if "archive" in acts:
            yield from _to_archive(found, snapshot, source, system, name, archive, home, covering, as_of)
        if "expire" in acts:
            yield from _to_expire(found, system, name, archive, home, covering, as_of)

    found.items = items()
    return found


def _to_archive(
    found: Survey, snapshot: PostgresSnapshot, source: Source, system: System, name: str, archive: ColumnArchive,
    home: Home, covering: Covering, as_of: datetime,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    before = f"TIMESTAMPTZ '{format_instant(as_of - archive.hot)}'"
    # In this order, as `judge` asks: what is not finished has no age yet.
    why = (
        f"CASE WHEN (\n{source.finished}\n) IS NOT TRUE THEN '{RUNNING}' WHEN {source.dated} IS NULL THEN '{UNDATED}' "
        f"WHEN {source.dated} > {before} THEN '{YOUNG}' ELSE '' END"
    )
    present = f"{source.column} IS NOT NULL"
    for counted in snapshot.rows(f"SELECT {why} AS why, count(*) AS n FROM {source.sql} WHERE {present} GROUP BY 1"):
        if counted["why"]:
            found.stays[counted["why"]] += counted["n"]
    rows_of = f"SELECT {source.id_text} AS row_id FROM {source.sql} WHERE {present} AND {why} ="
    for undated in snapshot.rows(f"{rows_of} '{UNDATED}' ORDER BY {source.id}", limit=SHOWN):
        found.listed.setdefault(UNDATED, []).append((undated["row_id"], f"its {archive.time} is empty"))
    reason = f"finished {format_duration(archive.hot)} ago or earlier"
    checks, held_by, join = _with_checks(source)
    registered = source.registering.check if source.registering is not None else None
    registers = f"{reason}; its rows for {registered} are written with it"
    candidates = (
        f"{checks}SELECT {source.id_text} AS row_id, {held_by} AS held_by FROM {source.sql}{join} "
        f"WHERE {present} AND {why} = '' ORDER BY {source.id}"
    )
    for batch in snapshot.read(candidates):
        held = dict(zip(batch["row_id"].to_pylist(), batch["held_by"].to_pylist(), strict=True))
        ids = list(held)
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            rows = read_rows(snapshot, source, page, whole=False)
            known = home.control.archive.values_of(system.name, name, page)
            going: list[dict[str, object]] = []
            for row_id in page:
                row = rows[row_id]
                key = place_of(archive, row_id, row.organisation)
                stay = judge(row, known.get(row_id), archive, found.source, as_of)
                check = held[row_id]
                if stay is None and check not in (None, registered):
                    stay = Stay(CHECK, f"check {check} found it")
                if stay is None and (hold := covering.hold_on(
                    name, store=archive.store, key=key, table=archive.table, row_id=row_id
                )):  # fmt: skip
                    stay = Stay(HELD, hold.words())
                if stay is not None:
                    found.stay(row_id, stay)
                    continue
                going.append(
                    {"row_id": row_id, "organisation": row.organisation, "size_bytes": row.size_bytes,
                     "act": "archive", "key": key, "reason": reason if check is None else registers}
                )  # fmt: skip
            if going:
                yield pa.RecordBatch.from_pylist(going, schema=ITEMS)


def _with_checks(source: Source) -> tuple[str, str, str]:
    """WITH, what is selected, and JOIN: which check, if any, holds a row. Each is asked once, of the whole table."""
    if not source.checks:
        return "", "CAST(NULL AS text)", ""
    answered = source.registering.check if source.registering is not None else None
    asked = sorted(source.checks, key=lambda name: name == answered)  # what holds a row comes first
    held = " UNION ALL ".join(
        f"SELECT {source.id_text} AS i, {number} AS n FROM {source.sql} WHERE (\n{source.checks[name]}\n)"
        for number, name in enumerate(asked)
    )
    names = " ".join(f"WHEN {number} THEN '{name}'" for number, name in enumerate(asked))
    # Names that no declared condition can mean by its own.
    return (
        f'WITH "maintenance held" ("maintenance id", "maintenance check") AS '
        f"(SELECT i, min(n) FROM ({held}) AS found GROUP BY i) ",
        f'CASE "maintenance check" {names} END',
        f' LEFT JOIN "maintenance held" ON "maintenance id" = {source.id_text}',
    )


def _to_expire(
    found: Survey, system: System, name: str, archive: ColumnArchive, home: Home, covering: Covering, as_of: datetime
) -> Iterator[pa.RecordBatch]:
    for page in home.control.archive.values(system.name, name, ("proven", "slimmed", "restored", "expiring")):
        going = []
        for known in page:
            if (reason := due(known, found.periods, as_of)) is None:
                continue
            stay = kept(known, name, archive, found.source, covering)
            if stay is not None:
                found.stay(known.row_id, stay)
                continue
            going.append(
                {"row_id": known.row_id, "organisation": known.organisation or UNKNOWN, "size_bytes": known.size_bytes,
                 "act": "expire", "key": known.key, "reason": reason}
            )  # fmt: skip
        if going:
            yield pa.RecordBatch.from_pylist(going, schema=ITEMS)


def due(known: ValueRow, periods: Periods, as_of: datetime) -> str | None:
    """Why the value's object expires; None while it does not."""
    if known.state == "expiring":
        return "expired, and its object may still be there"
    organisation = known.organisation or UNKNOWN
    before = periods.expired_before(organisation, as_of)
    if before is None or known.dated_at is None or known.dated_at > before:
        return None
    return f"older than {periods.words(organisation)}"


def kept(known: ValueRow, name: str, archive: ColumnArchive, identity: str, covering: Covering) -> Stay | None:
    """Why an object that is due stays all the same (G103, V11)."""
    if known.source != identity:
        return Stay(OTHER_SOURCE, "its value was archived from another database")
    hold = covering.hold_on(name, store=known.store, key=known.key, table=archive.table, row_id=known.row_id)
    return Stay(HELD, hold.words()) if hold is not None else None
