"""What `maintain demo` shows of archives: cold months leave, are asked, and come back, so that the data is as it was.

What would expire without a way back is planned only. It is shown once: later runs tell of it from the control database
and change nothing, until the data is made afresh.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.core.quantities import format_size

if TYPE_CHECKING:
    from maintenance_defs.archive.units.exporting import Work
    from maintenance_defs.control.archive import UnitRow
    from maintenance_defs.control.artefacts import Artefact
    from maintenance_defs.control.home import Home
    from maintenance_defs.control.retention import PlanRow
    from maintenance_defs.demo.data import DemoSystem

ACTOR = "maintain demo"
REASON = "to show how it works"
OURS = "demo-"  # how the run ids of the demonstration begin
SHOWN = 3
KIND = "demonstration"


def give_archives_back(one: DemoSystem, home: Home) -> None:
    """Rows that a demonstration archived and did not bring back come back. Raises MaintenanceError."""
    for name in one.system.archives:
        plans = home.control.retention.plans(one.system.name, name, limit=1)
        if plans and _ours(plans[0]):
            _bring_back(_work(one, name, home))


def show_archives(one: DemoSystem, home: Home, *, afresh: bool) -> Iterator[tuple[str, bool]]:
    """Lines of what happened, each with whether all is well; nothing for a system without archives.

    afresh: the data was made just now, so that nothing that was shown before is true of it.
    """
    from maintenance_defs.core.declaration import policy_digest

    for name, archive in one.system.archives.items():
        digest = policy_digest(one.system, name, {})
        known = None if afresh else home.control.latest(one.system.name, KIND, name)
        try:
            yield f"{name}: {archive.describe}", True
            if known is not None and known.config_digest == digest:
                yield from ((line, True) for line in known.evidence["lines"])
                continue
            told: list[tuple[str, bool]] = []
            for line in _archive(one, name, home):
                told.append(line)
                yield line
            if all(good for _, good in told):
                home.control.record(_as_told(one, name, digest, [line for line, _ in told]))
        except MaintenanceError as error:
            yield f"  {error}", False


def _as_told(one: DemoSystem, name: str, digest: str, lines: list[str]) -> Artefact:
    """What later demonstrations tell again."""
    from maintenance_defs.control.artefacts import Artefact

    now, id = datetime.now(UTC), uuid.uuid4().hex
    return Artefact(
        id=id, system=one.system.name, kind=KIND, name=name, run_id=f"{OURS}{id}", as_of=one.as_of, started_at=now,
        ended_at=now, verdict="complete", reason=None, uri=None, row_count=0, size_bytes=0, digest=None,
        evidence={"lines": lines}, config_digest=digest, inputs=(),
    )  # fmt: skip


def _archive(one: DemoSystem, name: str, home: Home) -> Iterator[tuple[str, bool]]:
    from maintenance_defs.archive.gate import execute
    from maintenance_defs.archive.plans.planning import take_plan
    from maintenance_defs.archive.plans.recording import by_unit, read_items

    plan = take_plan(one.system, name, home, run_id=f"{OURS}{uuid.uuid4().hex}", as_of=one.as_of)
    yield _planned(plan), True
    if expired := plan.totals["totals"]["expire_rows_rows"]:
        yield f"  not applied here: {expired:,} rows are past their time, and would go without a way back", True
    units = by_unit(read_items(home, plan))
    chosen = [unit for unit, lines in units if {line["act"] for line in lines} == {"archive"}]
    if not chosen:
        return
    home.control.retention.approve(
        plan.id, plan.digest, len(chosen), ACTOR, REASON, expires_at=plan.expires_at, only=chosen
    )
    done = execute(one.system, plan.id, home, run_id=plan.run_id or OURS)
    for problem in done.problems[:SHOWN]:
        yield f"  {problem['label']}: {problem['detail']}", False
    if done.state == "done":
        work = _work(one, name, home)
        yield _saved(work), True
        yield from _asked(work)
        yield _bring_back(work), True


def _planned(plan: PlanRow) -> str:
    totals = plan.totals["totals"]
    cold = sorted({line["label"] for line in plan.totals["lines"] if line["act"] == "archive"})
    return (
        f"  plan {plan.id[:8]}: {totals['archive_rows']:,} rows of {', '.join(cold) or 'no month'} are cold; "
        f"{totals['hot_rows']:,} stay hot"
    )


def _saved(work: Work) -> str:
    files = work.home.control.archive.files(work.system.name, work.name)
    rows, size = sum(file.rows for file in files), sum(file.size_bytes for file in files)
    return (
        f"  archived {rows:,} rows in {len(files)} Parquet files of {format_size(size)}, each fetched back and proven "
        f"before its rows left the table"
    )


def _asked(work: Work) -> Iterator[tuple[str, bool]]:
    """A question over hot and cold rows, and the rows of one value of the lookup column."""
    from maintenance_defs.archive.reading import get, query
    from maintenance_defs.databases.statements import quote

    archive = work.archive
    month = f"strftime({quote(archive.time)}, '%Y-%m')"
    sql = f"SELECT {month} AS month, count(*) AS rows FROM {work.name}_all GROUP BY 1 ORDER BY 1"
    answer = query(work.home, [work.system], sql).read_all().to_pylist()
    months = ", ".join(f"{row['month']} {row['rows']:,}" for row in answer)
    yield f"  rows by month, hot and cold in one query: {months}", True
    if archive.lookup is None:
        return
    files = work.home.control.archive.files(work.system.name, work.name)
    values = [entry for file in files for entry in work.home.control.archive.index_of(file.id)]
    value = max(values, key=lambda entry: (entry.rows, entry.value)).value
    got = get(work.system, work.name, work.home, value=value)
    rows = got.read_all().num_rows
    yield (
        (
            f"  {archive.lookup} {value}: {rows:,} rows in order of time, {got.archived_rows:,} of them archived "
            f"({got.reads.requests} reads, {format_size(got.reads.bytes)})"
        ),
        True,
    )


def _bring_back(work: Work) -> str:
    """Every month that left goes back into its table, and nothing is held because of it."""
    from maintenance_defs.archive.units.expiring import sweep
    from maintenance_defs.archive.units.returning import into_place, put_back

    control = work.home.control
    months: dict[str, list[UnitRow]] = {}
    for unit in control.archive.units(work.system.name, work.name, ("detached", "removed")):
        months.setdefault(unit.label, []).append(unit)
    for units in months.values():
        if units[0].state == "detached":
            put_back(work, units[0], actor=ACTOR, reason=REASON)
        else:
            into_place(work, units, actor=ACTOR, reason=REASON)
    for hold in control.retention.holds(work.system.name):
        if hold.actor == ACTOR and hold.policy == work.name:
            control.retention.release_hold(hold.id, ACTOR, "the demonstration is over")
    sweep(work, grace=timedelta(0))  # nobody else reads here: the store is as it was, too
    return f"  put back into the table: {', '.join(months) or 'nothing had left'}"


def _work(one: DemoSystem, name: str, home: Home) -> Work:
    from maintenance_defs.archive.units.exporting import Work

    run_id = f"{OURS}{uuid.uuid4().hex}"
    return Work(one.system, name, home, run_id, datetime.now(UTC), run_id, lambda line: None)


def _ours(plan: PlanRow) -> bool:
    return (plan.run_id or "").startswith(OURS)
