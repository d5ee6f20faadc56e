"""A day, a week or a month of a system, from what the control database recorded of it.

Only what is on record: a month without listings has no size, one without a price no cost, and a day without a run no
rate of success. Source: S1-29, S1-30, S1-31, S1-43.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.periods import Period
from maintenance_defs.core.quantities import format_instant, monthly_cost
from maintenance_defs.core.triggers import Schedule, ticks
from maintenance_defs.reporting.runs import Run, last_success, runs_between, success_percent
from maintenance_defs.reporting.slow import orphans_of

VERSION = 1
ANSWER_ROWS = 10
ERRORS = 3  # different ones of each kind of run


@dataclass
class _Check:
    asked: int = 0
    failed: int = 0
    last: int | None = None
    worst: int | None = None


@dataclass
class _Read:
    """What the snapshots of the database told."""

    seconds: list[float] = field(default_factory=list)
    queries: dict[str, list[float]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)


def page_facts(
    system: System, home: Home, period: Period, *, schedules: Sequence[Schedule] = (), now: datetime
) -> dict[str, Any]:
    """Plain JSON values of the period; see docs/report.md. Reads the control database only.

    schedules: those of the system that run, for how often it was due.
    """
    since, until = period.since, period.until
    sizes: dict[str, list[int]] = {name: [] for name in system.stores}
    for listed in home.control.recorded_between(system.name, "inventory", since, until):
        if listed.verdict == "complete" and listed.name in sizes:
            sizes[listed.name].append(listed.evidence["totals"]["size_bytes"])
    checks = {name: _Check() for name in system.checks}
    diffs, complete = 0, 0
    orphans: list[int] = []
    for diff in home.control.recorded_between(system.name, "orphan_diff", since, until):
        diffs, complete = diffs + 1, complete + (diff.verdict == "complete")
        _ask(checks, diff)
        if (number := orphans_of(diff)) is not None:
            orphans.append(number)
    read = _Read(queries={name: [] for name in system.queries})
    for references in home.control.recorded_between(system.name, "references", since, until):
        _ask(checks, references)
        _remember(read, references)
    return {
        "version": VERSION,
        "system": system.name,
        period.kind: period.label,
        "since": format_instant(since),
        "until": format_instant(until),
        "reconciliations": {"count": diffs, "complete": complete},
        "runs": _runs(system, home, period, schedules, now),
        "orphans": {"first": orphans[0], "last": orphans[-1]} if orphans else None,
        "reading": _seconds(read.seconds),
        "queries": [{"name": name, **(_seconds(found) or {"count": 0})} for name, found in read.queries.items()],
        "answers": [
            {"name": name, "describe": query.describe, **read.answers.get(name, _unanswered("Not read."))}
            for name, query in system.queries.items()
        ],
        "stores": [_store(name, found, system.stores[name].price_per_gb_month) for name, found in sizes.items()],
        "plans": _plans(system, home, since, until),
        "checks": [
            {"name": name, "severity": system.checks[name].severity, "asked": found.asked, "failed": found.failed,
             "last_count": found.last, "worst_count": found.worst}
            for name, found in checks.items()
        ],
    }  # fmt: skip


def _remember(read: _Read, references: Artefact) -> None:
    if references.verdict == "complete" and "seconds" in references.evidence:
        read.seconds.append(references.evidence["seconds"])
    for name, told in references.evidence.get("queries", {}).items():
        if name in read.queries and "seconds" in told:
            read.queries[name].append(told["seconds"])
            read.answers[name] = {
                "columns": told["columns"], "row_count": len(told["rows"]), "rows": told["rows"][:ANSWER_ROWS],
                "message": None,
            }  # fmt: skip
        elif name in read.queries:
            read.answers[name] = _unanswered(told.get("message"))


def _unanswered(message: str | None) -> dict[str, Any]:
    return {"columns": [], "row_count": 0, "rows": [], "message": message}


def _runs(
    system: System, home: Home, period: Period, schedules: Sequence[Schedule], now: datetime
) -> list[dict[str, Any]]:
    """How often each thing ran, was due and failed, when it last succeeded, and why it failed."""
    seen_at = min(period.until, now)
    due = _due(system, home, schedules, period.since, seen_at)
    found = []
    for name, runs in runs_between(system, home, period.since, period.until, now).items():
        ended = [run for run in runs if run.ok is not None]
        good = [run for run in ended if run.ok]
        success = good[-1] if good else last_success(system, home, name, period.since, now)
        found.append(
            {
                "name": name,
                "runs": len(ended),
                "failed": len(ended) - len(good),
                "success_percent": success_percent(ended),
                "due": due.get(name),
                "median_seconds": round(median(run.seconds for run in ended), 3) if ended else None,
                "last_success_at": format_instant(success.ended_at) if success else None,
                "last_success_age_seconds": _age(success, seen_at),
                "errors": _errors(ended),
            }
        )
    return found


def _age(success: Run | None, at: datetime) -> float | None:
    return round(max((at - success.ended_at) / timedelta(seconds=1), 0.0)) if success else None


def _errors(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The last different ones, newest first, with how often each came."""
    failed = [run for run in reversed(runs) if run.ok is False]
    told = dict.fromkeys(run.why for run in failed)
    return [
        {
            "last_at": format_instant(next(run.ended_at for run in failed if run.why == why)),
            "count": sum(run.why == why for run in failed),
            "message": why,
        }
        for why in list(told)[:ERRORS]
    ]


