"""The gate of archives: an approved plan is claimed, each act is on the ledger before and after, units go on as far as
they can. There is no dry run in here; exporting alone needs no consent, because nothing leaves (`run_archive`).

Source: DESIGN 4; archive hazards C42, I118-I125; I6-I12.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from maintenance_defs.archive.declared import find_any, find_archive
from maintenance_defs.archive.doors import archive_database
from maintenance_defs.archive.iceberg import keep_up
from maintenance_defs.archive.plans.periods import read_periods
from maintenance_defs.archive.plans.recording import by_unit, is_shorter, read_items
from maintenance_defs.archive.plans.survey import Place, Survey, survey
from maintenance_defs.archive.units.expiring import expire_file, sweep
from maintenance_defs.archive.units.exporting import LEFT, Work, catalogue_unit, unit_of
from maintenance_defs.archive.units.leaving import agree, drop, go_on, leave
from maintenance_defs.archive.values.planning import carry_out_unit
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Intent, Outcome
from maintenance_defs.control.retention.lease import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.archive import Archive, ColumnArchive
from maintenance_defs.core.cutoff import utc_now
from maintenance_defs.core.declaration import System, policy_digest
from maintenance_defs.core.errors import AsOfInTheFuture, Busy, Held, LeaseLost, MaintenanceError, Refused
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.core.retention_rules import enabled_by

LEASE_SECONDS = 300.0  # renewed while a unit is at work; a killed run blocks for so long
SKIPPED = {"changed": "skipped_changed", "left": "skipped_changed", "held": "skipped_held"}
GOOD = (*SUCCESS, "skipped_changed", "skipped_held", "skipped_kept")

Progress = Callable[[int], None]
Log = Callable[[str], None]
Line = Mapping[str, Any]
AnyArchive = Archive | ColumnArchive


def _silent(_: Any) -> None:
    return None


@dataclass
class Execution:
    """What a run did. state: done or partial, or nothing where the plan had been executed already."""

    plan: PlanRow
    state: str
    counts: dict[str, int] = field(default_factory=dict)
    by_act: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    message: str | None = None
    seconds: float = 0.0

    def add(self, line: Line, outcome: str, detail: str | None) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        acts = self.by_act.setdefault(line["act"], {})
        acts[outcome] = acts.get(outcome, 0) + 1
        if outcome not in SUCCESS:
            what = {"act": line["act"], "label": line["label"], "organisation": line["organisation"]}
            self.problems.append({**what, "outcome": outcome, "detail": detail})


def execute(
    system: System,
    plan_id: str,
    home: Home,
    *,
    run_id: str,
    owner: str | None = None,
    progress: Progress = _silent,
    log: Log = _silent,
    clock: Callable[[], datetime] = utc_now,
    lease_seconds: float = LEASE_SECONDS,
) -> Execution:
    """Do what an approved plan of an archive says, as far as it is still right. May be run again.

    progress: called with the units done. log: a sentence a unit.
    Raises Refused (not approved, expired, changed, paused, disabled, busy) before anything was done. A unit that
    fails leaves the others to go on; the plan is then `partial`.
    """
    began = time.monotonic()
    state = home.control.retention
    plan = state.plan(plan_id)
    if plan.system != system.name:
        raise Refused("wrong_system", f"plan {plan_id} is of {plan.system}, not of {system.name}. Nothing was done.")
    archive = find_any(system, plan.policy)
    if plan.state == "done":
        return Execution(plan, "done", message="it was executed already; nothing was done")
    may_act(system, archive, plan, home)
    _refuse_another_database(system, plan, home)
    items = read_items(home, plan)
    owner = owner or f"{run_id}-{uuid.uuid4().hex[:8]}"
    if not state.claim(plan_id, owner, lease_seconds, run_id=run_id):
        return Execution(state.plan(plan_id), "done", message="it was executed already; nothing was done")
    approval = state.approval_of(plan_id)
    chosen = None if approval is None or approval.units is None else set(approval.units)
    work = Work(system, plan.policy, home, owner, plan.as_of, run_id, log, lease_seconds)
    run = _Run(work, archive, plan, lease_seconds, clock)
    done = Execution(plan, "partial")
    try:
        for unit, lines in by_unit(items):
            if chosen is None or unit in chosen:
                run.do(unit, lines, done)
                progress(1)
        good = all(outcome in GOOD for outcome in done.counts)
        done.state = "done" if good else "partial"
        _remember_periods(work, archive, items)
    except BaseException as error:
        with suppress(MaintenanceError, sa.exc.SQLAlchemyError):
            run.end("partial", str(error) or type(error).__name__)
        raise
    why = dict.fromkeys(str(problem["detail"]) for problem in done.problems)  # one cause may stop many
    run.end(done.state, None if done.state == "done" else " ".join(list(why)[:3]))
    if plan.policy in system.archives:
        _sweep(work)
        _keep_up(work)
    done.plan, done.seconds = state.plan(plan_id), round(time.monotonic() - began, 3)
    return done


def run_archive(
    system: System,
    name: str,
    home: Home,
    *,
    run_id: str,
    as_of: datetime,
    label: str | None = None,
    progress: Progress = _silent,
    log: Log = _silent,
) -> list[UnitRow]:
    """Export, prove and catalogue every cold month, or the one named `label`; nothing leaves its table.

    Units that are catalogued or have left already are returned as they are; a late lane in which nothing has
    arrived is no unit (I119). Raises AsOfInTheFuture, and like `catalogue_unit`, after the other months were tried
    (I123).
    """
    archive = find_archive(system, name)
    if as_of > utc_now():
        raise AsOfInTheFuture(f"as-of {format_instant(as_of)} lies after the clock. Nothing was archived.")
    owner = f"{run_id}-{uuid.uuid4().hex[:8]}"
    work = Work(system, name, home, owner, as_of, run_id, log)
    if pause := home.control.retention.paused(system.name, name):
        raise Refused("paused", f"{pause.words()}. Nothing was done. {pause.then()}")
    found = _survey(system, archive, home)
    left = {
        (unit.lower, unit.upper)
        for unit in home.control.archive.units(system.name, name)
        if unit.source == found.source and unit.state in LEFT
    }
    cold = [
        span
        for span in found.spans
        if span.upper <= as_of - archive.hot and label in (None, span.label)
        if span.total or (span.lower, span.upper) not in left
    ]
    units: list[UnitRow] = []
    first: MaintenanceError | None = None
    for span in cold:
        unit = unit_of(work, found, span)
        try:
            with _at_work(work, unit) as mine:
                units.append(catalogue_unit(work, mine))
        except Busy:
            raise
        except MaintenanceError as error:
            log(str(error))
            first = first or error
        progress(1)
    _keep_up(work)
    if first is not None:
        raise first
    return units


class _Run:
    """One execution of one plan."""

    def __init__(
        self, work: Work, archive: AnyArchive, plan: PlanRow, lease_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self.work, self.plan, self.lease_seconds, self.clock = work, plan, lease_seconds, clock
        self.state = work.home.control.retention
        self.archive = archive
        self.open = {(one.intent.unit, one.intent.step): one.seq for one in self.state.open_intents(plan.id)}
        self.finished = self._finished()

    def do(self, unit: int, lines: Sequence[Line], done: Execution) -> None:
        """One unit of the plan: intents, the acts, outcomes. What an earlier run finished is not repeated."""
        todo = [(step, line) for step, line in enumerate(lines) if (unit, step) not in self.finished]
        if not todo:
            return
        self.state.renew(self.plan.id, self.work.owner, self.lease_seconds)
        try:
            seqs = self._intents(unit, todo)
        except Held as error:
            for _, line in todo:
                done.add(line, "skipped_held", str(error))
            return
        outcome, detail = self._act([line for _, line in todo])
        outcomes = [Outcome(seqs[step], outcome, detail) for step, _ in todo]
        self.state.outcomes(self.plan.id, self.work.owner, outcomes)
        for _, line in todo:
            done.add(line, outcome, detail)
        if detail is not None:
            self.work.log(detail)

    def end(self, state: str, message: str | None) -> None:
        for unit, step in list(self.open):  # units that an approval left out, or that were never reached
            if (unit, step) not in self.finished:
                seq = self.open[unit, step]
                self.state.outcomes(self.plan.id, self.work.owner, [Outcome(seq, "failed", "it was broken off")])
        self.state.release(self.plan.id, self.work.owner, state, message=message)

    def _finished(self) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for batch in self.state.acts(self.plan.id):
            for row in batch.select(["unit", "step", "outcome"]).to_pylist():
                if row["outcome"] in SUCCESS:
                    found.add((row["unit"], row["step"]))
        return found

    def _intents(self, unit: int, todo: Sequence[tuple[int, Line]]) -> dict[int, int]:
        """step -> seq; those of a killed run are taken up."""
        known = {step: self.open.pop((unit, step)) for step, _ in todo if (unit, step) in self.open}
        new = [(step, line) for step, line in todo if step not in known]
        intents = [self._intent(unit, step, line) for step, line in new]
        seqs = self.state.intents(self.plan.id, self.work.owner, intents) if intents else []
        return known | {step: seq for (step, _), seq in zip(new, seqs, strict=True)}

    def _intent(self, unit: int, step: int, line: Line) -> Intent:
        # A file lies where it was put, whatever store is declared since.
        file = self.work.home.control.archive.file(line["file_id"]) if line["act"] == "expire_file" else None
        kind, store, key = ("rows", None, None) if file is None else ("object", file.store, file.key)
        return Intent(
            unit, step, line["act"], kind, store=store, key=key, table=self.archive.table, row_id=line["label"],
            evidence={"rows": line["rows"], "reason": line["reason"], "unit_id": line["unit_id"]},
            size_bytes=line["size_bytes"], tenant=line["organisation"] or None,
        )  # fmt: skip

    def _act(self, lines: Sequence[Line]) -> tuple[str, str | None]:
        try:
            with _beating(self._beat, self.lease_seconds):
                match lines[0]["act"]:
                    case "archive" | "expire_rows":
                        return self._leave(lines)
                    case "drop":
                        return self._drop(lines[0])
                    case "archive_value" | "expire_value":
                        work = self.work
                        return carry_out_unit(work.system, work.name, work.home, self.plan, lines[0]["unit"])
                    case _:
                        return self._expire(lines)
        except LeaseLost:
            raise
        except MaintenanceError as error:
            return SKIPPED.get(getattr(error, "reason", ""), "failed"), str(error)

    def _leave(self, lines: Sequence[Line]) -> tuple[str, str | None]:
        line, work = lines[0], self.work
        found = _survey(work.system, work.archive, work.home, (line["relation"], line["lower"], line["upper"]))
        span = found.spans[0] if found.spans else None
        if span is not None and span.held is not None:
            return "skipped_held", f"a hold covers {span.held} of {span.label}. Nothing left its table."
        if line["unit_id"] is not None:
            unit = work.home.control.archive.unit(line["unit_id"])
        else:
            unit = unit_of(work, found, span) if span is not None else _left(work, found, line)
        with _at_work(work, unit) as mine:
            if mine.state in ("removed", "expired"):
                return "already_absent", None
            go_on(work, mine)
            agreed = {one["organisation"]: one["rows"] for one in lines if one["act"] == "expire_rows"}
            unit = leave(work, agree(work, catalogue_unit(work, mine), agreed))
            _keep_up(work)
            if unit.state == "detached" and not work.archive.undo_window:
                unit = drop(work, unit)
        return ("moved" if unit.state == "detached" else "deleted"), None

    def _drop(self, line: Line) -> tuple[str, str | None]:
        unit = self.work.home.control.archive.unit(line["unit_id"])
        with _at_work(self.work, unit) as mine:
            if mine.state == "removed":
                return "already_absent", None
            if mine.left_at is None:
                return "skipped_changed", f"{mine.words()} was put back meanwhile; it was not dropped."
            drop(self.work, catalogue_unit(self.work, mine))
        return "deleted", None

    def _expire(self, lines: Sequence[Line]) -> tuple[str, str | None]:
        return expire_file(self.work, lines)

    def _beat(self) -> None:
        self.state.renew(self.plan.id, self.work.owner, self.lease_seconds)


def _left(work: Work, found: Survey, line: Line) -> UnitRow:
    """The unit of a span that is not in its table any more: an earlier run's, be it that it got no further than the
    detach."""
    for unit in reversed(work.home.control.archive.units(work.system.name, work.name)):
        if (unit.source, unit.lower, unit.upper) != (found.source, line["lower"], line["upper"]):
            continue
        cut_off = unit.method == "partition" and unit.state == "catalogued" and unit.relation == line["relation"]
        if unit.left_at or cut_off:
            return unit
    raise Refused("changed", f"{line['relation']} {line['label']} is not there as it was planned. Nothing was done.")


def _survey(system: System, archive: Archive, home: Home, only: Place | None = None) -> Survey:
    with archive_database(system, home).snapshot() as snapshot:
        return survey(snapshot, archive, home.control.retention.holds(system.name), only=only)


def may_act(system: System, archive: AnyArchive, plan: PlanRow, home: Home) -> None:
    """Raises Refused when the archive is off, paused, or declared otherwise since the plan."""
    if not enabled_by(archive.enabled, archive.enabled_env, home.environment):
        raise Refused("disabled", f"archive {plan.policy} of {system.name} is not enabled. Nothing was done.")
    if plan.config_digest != policy_digest(system, plan.policy, {}):
        raise Refused(
            "declaration_changed",
            f"the declaration of {system.name} has changed since plan {plan.id[:8]} was made. Nothing was done: plan "
            f"again.",
        )


def _refuse_another_database(system: System, plan: PlanRow, home: Home) -> None:
    """A plan is of the database it was made on, whatever the environment says by now (G103)."""
    with archive_database(system, home).snapshot() as snapshot:
        identity = snapshot.evidence.identity
    if plan.totals["source"] != identity:
        raise Refused(
            "another_database",
            f"plan {plan.id[:8]} was made on {plan.totals['source']}, and the URL of {system.name} leads to {identity} "
            f"now. Nothing was done: set it right, or plan again.",
        )


def _sweep(work: Work) -> None:
    """Objects that no reader sees any more go; what cannot go now is told, and goes another time."""
    try:
        for key, why in sweep(work).failed:
            work.log(f"{key} could not be removed: {why}")
    except MaintenanceError as error:
        work.log(f"Left-over objects were not looked at: {error}")


def _keep_up(work: Work) -> None:
    """The archive is right already; a table of it that is not yet is told, and put right by the next run."""
    keep_up(work.system, work.name, work.home, work.log)


def _remember_periods(work: Work, archive: AnyArchive, items: Sequence[Line]) -> None:
    """How long each organisation's rows are kept now: what is shorter later is noticed (G91). Who agreed to no expiry
    of an organisation's rows did not agree to its shorter time either: then the longer one is remembered on."""
    with archive_database(work.system, work.home).snapshot() as snapshot:
        periods = read_periods(snapshot, archive)
    state = work.home.control.archive
    before = state.keeps(work.system.name, work.name)
    known = {line["organisation"] for line in items if line["organisation"]} | set(periods.own)
    agreed = {line["organisation"] for line in items if line["act"].startswith("expire")}
    keeps = {
        organisation: periods.words(organisation)
        for organisation in sorted(known)
        if organisation in agreed or not is_shorter(before.get(organisation), periods.of(organisation))
    }
    state.remember_keeps(work.system.name, work.name, keeps)


@contextmanager
def _at_work(work: Work, unit: UnitRow) -> Iterator[UnitRow]:
    """The unit, held by this run alone; given back with what it failed for."""
    state = work.home.control.archive
    mine = state.take_unit(unit.id, work.owner, work.lease_seconds)
    try:
        with _beating(lambda: state.renew_unit(unit.id, work.owner, work.lease_seconds), work.lease_seconds):
            yield mine
    except BaseException as error:
        with suppress(MaintenanceError, sa.exc.SQLAlchemyError):
            state.leave_unit(unit.id, work.owner, str(error) or type(error).__name__)
        raise
    state.leave_unit(unit.id, work.owner)


@contextmanager
def _beating(beat: Callable[[], None], lease_seconds: float) -> Iterator[None]:
    """Call `beat` now and then while the body runs: a lease outlasts a long export. Whoever acts asks for it again."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(lease_seconds / 3):
            with suppress(MaintenanceError, sa.exc.SQLAlchemyError):
                beat()

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
