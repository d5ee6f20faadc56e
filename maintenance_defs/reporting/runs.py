"""Which runs of a system succeeded and how long they took, from what the control database recorded of them.

A run is a reconciliation, a cycle of a policy, or the planning and execution of an archive. One that ended before its
first step was recorded is not seen here; Dagster's own record of it is told by the sensor `run_failures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from maintenance_defs.control.database import Attempt
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System

RECONCILIATION = "reconciliation"
STEPS = ("inventory", "references", "orphan_diff")
ATTEMPTS = 3  # a step that may succeed soon is tried so often in one run
LOOKED_BACK = 50  # runs, for the last that succeeded
KINDS = 2  # an archive makes two plans a run


@dataclass(frozen=True)
class Run:
    """ok: None while it is going on, or where only a part of it was asked for. seconds: at work, without waiting."""

    id: str
    began_at: datetime
    ended_at: datetime
    ok: bool | None
    seconds: float
    why: str = ""  # it failed


Runs = dict[str, list[Run]]  # 'reconciliation', then policies, then archives -> oldest first


def recent_runs(system: System, home: Home, limit: int, now: datetime, until: datetime | None = None) -> Runs:
    """The last `limit` of each that began before `until`, or fewer."""
    control = home.control
    tried = [
        attempt
        for kind, names in ((STEPS[0], [*system.stores]), (STEPS[1], [""]), (STEPS[2], [""]))
        for name in names
        for attempt in control.attempts(system.name, kind, name, until=until, limit=limit * ATTEMPTS)
    ]
    found = {RECONCILIATION: _reconciliations(tried)}
    for name in _planned(system):
        made = control.attempts(system.name, _kind(system, name), name, until=until, limit=limit * KINDS * ATTEMPTS)
        plans = control.retention.plans_of([attempt.id for attempt in made])
        found[name] = _cycles(system, made, plans, found[RECONCILIATION], now)
    return {name: runs[-limit:] for name, runs in found.items()}


def runs_between(system: System, home: Home, since: datetime, until: datetime, now: datetime) -> Runs:
    """Those that began in [since, until)."""
    control = home.control
    tried = [a for kind in STEPS for a in control.attempts(system.name, kind, since=since, until=until)]
    found = {RECONCILIATION: _reconciliations(tried)}
    made = {kind: control.attempts(system.name, kind, since=since, until=until) for kind in ("plan", "archive_plan")}
    plans = control.retention.plans_of([attempt.id for kind in made.values() for attempt in kind])
    for name in _planned(system):
        mine = [attempt for attempt in made[_kind(system, name)] if attempt.name == name]
        found[name] = _cycles(system, mine, plans, found[RECONCILIATION], now)
    return found


def last_success(system: System, home: Home, name: str, before: datetime, now: datetime) -> Run | None:
    """The last one of `name` that began before, as far as LOOKED_BACK runs tell."""
    runs = recent_runs(system, home, LOOKED_BACK, now, before)[name]
    return next((run for run in reversed(runs) if run.ok), None)


def success_percent(runs: Iterable[Run]) -> float | None:
    """Of the runs that came to an end; None where there is none: no run is no success."""
    ended = [run for run in runs if run.ok is not None]
    return round(100 * sum(run.ok is True for run in ended) / len(ended), 1) if ended else None


def failures_in_a_row(runs: Sequence[Run]) -> int:
    """How many of the last ones failed, back to the last that succeeded."""
    ended = [run for run in reversed(runs) if run.ok is not None]
    return next((n for n, run in enumerate(ended) if run.ok), len(ended))


def _planned(system: System) -> list[str]:
    return [*system.retention, *system.archives, *system.archived_columns]


def _kind(system: System, name: str) -> str:
    return "plan" if name in system.retention else "archive_plan"


def _grouped(attempts: Iterable[Attempt]) -> list[list[Attempt]]:
    """By run, oldest first; of each step the last attempt."""
    by_run: dict[str, dict[tuple[str, str], Attempt]] = {}
    for attempt in sorted(attempts, key=lambda a: a.ended_at):
        by_run.setdefault(attempt.run_id, {})[attempt.kind, attempt.name] = attempt
    groups = [list(steps.values()) for steps in by_run.values()]
    return sorted(groups, key=lambda steps: min(step.started_at for step in steps))


def _reconciliations(attempts: Iterable[Attempt]) -> list[Run]:
    return [_reconciliation(steps) for steps in _grouped(attempts)]


def _reconciliation(steps: Sequence[Attempt]) -> Run:
    bad = next((step for step in steps if step.verdict != "complete"), None)
    compared = any(step.kind == STEPS[2] for step in steps)
    return Run(
        id=steps[0].run_id,
        began_at=min(step.started_at for step in steps),
        ended_at=max(step.ended_at for step in steps),
        ok=False if bad else True if compared else None,
        seconds=sum(_seconds(step.started_at, step.ended_at) for step in steps),
        why=_words(bad) if bad else "",
    )


def _cycles(
    system: System, attempts: Iterable[Attempt], plans: Mapping[str, PlanRow], before: Sequence[Run], now: datetime
) -> list[Run]:
    reconciled = {run.id: run for run in before}
    found = []
    by_run: dict[str, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda a: a.ended_at):
        by_run.setdefault(attempt.run_id, []).append(attempt)
    for id_, made in by_run.items():
        # A step that failed and was tried again in its run is what it was at last.
        counted = [one for one in made if one is made[-1] or one.verdict == "complete"]
        judged = [_outcome(system, one, plans.get(one.id), now) for one in counted]
        first = reconciled.get(id_)
        mine = [plans[one.id] for one in made if one.id in plans]
        acted = [p for p in mine if p.claimed_at and p.finished_at]
        failed = [why for ok, why in judged if ok is False]
        found.append(
            Run(
                id=id_,
                began_at=first.began_at if first else made[0].started_at,
                ended_at=max([made[-1].ended_at, *(p.finished_at for p in acted if p.finished_at)]),
                ok=False if failed else None if any(ok is None for ok, _ in judged) else True,
                seconds=(first.seconds if first else 0.0)
                + sum(_seconds(one.started_at, one.ended_at) for one in made)
                + sum(_seconds(p.claimed_at, p.finished_at) for p in acted),
                why=" ".join(dict.fromkeys(failed)),
            )
        )
    return found


def _outcome(system: System, made: Attempt, plan: PlanRow | None, now: datetime) -> tuple[bool | None, str]:
    """Whether what was planned, and done where it was to be done, went well."""
    if made.verdict != "complete":
        return False, _words(made)
    if plan is None:
        return None, ""
    if plan.state == "executing":
        killed = plan.lease_until is not None and plan.lease_until <= now
        return (False, "its run was killed; apply the plan again") if killed else (None, "")
    if plan.state == "partial":
        return False, plan.message or "some of it was not done"
    exceeded = plan.totals.get("limits_exceeded")
    if exceeded and plan.state == "planned" and plan.totals.get("mode") == "automatic":
        return False, f"above its limits: {' '.join(exceeded)}"
    return True, ""


def _words(step: Attempt) -> str:
    return step.message or f"{step.kind} {step.verdict} ({step.reason})"


def _seconds(began: datetime | None, ended: datetime | None) -> float:
    return max((ended - began) / timedelta(seconds=1), 0.0) if began and ended else 0.0
