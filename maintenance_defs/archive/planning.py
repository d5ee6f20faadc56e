"""The plan of an archive: what would leave its table, expire or be dropped, and why the rest stays. Changes nothing.

It is recorded, approved and claimed as the plans of policies are. An item is one span of rows, one detached
partition or one file; its lines say whose rows they are.
Source: S4-43..S4-47, A4-1, A4-6, A4-13; archive hazards E73, G88, G90, G91, G93, G103, I121; V8, V14; DESIGN 4.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.cataloguing import require_catalogue
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.periods import Periods
from maintenance_defs.archive.survey import Span, Survey, survey
from maintenance_defs.control.archive import FileRow, UnitRow
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Covering
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.archive import Archive, ColumnArchive, parse_keep
from maintenance_defs.core.declaration import System, config_digest, policy_digest
from maintenance_defs.core.errors import AsOfInTheFuture, MaintenanceError, Refused
from maintenance_defs.core.problems import known_names
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.core.schemas import UTC_US
from maintenance_defs.databases.postgres import PostgresSnapshot

KIND = "archive_plan"
ITEMS_FILE = "items.parquet"
Facts = dict[str, Any]
COUNTED = {  # what the totals count together
    "archive": ("archive", "archive_value"), "expire_rows": ("expire_rows",), "drop": ("drop",),
    "expire_file": ("expire_file", "expire_value"),
}  # fmt: skip
Only = Literal["removal", "expiry"]  # what leaves its table, or what leaves the archive for good
SHOWN = 500  # lines that the control database remembers; the artefact holds all

ITEMS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),  # what is approved and done together
        pa.field(
            "act", pa.string(), nullable=False
        ),  # archive, expire_rows, drop, expire_file; of values archive_value, expire_value
        pa.field("label", pa.string(), nullable=False),
        pa.field("lower", UTC_US, nullable=False),
        pa.field("upper", UTC_US, nullable=False),
        pa.field("relation", pa.string(), nullable=False),
        pa.field("organisation", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("unit_id", pa.string()),
        pa.field("file_id", pa.string()),
        pa.field("key", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass
class Lines:
    """What a survey came to: lines that are done when approved, and lines that stay."""

    items: list[dict[str, Any]] = field(default_factory=list)
    stays: list[dict[str, Any]] = field(default_factory=list)
    units: int = 0

    def begin(self) -> None:
        self.units += 1

    def add(self, act: str, span: Mapping[str, Any], organisation: str, rows: int, reason: str, **more: Any) -> None:
        line = {**span, "act": act, "organisation": organisation, "rows": rows, "reason": reason, "size_bytes": 0}
        self.items.append({**line, "unit": self.units - 1, **more})

    def of(self, only: Only) -> Lines:
        """Those of one kind, their units numbered anew. What stays is told as it is."""
        some = [line for line in self.items if (line["act"] == "expire_file") == (only == "expiry")]
        numbers = {unit: number for number, unit in enumerate(sorted({line["unit"] for line in some}))}
        return Lines([{**line, "unit": numbers[line["unit"]]} for line in some], self.stays, len(numbers))

    def stay(self, why: str, span: Mapping[str, Any], organisation: str, rows: int, reason: str) -> None:
        self.stays.append({**span, "why": why, "organisation": organisation, "rows": rows, "reason": reason})


def find_any(system: System, name: str) -> Archive | ColumnArchive:
    """Of rows or of values. Raises Refused that names the known ones."""
    return system.archived_columns.get(name) or find_archive(system, name)


def find_archive(system: System, name: str) -> Archive:
    """Raises Refused that names the known ones."""
    if name in system.archived_columns:
        raise Refused(
            "unknown_archive",
            f"{name} of {system.name} is an archived column: it has values, not months. Nothing was done; what of it "
            f"would leave says `maintain plan {system.name} {name}`.",
        )
    if name not in system.archives:
        hint = known_names(name, system.archives)
        raise Refused("unknown_archive", f"{system.name} has no archive {name!r}. Nothing was done. {hint}")
    return system.archives[name]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def take_plan(
    system: System,
    name: str,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    only: Only | None = None,
    clock: Callable[[], datetime] = _utc_now,
) -> PlanRow:
    """Plan one archive on a fresh snapshot of its database; record the plan.

    as_of: not later than the clocks of this machine and of the database.
    only: plan what leaves the table, or what leaves the archive, so that each gets a consent of its own.
    Returns the plan's row: state 'planned', or 'done' where there is nothing to do.
    Raises Refused (also recorded, as an artefact without files) and whatever reading raises; then there is no plan.
    """
    archive = find_archive(system, name)

    def prepare(snapshot: PostgresSnapshot, at: datetime, _: Path) -> tuple[Lines, Facts]:
        found = survey(snapshot, archive, home.control.retention.holds(system.name), count=only != "expiry")
        lines = decide(system, name, home, replace(found, spans=()) if only == "expiry" else found, at)
        lines = lines.of(only) if only else lines
        facts = facts_of(system, name, archive, home, lines, found.periods, at, undated=found.undated)
        return lines, facts | {"only": only, "source": found.source, "lacking": lacking_of(snapshot, archive)}

    return record_plan(system, name, archive, home, prepare, run_id=run_id, as_of=as_of, clock=clock)


def record_plan(
    system: System,
    name: str,
    archive: Archive | ColumnArchive,
    home: Home,
    prepare: Callable[[PostgresSnapshot, datetime, Path], tuple[Lines, Facts]],
    *,
    run_id: str,
    as_of: datetime | None,
    clock: Callable[[], datetime],
) -> PlanRow:
    """The frame of a plan: one snapshot, one instant, an artefact, a row. See take_plan.

    prepare: the lines and what is known of them, at an instant; further files go into the folder.
    """
    started_at = clock()
    plan_id = uuid.uuid4().hex
    artefact = Artefact(
        id=plan_id, system=system.name, kind=KIND, name=name, run_id=run_id, as_of=as_of or started_at,
        started_at=started_at, ended_at=started_at, verdict="complete", reason=None, uri=None, row_count=0,
        size_bytes=0, digest=None, evidence={}, config_digest=config_digest(system), inputs=(),
    )  # fmt: skip
    try:
        with archive_database(system, home).snapshot() as snapshot:
            at = min(started_at, snapshot.evidence.taken_at)
            if as_of is not None and as_of > at:
                raise AsOfInTheFuture(f"as-of {format_instant(as_of)} lies after the clocks. Nothing was planned.")
            at = as_of or at
            with home.artefacts.stage(system.name, KIND, name, plan_id, as_of=at) as staged:
                lines, facts = prepare(snapshot, at, staged.path)
                _write(staged.path / ITEMS_FILE, lines.items)
                uri, manifest, size_bytes = staged.commit()
    except MaintenanceError as error:
        reason = getattr(error, "reason", type(error).__name__)
        refused = {"verdict": "refused", "reason": reason, "evidence": {"message": str(error)}, "ended_at": clock()}
        home.control.record(Artefact(**{**_values(artefact), **refused}))
        raise
    full = policy_digest(system, name, {})
    recorded = {
        "as_of": at, "uri": uri, "digest": manifest, "size_bytes": size_bytes, "row_count": len(lines.items),
        "evidence": facts, "ended_at": clock(),
    }  # fmt: skip
    home.control.record(Artefact(**{**_values(artefact), **recorded}))
    now = clock()
    totals = facts["totals"]
    row = PlanRow(
        id=plan_id, system=system.name, policy=name, artefact_id=plan_id, digest=plan_digest(manifest, full, at),
        config_digest=full, as_of=at, created_at=now, expires_at=now + archive.approval_lasts,
        state="planned" if lines.units else "done", units=lines.units, objects=totals["objects"], rows=totals["rows"],
        size_bytes=totals["size_bytes"], totals=facts, run_id=run_id,
        message=None if lines.units else "nothing to do",
    )  # fmt: skip
    home.control.retention.record_plan(row)
    return row


def plan_digest(manifest: str, config: str, as_of: datetime) -> str:
    """What consent binds to (I9)."""
    return hashlib.sha256("\0".join((manifest, config, format_instant(as_of))).encode()).hexdigest()


def decide(system: System, name: str, home: Home, found: Survey, as_of: datetime) -> Lines:
    """What may leave, expire or be dropped at `as_of`, and why the rest stays."""
    archive = system.archives[name]
    state = home.control.archive
    lines = Lines()
    covering = home.control.retention.covering(system.name)
    units = [unit for unit in state.units(system.name, name) if unit.source == found.source]
    newest = {(unit.lower, unit.upper): unit for unit in units}  # the last part of each
    for span in found.spans:
        _decide_span(lines, archive, name, span, found.periods, newest.get((span.lower, span.upper)), covering, as_of)
    there = {span.part.oid for span in found.spans}
    for unit in units:
        if unit.method == "partition" and unit.left_at is None and unit.relation_oid not in there:
            _decide_broken_off(lines, unit)
        if unit.state == "detached" and unit.left_at is not None:
            _decide_drop(lines, archive, unit, as_of, covering, name)
    by_id = {unit.id: unit for unit in units}
    for file in state.files(system.name, name):
        if file.unit_id in by_id:  # another database's files are not ours to expire (G103)
            _decide_file(lines, home, archive, name, file, by_id[file.unit_id], found.periods, as_of, covering)
    return lines


def _decide_span(
    lines: Lines,
    archive: Archive,
    name: str,
    span: Span,
    periods: Periods,
    known: UnitRow | None,
    covering: Covering,
    as_of: datetime,
) -> None:
    said = {"label": span.label, "lower": span.lower, "upper": span.upper, "relation": str(span.part)}
    if span.upper > as_of - archive.hot:
        for organisation, rows in span.rows.items():
            lines.stay("hot", said, organisation, rows, f"hot for {format_duration(archive.hot)} after its month")
        return
    if not span.total and (known is not None and known.left_at is not None):
        return  # a late lane in which nothing has arrived
    if known is not None and known.left_at is None and known.relation_oid != span.part.oid:
        return  # the late lane of a month that a killed run was taking out
    hold = covering.hold_on(name, table=archive.table, row_id=span.label)
    if hold is not None or span.held is not None:
        why = hold.words() if hold is not None else f"a hold covers {span.held}"
        for organisation, rows in span.rows.items() or [("", 0)]:
            lines.stay("held", said, organisation, rows, why)
        return
    lines.begin()
    going = known is not None and known.left_at is None
    unit_id = known.id if known is not None and going else None
    if not span.rows:
        lines.add("archive", said, "", 0, "an empty month: only its partition leaves", unit_id=unit_id)
    for organisation, rows in span.rows.items():
        before = periods.expired_before(organisation, as_of)
        if before is not None and span.upper <= before:
            reason = f"older than {periods.words(organisation)}"
            lines.add("expire_rows", said, organisation, rows, reason, unit_id=unit_id)
        else:
            reason = f"cold for {format_duration(archive.hot)}; kept {periods.words(organisation)}"
            lines.add("archive", said, organisation, rows, reason, unit_id=unit_id)


def _decide_broken_off(lines: Lines, unit: UnitRow) -> None:
    """A run was killed after it had detached the partition: what it was allowed to do is completed."""
    said = {"label": unit.label, "lower": unit.lower, "upper": unit.upper, "relation": unit.relation}
    lines.begin()
    for group in unit.groups or [{"organisation": "", "rows": unit.rows or 0, "kept": True}]:
        act = "archive" if group["kept"] else "expire_rows"
        reason = "detached by a run that was broken off; its rows are still in the database"
        lines.add(act, said, group["organisation"], group["rows"], reason, unit_id=unit.id)


def _decide_drop(lines: Lines, archive: Archive, unit: UnitRow, as_of: datetime, covering: Covering, name: str) -> None:
    said = {"label": unit.label, "lower": unit.lower, "upper": unit.upper, "relation": unit.relation}
    due = unit.left_at + archive.undo_window if unit.left_at else as_of
    if hold := covering.hold_on(name, table=archive.table, row_id=unit.label):
        lines.stay("held", said, "", unit.rows or 0, hold.words())
    elif due > as_of:
        lines.stay(
            "waits",
            said,
            "",
            unit.rows or 0,
            f"detached; can be put back until {format_instant(due.replace(microsecond=0))}",
        )
    else:
        lines.begin()
        reason = f"detached since {format_instant(unit.left_at or as_of)}; its rows are in the archive"
        lines.add("drop", said, "", unit.rows or 0, reason, unit_id=unit.id, size_bytes=unit.heap_bytes or 0)


def _decide_file(
    lines: Lines,
    home: Home,
    archive: Archive,
    name: str,
    file: FileRow,
    unit: UnitRow,
    periods: Periods,
    as_of: datetime,
    covering: Covering,
) -> None:
    said = {"label": unit.label, "lower": unit.lower, "upper": unit.upper, "relation": unit.relation}
    groups = home.control.archive.groups([file.id])
    due = []
    for group in groups:
        before = periods.expired_before(group.organisation, as_of)
        if before is not None and unit.upper <= before:
            due.append(group)
    if not due or unit.left_at is None:
        return  # rows that are still in the table expire with it
    hold = covering.hold_on(name, store=file.store, key=file.key) or covering.hold_on(
        name, table=archive.table, row_id=unit.label
    )
    if hold is not None:
        for group in due:
            lines.stay("held", said, group.organisation, group.rows, hold.words())
        return
    lines.begin()
    for group in due:
        share = round(file.size_bytes * group.rows / file.rows) if file.rows else file.size_bytes
        lines.add(
            "expire_file", said, group.organisation, group.rows, f"older than {periods.words(group.organisation)}",
            unit_id=unit.id, file_id=file.id, key=file.key, size_bytes=share,
        )  # fmt: skip


def lacking_of(snapshot: PostgresSnapshot, archive: Archive | ColumnArchive) -> list[str]:
    """The application's own catalogue, where it is declared and does not exist: nothing can leave without it."""
    if archive.catalogue is None:
        return []
    try:
        require_catalogue(snapshot.connection, archive.catalogue)
    except Refused:
        return [archive.catalogue.table]
    return []


