"""A plan on record: its lines as an artefact, its row, what its page shows, and its lines read again.

The same for rows and for values. Source: DESIGN 4; archive hazards G88, G91; V14, I9.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.plans.deciding import Lines
from maintenance_defs.archive.plans.periods import Periods
from maintenance_defs.archive.units.cataloguing import require_catalogue
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.core.archive import Archive, ColumnArchive, parse_keep
from maintenance_defs.core.declaration import System, config_digest, policy_digest
from maintenance_defs.core.errors import AsOfInTheFuture, MaintenanceError, Refused
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
SHOWN = 500  # lines that the control database remembers; the artefact holds all

ITEMS = pa.schema(
    [
        pa.field("unit", pa.int64(), nullable=False),  # what is approved and done together
        # archive, expire_rows, drop, expire_file; of values archive_value, expire_value
        pa.field("act", pa.string(), nullable=False),
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
        if now is not None and is_shorter(before, now):
            found.append(f"{organisation}: kept {before} before, now {format_duration(now)}")
    return found


def is_shorter(before: str | None, now: timedelta | None) -> bool:
    """Whether rows were to be kept longer before. before: as remembered; None where nothing was."""
    once = None if before is None else parse_keep(before)
    return before is not None and now is not None and (once is None or once > now)


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
