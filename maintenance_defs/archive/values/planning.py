"""The plan of a column archive, and one unit of it carried out. A unit is the values of one organisation.

It is recorded, approved, claimed and put on the ledger as the plans of other archives are; which values it means
stands beside its lines, by unit, and is part of what is approved.
Source: S4-50, S4-55, A4-7; archive hazards F85, G91; V14.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maintenance_defs.archive.plans.deciding import Lines, Only
from maintenance_defs.archive.plans.recording import Facts, facts_of, lacking_of, read_items, record_plan
from maintenance_defs.archive.values.acting import carry_out
from maintenance_defs.archive.values.giving import find_column_archive
from maintenance_defs.archive.values.judging import CHECK, HELD, RESTORED, RUNNING, UNDATED, YOUNG
from maintenance_defs.archive.values.survey import ITEMS, Survey, survey_values
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.archive import ColumnArchive
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Refused
from maintenance_defs.databases.postgres import PostgresSnapshot
from maintenance_defs.reconcile.calculator import calculator, literal

VALUES_FILE = "values.parquet"  # unit, and ITEMS; sorted by unit and row
BATCH = 500  # values that are carried out together
ACTS = {"archive": "archive_value", "expire": "expire_value"}
WHY = {RUNNING: "hot", YOUNG: "hot", HELD: "held", CHECK: "held", RESTORED: "waits"}  # as the totals count them


def take_values_plan(
    system: System,
    name: str,
    home: Home,
    *,
    run_id: str,
    as_of: datetime | None = None,
    only: Only | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> PlanRow:
    """As archive.plans.planning.take_plan, for an archived column."""
    archive = find_column_archive(system, name)

    def prepare(snapshot: PostgresSnapshot, at: datetime, folder: Path) -> tuple[Lines, Facts]:
        acts = {"removal": ("archive",), "expiry": ("expire",)}.get(only or "", tuple(ACTS))
        found = survey_values(snapshot, system, name, archive, home, at, acts)
        lines = _write(found, archive, at, folder / VALUES_FILE)
        _stays(found, archive, at, lines)
        facts = facts_of(system, name, archive, home, lines, found.periods, at, undated=found.stays[UNDATED])
        listed = {why: [list(one) for one in some] for why, some in found.listed.items()}
        more = {"of": "values", "spans": [], "listed": listed, "lacking": lacking_of(snapshot, archive)}
        return lines, facts | more | {"only": only, "source": found.source}

    return record_plan(system, name, archive, home, prepare, run_id=run_id, as_of=as_of, clock=clock)


def carry_out_unit(system: System, name: str, home: Home, plan: PlanRow, unit: int) -> tuple[str, str | None]:
    """(outcome, what a person should know) of the values of one unit; done again, it does what was left.

    A value that changed or is held by now keeps its place and does not fail the others. Raises as `carry_out`.
    """
    archive = find_column_archive(system, name)
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for batch in read_values(home, plan, unit):
        for one in carry_out(system, name, archive, home, batch, plan.as_of):
            counts[one.outcome] += 1
            first.setdefault(one.outcome, f"{one.row_id}: {one.detail or one.outcome}")
    other = {outcome: n for outcome, n in counts.items() if outcome not in SUCCESS}
    if not other:
        return counts.most_common(1)[0][0], None
    words = "; ".join(f"{n:,} of {counts.total():,} values {o.replace('_', ' ')}, {first[o]}" for o, n in other.items())
    done = [outcome for outcome in counts if outcome in SUCCESS]
    outcome = "failed" if "failed" in other else (done or list(other))[0]
    return outcome, words


def read_values(home: Home, plan: PlanRow, unit: int) -> Iterator[pa.RecordBatch]:
    """Batches of ITEMS of one unit. Raises Refused("digest") where the plan is not what was approved (I9)."""
    read_items(home, plan)
    artefact = home.control.get(plan.artefact_id)
    if artefact.uri is None:
        raise Refused("digest", f"plan {plan.id} left no files. Nothing was done: plan again.")
    file = pq.ParquetFile(home.artefacts.local(artefact.uri, artefact.digest) / VALUES_FILE)
    for group in range(file.num_row_groups):
        units = file.metadata.row_group(group).column(0).statistics
        if units.min <= unit <= units.max:
            for batch in file.iter_batches(BATCH, row_groups=[group]):
                mine = batch.filter(pa.compute.equal(batch["unit"], unit))
                if mine.num_rows:
                    yield mine.select(ITEMS.names)


def _write(found: Survey, archive: ColumnArchive, at: datetime, path: Path) -> Lines:
    """The survey's items as units, streamed to a file; a line of each."""
    lines = Lines()
    with TemporaryDirectory(prefix="values-") as folder, calculator(Path(folder)) as con:
        listed = Path(folder) / "listed.parquet"
        with pq.ParquetWriter(listed, ITEMS) as out:
            for batch in found.items:
                out.write_batch(batch)
        con.execute(
            f"COPY (SELECT dense_rank() OVER (ORDER BY act, organisation) - 1 AS unit, * "
            f"FROM read_parquet({literal(listed)}) ORDER BY unit, row_id) TO {literal(path)} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20000)"
        )
        units = con.execute(
            f"SELECT act, organisation, count(*), sum(size_bytes)::BIGINT, min(reason) "
            f"FROM read_parquet({literal(path)}) GROUP BY unit, act, organisation ORDER BY unit"
        ).fetchall()
    for act, organisation, rows, size_bytes, reason in units:
        lines.begin()
        lines.add(ACTS[act], _said(archive, at), organisation, rows, reason, size_bytes=size_bytes)
    return lines


def _stays(found: Survey, archive: ColumnArchive, at: datetime, lines: Lines) -> None:
    """Why the other rows keep their value; complete only once the items were taken."""
    for why, rows in sorted(found.stays.items()):
        some = found.listed.get(why, [])
        words = why.replace("_", " ") + (f", such as {some[0][0]}: {some[0][1]}" if some else "")
        lines.stay(WHY.get(why, why), _said(archive, at), "", rows, words)


def _said(archive: ColumnArchive, at: datetime) -> dict[str, Any]:
    """Values are of no month: the column stands for it."""
    return {"label": archive.column, "lower": at, "upper": at, "relation": archive.table}