def shortened(system: System, name: str, home: Home, lines: Lines, periods: Periods) -> list[str]:
    """Organisations whose rows would expire although they were once to be kept longer (G91)."""
    remembered = home.control.archive.keeps(system.name, name)
    found = []
    for organisation in sorted({line["organisation"] for line in lines.items if line["act"].startswith("expire")}):
        before, now = remembered.get(organisation), periods.of(organisation)
        if before is None or now is None:
            continue
        once = parse_keep(before)
        if once is None or once > now:
            found.append(f"{organisation}: kept {before} before, now {format_duration(now)}")
    return found


def facts_of(
    system: System, name: str, archive: Archive | ColumnArchive, home: Home, lines: Lines, periods: Periods,
    as_of: datetime, *, undated: int,
) -> Facts:  # fmt: skip
    """What the plan's page shows. undated: rows without a time, which stay."""
    shorter = shortened(system, name, home, lines, periods)
    rows = {act: sum(line["rows"] for line in lines.items if line["act"] in acts) for act, acts in COUNTED.items()}
    files = {line["file_id"] for line in lines.items if line.get("file_id")}
    return {
        "kind": "archive",
        "as_of": format_instant(as_of),
        "describe": archive.describe,
        "mode": archive.mode,
        "totals": {
            "units": lines.units,
            "objects": len(files),
            "rows": rows["archive"] + rows["expire_rows"] + rows["expire_file"],
            "size_bytes": sum(line["size_bytes"] for line in lines.items),
            **{f"{act}_rows": count for act, count in rows.items()},
            **{f"{why}_rows": sum(line["rows"] for line in lines.stays if line["why"] == why) for why in
               ("hot", "held", "waits")},
            "undated_rows": undated,
        },
        "spans": _spans(lines),
        "lines": [_plain(line) for line in lines.items[:SHOWN]],
        "stays": [_plain(line) for line in lines.stays[:SHOWN]],
        "invalid": [asdict(one) for one in periods.invalid],
        "shortened": shorter,
        "limits_exceeded": [],
        "guards": [],
        "second_person": archive.second_person or bool(shorter),
    }  # fmt: skip


