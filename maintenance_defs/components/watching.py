"""Checks of `alert_above`: orphans, runs that fail, slow cycles and queries. They tell; nothing waits for them."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg

from maintenance_defs.components.checks import ERROR, WARN
from maintenance_defs.components.metadata import table
from maintenance_defs.components.retention_checks import shown
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import count, format_duration
from maintenance_defs.reporting.runs import Runs, failures_in_a_row, recent_runs, runs_between, success_percent
from maintenance_defs.reporting.slow import orphans_of, slow_queries

WINDOW = timedelta(hours=24)
SHOWN = 10


def diff_specs(system: System) -> list[dg.AssetCheckSpec]:
    key, above = [system.name, "orphan_diff"], system.alert_above
    return [
        dg.AssetCheckSpec(
            "few_orphans",
            asset=key,
            description=f"No more orphans than alert_above.orphans: above {above.orphans.warn:,} a warning, above "
            f"{above.orphans.critical:,} an error.",
        ),
        dg.AssetCheckSpec(
            "runs_succeed",
            asset=key,
            description=f"The runs of {format_duration(WINDOW)} succeeded; an error when more than {above.failures} in "
            "a row failed, of the reconciliation, a policy or an archive.",
        ),
        dg.AssetCheckSpec(
            "quick_cycles",
            asset=key,
            description=f"The last reconciliation and the last cycle of each policy took no longer than "
            f"{format_duration(above.cycle)}.",
        ),
    ]


def references_specs(system: System) -> list[dg.AssetCheckSpec]:
    words = f"No declared reference, check or query took longer than {format_duration(system.alert_above.query)}."
    return [dg.AssetCheckSpec("quick_queries", asset=[system.name, "references"], description=words)]


def of_references(system: System, artefact: Artefact) -> Iterator[dg.AssetCheckResult]:
    """`quick_queries`; of a snapshot that is not complete nothing is known."""
    key = [system.name, "references"]
    if artefact.verdict != "complete":
        yield shown(key, "quick_queries", False, WARN, ["Not known: the database could not be read."], {})
        return
    slow = slow_queries(system, artefact)
    words = [f"{what} took {seconds:g} s." for what, seconds in slow[:SHOWN]]
    yield shown(key, "quick_queries", not slow, WARN, words, {"slow": len(slow)})


def of_diff(system: System, diff: Artefact, home: Home, now: datetime) -> Iterator[dg.AssetCheckResult]:
    """`few_orphans`, `runs_succeed`, `quick_cycles`."""
    found = runs_between(system, home, now - WINDOW, now, now)
    yield _few_orphans(system, diff)
    yield _runs_succeed(system, home, found, now)
    yield _quick_cycles(system, found)


def _few_orphans(system: System, diff: Artefact) -> dg.AssetCheckResult:
    key, above = [system.name, "orphan_diff"], system.alert_above.orphans
    orphans = orphans_of(diff)
    if orphans is None:
        return shown(key, "few_orphans", False, WARN, ["Not known: not everything could be compared."], {})
    words = [] if orphans <= above.warn else [f"{count(orphans, 'orphan')}, above {above.warn:,}."]
    severity = ERROR if orphans > above.critical else WARN
    return shown(key, "few_orphans", not words, severity, words, {"orphans": orphans})


def _runs_succeed(system: System, home: Home, found: Runs, now: datetime) -> dg.AssetCheckResult:
    above = system.alert_above.failures
    rows, words, errors = [], [], False
    for name, recent in recent_runs(system, home, above + 1, now).items():
        ended = [run for run in found[name] if run.ok is not None]
        percent = success_percent(ended)
        rows.append((name, "no run" if percent is None else f"{percent:g} %", f"{len(ended):,}"))
        in_a_row = failures_in_a_row(recent)
        last = next((run.why for run in reversed(recent) if run.ok is False), "")
        if in_a_row > above:
            errors = True
            words.append(f"{name}: more than {above} runs in a row failed; the last one: {last}")
        elif percent is not None and percent < 100:
            words.append(f"{name}: {percent:g} % of {count(len(ended), 'run')} succeeded. {last}")
    every = [run for runs in found.values() for run in runs]
    percent = success_percent(every)
    numbers = {
        "runs": sum(run.ok is not None for run in every),
        "by_run": table(("what", "succeeded", "runs"), rows[:SHOWN]),
        **({} if percent is None else {"success_percent": percent}),
    }
    if percent is None:
        words.append(f"No run came to an end in {format_duration(WINDOW)}, so there is no rate.")
    passed = not errors and (percent is None or percent == 100)
    return shown([system.name, "orphan_diff"], "runs_succeed", passed, ERROR if errors else WARN, words, numbers)


def _quick_cycles(system: System, found: Runs) -> dg.AssetCheckResult:
    above = system.alert_above.cycle
    archives = {*system.archives, *system.archived_columns}  # months take as long as they are large
    last = {
        name: ended[-1]
        for name, runs in found.items()
        if name not in archives and (ended := [run for run in runs if run.ok is not None])
    }
    words = [
        f"{name} took {run.seconds:.1f} s, longer than {format_duration(above)}."
        for name, run in last.items()
        if run.seconds > above.total_seconds()
    ]
    numbers = {f"{name}_seconds": round(run.seconds, 2) for name, run in last.items()}
    return shown([system.name, "orphan_diff"], "quick_cycles", not words, WARN, words, numbers)
