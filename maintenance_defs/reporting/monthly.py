"""One month of a system, from what the control database recorded of it: size, cost, reading time, acts, checks.

Only what is on record: a month without listings has no size, and one without a price no cost (S1-31, S1-43).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import count, format_cost, format_instant, format_size, monthly_cost

VERSION = 1


def parse_month(value: str) -> datetime:
    """`2025-10` -> its first instant, UTC. Raises ValueError that says what to write."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value):
        raise ValueError(f"{value!r} is not a month; write it such as '2025-10'")
    return datetime(int(value[:4]), int(value[5:]), 1, tzinfo=UTC)


@dataclass
class _Store:
    sizes: list[int] = field(default_factory=list)


@dataclass
class _Check:
    asked: int = 0
    failed: int = 0
    last: int | None = None
    worst: int | None = None


def month_facts(system: System, home: Home, month: datetime) -> dict[str, Any]:
    """Plain JSON values of the month that begins at `month`; see docs/report.md. Reads the control database only."""
    until = datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)
    stores = {name: _Store() for name in system.stores}
    for listed in home.control.recorded_between(system.name, "inventory", month, until):
        if listed.verdict == "complete" and listed.name in stores:
            stores[listed.name].sizes.append(listed.evidence["totals"]["size_bytes"])
    checks = {name: _Check() for name in system.checks}
    diffs, complete = 0, 0
    for diff in home.control.recorded_between(system.name, "orphan_diff", month, until):
        diffs, complete = diffs + 1, complete + (diff.verdict == "complete")
        _ask(checks, diff)
    seconds: list[float] = []
    queries: dict[str, list[float]] = {name: [] for name in system.queries}
    for read in home.control.recorded_between(system.name, "references", month, until):
        _ask(checks, read)
        if read.verdict == "complete" and "seconds" in read.evidence:
            seconds.append(read.evidence["seconds"])
        for name, told in read.evidence.get("queries", {}).items():
            if name in queries and "seconds" in told:
                queries[name].append(told["seconds"])
    return {
        "version": VERSION,
        "system": system.name,
        "month": f"{month:%Y-%m}",
        "until": format_instant(until),
        "reconciliations": {"count": diffs, "complete": complete},
        "reading": _seconds(seconds),
        "queries": [{"name": name, **(_seconds(found) or {"count": 0})} for name, found in queries.items()],
        "stores": [_store(name, found.sizes, system.stores[name].price_per_gb_month) for name, found in stores.items()],
        "plans": _plans(system, home, month, until),
        "checks": [
            {"name": name, "severity": system.checks[name].severity, "asked": found.asked, "failed": found.failed,
             "last_count": found.last, "worst_count": found.worst}
            for name, found in checks.items()
        ],
    }  # fmt: skip


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
    return {
        "name": name,
        "listings": len(sizes),
        "first_bytes": sizes[0] if sizes else None,
        "last_bytes": sizes[-1] if sizes else None,
        "mean_bytes": mean,
        "price_per_gb_month": price,
        "cost": monthly_cost(mean, price) if mean is not None and price is not None else None,
    }


def _plans(system: System, home: Home, month: datetime, until: datetime) -> dict[str, int]:
    """Executions that began in the month; by_hand: a person approved that very plan."""
    found = {"executed": 0, "by_hand": 0, "by_standing_approval": 0, "partial": 0, "units": 0}
    for plan in home.control.retention.executed_between(system.name, month, until):
        approval = home.control.retention.approval_of(plan.id)
        by_hand = approval is None or approval.standing_id is None
        found["executed"] += 1
        found["by_hand" if by_hand else "by_standing_approval"] += 1
        found["partial"] += plan.state == "partial"
        found["units"] += approval.count if approval else plan.units
    return found


def month_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The same in words, for the command and the UI."""
    done, plans, reading = facts["reconciliations"], facts["plans"], facts["reading"]
    yield f"{facts['system']} in {facts['month']}"
    yield f"  Reconciled {count(done['count'], 'time')}, {done['complete']:,} complete."
    for store in facts["stores"]:
        if not store["listings"]:
            yield f"  Store {store['name']}: not listed."
            continue
        cost = f"; cost {format_cost(store['cost'])} for the month" if store["cost"] is not None else ""
        yield (
            f"  Store {store['name']}: {format_size(store['first_bytes'])} -> {format_size(store['last_bytes'])}, mean "
            f"{format_size(store['mean_bytes'])} of {count(store['listings'], 'listing')}{cost}."
        )
    if reading:
        yield (
            f"  Reading the database took {reading['median_seconds']:g} s usually; {reading['first_seconds']:g} s at "
            f"first, {reading['last_seconds']:g} s at last ({count(reading['count'], 'reading')})."
        )
    for query in facts["queries"]:
        if query["count"]:
            yield (
                f"  Query {query['name']}: {query['median_seconds']:g} s usually; {query['first_seconds']:g} s at "
                f"first, {query['last_seconds']:g} s at last."
            )
    yield (
        f"  Plans carried out: {plans['executed']:,}; by hand {plans['by_hand']:,}, by standing approval "
        f"{plans['by_standing_approval']:,}; in part {plans['partial']:,}; {count(plans['units'], 'unit')}."
    )
    for check in facts["checks"]:
        if not check["asked"]:
            yield f"  Check {check['name']}: never answered."
        elif check["failed"]:
            yield (
                f"  Check {check['name']} ({check['severity']}): failed {check['failed']:,} of {check['asked']:,} "
                f"times, {count(check['worst_count'], 'row')} at worst, {check['last_count']:,} at last."
            )
        else:
            yield f"  Check {check['name']}: held each of {count(check['asked'], 'time')}."