def _spans(lines: Lines) -> list[dict[str, Any]]:
    """All that would leave their table, with their rows of whatever organisation."""
    found: dict[int, dict[str, Any]] = {}
    for line in lines.items:
        if line["act"] in ("archive", "expire_rows"):
            said = {name: line[name] for name in ("label", "lower", "upper", "relation")}
            span = found.setdefault(line["unit"], _plain(said) | {"rows": 0})
            span["rows"] += line["rows"]
    return list(found.values())


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: format_instant(value) if isinstance(value, datetime) else value for name, value in line.items()}


def _write(path: Path, items: Sequence[Mapping[str, Any]]) -> None:
    table = pa.Table.from_pylist([{f.name: item.get(f.name) for f in ITEMS} for item in items], schema=ITEMS)
    pq.write_table(table, path, compression="zstd")


def read_items(home: Home, plan: PlanRow) -> list[dict[str, Any]]:
    """The lines of a plan, in its order. Raises Refused("digest") where they are not what was approved (I9)."""
    artefact = home.control.get(plan.artefact_id)
    if plan_digest(artefact.digest or "", plan.config_digest, plan.as_of) != plan.digest or artefact.uri is None:
        raise Refused("digest", f"plan {plan.id} is not what its digest says. Nothing was done: plan again.")
    path = home.artefacts.local(artefact.uri, artefact.digest) / ITEMS_FILE
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def by_unit(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """The lines of each unit, in order."""
    units: dict[int, list[Mapping[str, Any]]] = {}
    for item in items:
        units.setdefault(item["unit"], []).append(item)
    yield from sorted(units.items())


def _values(artefact: Artefact) -> dict[str, Any]:
    return {name: getattr(artefact, name) for name in Artefact.__dataclass_fields__}
