"""Checks of an archive: is it on, does what is hot stay short, did all that was planned happen."""

from collections.abc import Iterable, Iterator

import dagster as dg

from maintenance_defs.archive.cycle import Cycle, obstacle
from maintenance_defs.archive.values.judging import HELD, RESTORED
from maintenance_defs.archive.watching.agreement import AGREEMENT, agreement
from maintenance_defs.archive.watching.health import PUBLISHED, PUBLISHED_WORDS, SIGNS, Sign, published, signs
from maintenance_defs.components.archive_metadata import succeeded
from maintenance_defs.components.checks import ERROR, WARN
from maintenance_defs.components.retention_checks import shown
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError

UNDERSTOOD = "values_understood"


def plan_specs(system: System, name: str) -> list[dg.AssetCheckSpec]:
    key = [system.name, f"{name}_plan"]
    archive = system.archives.get(name)
    iceberg = {PUBLISHED: PUBLISHED_WORDS} if archive is not None and archive.iceberg is not None else {}
    more = (
        SIGNS | AGREEMENT | iceberg
        if name in system.archives
        else {UNDERSTOOD: "No value was left aside as not understood."}
    )
    return [
        dg.AssetCheckSpec("enabled", asset=key, description="The archive is on: neither disabled nor paused."),
        dg.AssetCheckSpec("periods_valid", asset=key, description="Every period of keeping that is said can be meant."),
        *(dg.AssetCheckSpec(one, asset=key, description=words) for one, words in more.items()),
    ]


def of_plan(system: System, name: str, plan: PlanRow, home: Home) -> Iterator[dg.AssetCheckResult]:
    """All of `plan_specs`."""
    key = [system.name, f"{name}_plan"]
    stop = obstacle(system, name, home)
    yield shown(key, "enabled", stop is None, WARN, [stop[1]] if stop else [], {"why_not": stop[0] if stop else "-"})
    wrong = [f"{i['organisation']} says {i['said']}: {i['why']}." for i in plan.totals["invalid"]]
    yield shown(key, "periods_valid", not wrong, WARN, wrong[:5], {"not_understood": len(wrong)})
    if name not in system.archives:
        yield _understood(key, plan)
        return
    yield from _looked_at(key, SIGNS, signs(system, name, home, plan.as_of))
    yield from _looked_at(key, AGREEMENT, agreement(system, name, home))
    if system.archives[name].iceberg is not None:
        yield from _looked_at(key, [PUBLISHED], (published(system, name, home) for _ in range(1)))


def _understood(key: list[str], plan: PlanRow) -> dg.AssetCheckResult:
    """Rows that keep their value until a person has seen to them."""
    aside = {why: some for why, some in plan.totals["listed"].items() if why not in (HELD, RESTORED)}
    words = [
        f"{why.replace('_', ' ')}: {some[0][0]}: {some[0][1]}, and {len(some) - 1} more." for why, some in aside.items()
    ]
    return shown(key, UNDERSTOOD, not aside, WARN, words, {"rows": sum(map(len, aside.values()))})


def _looked_at(key: list[str], names: Iterable[str], found: Iterator[Sign]) -> Iterator[dg.AssetCheckResult]:
    """A check for each sign; what could not be looked at is neither well nor alarming."""
    unknown = list(names)
    try:
        for sign in found:
            unknown.remove(sign.name)
            severity = ERROR if sign.severe else WARN
            yield shown(key, sign.name, sign.well, severity, sign.problems[:5], dict(sign.numbers))
    except MaintenanceError as error:
        for name in unknown:
            yield shown(key, name, False, WARN, [f"Not known: {error}"], {})


def complete_spec(system: System, name: str, step: str) -> dg.AssetCheckSpec:
    words = "The last execution did all that its plan says, or says why not."
    return dg.AssetCheckSpec("complete", asset=[system.name, f"{name}_{step}"], description=words)


def complete(system: System, name: str, step: str, cycle: Cycle) -> dg.AssetCheckResult:
    """An error after a partial execution, a warning while the plan waits for something."""
    key = [system.name, f"{name}_{step}"]
    done = cycle.execution
    if done is None:
        passed = cycle.stopped == "nothing_to_do"
        return shown(key, "complete", passed, WARN, [] if passed else [cycle.message], {"state": cycle.stopped or ""})
    words = [done.message] if done.message else []
    words += [f"{p['label']} {p['organisation']}: {p['outcome']} {p['detail'] or ''}" for p in done.problems[:5]]
    failed = sum(done.counts.get(outcome, 0) for outcome in ("failed", "unknown"))
    numbers = {"state": done.state, "succeeded": succeeded(done), "failed": failed}
    return shown(key, "complete", done.state == "done", ERROR, words if done.state != "done" else [], numbers)
