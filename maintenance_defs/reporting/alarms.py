"""What somebody has to be told now: a guard that refuses, damage, a plan above its limits or done in part, a month
that stopped on its way into the archive, a store that is full or grows too fast, runs that fail one after the other,
too many orphans.

A condition has a name that stays the same as long as it lasts, so that it is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import count, format_size
from maintenance_defs.growth.rates import in_a_day, level, trend
from maintenance_defs.reporting.runs import failures_in_a_row, recent_runs
from maintenance_defs.reporting.slow import orphans_of

OPEN = ("planned", "partial")
KINDS = 4  # so many plans back both kinds of an archive's plans are found; they are made together


def alarms(systems: Iterable[System], home: Home) -> dict[str, str]:
    """Name of the condition -> what to tell, in one or two sentences without any secret."""
    return {name: text for system in systems for name, text in _of(system, home)}


def _of(system: System, home: Home) -> Iterator[tuple[str, str]]:
    diff = home.control.latest(system.name, "orphan_diff")
    if diff is not None and diff.verdict != "complete":
        message = diff.evidence.get("message") or ""
        yield (
            f"{system.name} {diff.verdict}: {diff.reason}",
            f"{system.name}: {diff.verdict} ({diff.reason}). {message}",
        )
    for pause in home.control.retention.pauses(system.name):
        if pause.actor.startswith("check "):
            yield f"{system.name} damage {pause.id}", f"{pause.words()}. Nothing is deleted until somebody resumes it."
    for plan in _newest_plans(system, home):
        name = plan.policy
        if plan.state not in OPEN:
            continue
        if exceeded := plan.totals.get("limits_exceeded"):
            yield f"{system.name}/{name} limits", f"{system.name}/{name}: {' '.join(exceeded)}"
        if plan.state == "partial":
            why = plan.message or "some items failed"
            text = f"{system.name}/{name}: plan {plan.short_digest} was executed in part: {why}"
            yield f"{system.name}/{name} partial {plan.id}", text
    yield from _above(system, home)
    for unit in home.control.archive.units(system.name):
        if unit.message and unit.archive in system.archives:
            text = f"{system.name}: {unit.words()} stopped at {unit.state}: {unit.message}"
            yield f"{system.name}/{unit.archive} stopped {unit.id} {unit.state}", text
    for store, declared in system.stores.items():
        if declared.limit is not None and (full := _full(system, store, declared.limit, home)):
            yield f"{system.name} {store} full", full
        if grown := _grown(system, store, home):
            yield f"{system.name} {store} grows", grown


def _above(system: System, home: Home) -> Iterator[tuple[str, str]]:
    """What is above `alert_above` and cannot wait: runs that fail again and again, and orphans by the number."""
    above = system.alert_above
    for name, runs in recent_runs(system, home, above.failures + 1, home.control.now()).items():
        if failures_in_a_row(runs) > above.failures:
            last = next(run.why for run in reversed(runs) if run.ok is False)
            yield (
                f"{system.name}/{name} fails",
                f"{system.name}/{name}: more than {count(above.failures, 'run')} in a row failed; the last one: {last}",
            )
    compared = home.control.latest(system.name, "orphan_diff", verdict="complete")
    orphans = orphans_of(compared) if compared is not None else None
    if orphans is not None and orphans > above.orphans.critical:
        yield (
            f"{system.name} orphans",
            f"{system.name}: {count(orphans, 'orphan')}, above {above.orphans.critical:,} (alert_above.orphans).",
        )


def _newest_plans(system: System, home: Home) -> Iterator[PlanRow]:
    """The last one of each policy, and the last of all its groups; the last of each archive's removals and expiries."""
    for name in system.retention:
        newest = home.control.retention.plans(system.name, name, limit=1)
        yield from newest
        if newest and newest[0].groups:  # which says nothing of the last whole one
            yield from home.control.retention.plans(system.name, name, limit=1, whole=True)
    for name in (*system.archives, *system.archived_columns):
        seen = set()
        for plan in home.control.retention.plans(system.name, name, limit=KINDS):
            if (kind := plan.totals.get("only")) not in seen:
                seen.add(kind)
                yield plan


def _full(system: System, store: str, limit: int, home: Home) -> str | None:
    """Current size, limit and trend of a store that is above its limit (S3-46); None where it is not, or not known."""
    now = home.control.latest(system.name, "inventory", store, verdict="complete")
    if now is None or (size := now.evidence["totals"]["size_bytes"]) <= limit:
        return None
    text = f"{system.name}: store '{store}' holds {format_size(size)}, its limit is {format_size(limit)}"
    seen = trend(home, now, limit, system.growth.window)
    if seen is None:
        return f"{text}."
    per_day = seen["bytes_per_day"]
    return f"{text}; it {'grows' if per_day >= 0 else 'shrinks'} by {format_size(abs(per_day))} a day."


def _grown(system: System, store: str, home: Home) -> str | None:
    """A store that grew too much in 24 h (S1-53); None where it did not, or its newest listing is not complete."""
    now = home.control.latest(system.name, "inventory", store)
    if now is None or now.verdict != "complete":
        return None
    day = in_a_day(home, now)
    if day is None or level(day, system.growth) != "fail":
        return None
    return (
        f"{system.name}: store '{store}' grew by {day['percent']:g} % in {24 * day['days']:.0f} h, by "
        f"{format_size(day['size_bytes'])} to {format_size(now.evidence['totals']['size_bytes'])}; "
        f"above {system.growth.fail_percent:g} % in 24 h is too fast."
    )