def _due(system: System, home: Home, schedules: Sequence[Schedule], since: datetime, until: datetime) -> dict[str, int]:
    """By what the schedules say today; a policy's cycle begins with a reconciliation."""
    due: dict[str, int] = {}
    archives = (*system.archives, *system.archived_columns)
    for schedule in schedules:
        cron = schedule.effective_cron(home.environment, until, system)
        if cron is None or not schedule.running:
            continue
        names = [*schedule.policy] or (archives if schedule.run == "archive" else ())
        if schedule.policy or schedule.run == "reconciliation":
            names = ["reconciliation", *names]
        number = ticks(cron, schedule.timezone, since, until) if names else 0
        for name in names:
            due[name] = due.get(name, 0) + number
    return due


def _ask(checks: Mapping[str, _Check], artefact: Artefact) -> None:
    """What one reading or one diff found; a check that could not be asked tells nothing."""
    for name, told in artefact.evidence.get("checks", {}).items():
        if name in checks and told.get("count") is not None:
            found, number = checks[name], int(told["count"])
            found.asked += 1
            found.failed += number > 0
            found.last = number
            found.worst = max(number, found.worst or 0)


def _seconds(seconds: list[float]) -> dict[str, Any] | None:
    """How long it took at first, at last, usually; of `reading`, the snapshot with all references and checks."""
    if not seconds:
        return None
    tenth = max(1, len(seconds) // 10)
    return {
        "count": len(seconds),
        "first_seconds": round(median(seconds[:tenth]), 3),
        "last_seconds": round(median(seconds[-tenth:]), 3),
        "median_seconds": round(median(seconds), 3),
    }


def _store(name: str, sizes: list[int], price: float | None) -> dict[str, Any]:
    mean = sum(sizes) // len(sizes) if sizes else None

    def cost(size: int | None) -> float | None:
        return monthly_cost(size, price) if size is not None and price is not None else None

    first, last = (sizes[0], sizes[-1]) if sizes else (None, None)
    return {
        "name": name,
        "listings": len(sizes),
        "first_bytes": first,
        "last_bytes": last,
        "mean_bytes": mean,
        "price_per_gb_month": price,
        "cost": cost(mean),
        "first_cost": cost(first),
        "last_cost": cost(last),
    }


def _plans(system: System, home: Home, since: datetime, until: datetime) -> dict[str, int]:
    """Executions that began in the period; by_hand: a person approved that very plan."""
    found = {"executed": 0, "by_hand": 0, "by_standing_approval": 0, "partial": 0, "units": 0}
    for plan in home.control.retention.executed_between(system.name, since, until):
        approval = home.control.retention.approval_of(plan.id)
        by_hand = approval is None or approval.standing_id is None
        found["executed"] += 1
        found["by_hand" if by_hand else "by_standing_approval"] += 1
        found["partial"] += plan.state == "partial"
        found["units"] += approval.count if approval else plan.units
    return found
