"""Asset checks: what of an artefact a person has to look at.

A check is a display. What must not be acted on stands in the artefact's own verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from maintenance_defs.components.metadata import markdown, plain, table
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_size

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
SAMPLE_COLUMNS = 4


def inventory_specs(system: System) -> list[dg.AssetCheckSpec]:
    key = [system.name, "inventory"]
    specs = [dg.AssetCheckSpec("complete", asset=key, description="Every store was listed to its end.")]
    limits = [f"{name}: {format_size(store.limit)}" for name, store in system.stores.items() if store.limit]
    if limits:
        words = f"Stores stay within their limit ({', '.join(limits)}). Says nothing about a store that was not listed."
        specs.append(dg.AssetCheckSpec("within_limit", asset=key, description=words))
    return specs


def references_specs(system: System) -> list[dg.AssetCheckSpec]:
    key = [system.name, "references"]
    return [
        dg.AssetCheckSpec("complete", asset=key, description="Every declared table was read, in one transaction."),
        dg.AssetCheckSpec("nothing_shrunk", asset=key, description="No reference names far fewer keys than before."),
    ]


def diff_specs(system: System) -> list[dg.AssetCheckSpec]:
    key = [system.name, "orphan_diff"]
    return [
        dg.AssetCheckSpec(
            "plausible",
            asset=key,
            blocking=True,
            description="No guard refuses: the numbers may be acted on. A refused diff is a report and nothing more.",
        ),
        dg.AssetCheckSpec("references_resolve", asset=key, description="Every reference could be read as a key."),
        dg.AssetCheckSpec("no_missing_objects", asset=key, description="Every object that a row names exists."),
        *(dg.AssetCheckSpec(name, asset=key, description=check.describe) for name, check in system.checks.items()),
    ]


def of_inventories(system: System, artefacts: Sequence[Artefact]) -> Iterator[dg.AssetCheckResult]:
    """`complete`, and `within_limit` where a store has one."""
    key = [system.name, "inventory"]
    broken = [a for a in artefacts if a.verdict != "complete"]
    words = [f"`{a.name}` is {a.verdict} ({a.reason}): {plain(a.evidence.get('message') or '')}" for a in broken]
    yield _result(key, "complete", not broken, ERROR, words, {"stores_not_listed": len(broken)})
    limited = [(a, limit) for a in artefacts if (limit := system.stores[a.name].limit) is not None]
    if not limited:
        return
    over, unknown, used = [], [], 0.0
    for artefact, limit in limited:
        if artefact.verdict != "complete":  # K14: neither an alert nor an all-clear
            unknown.append(f"`{artefact.name}` was not listed, so nothing is known about its size.")
            continue
        size = artefact.evidence["totals"]["size_bytes"]
        used = max(used, 100 * size / limit)
        if size > limit:
            over.append(f"`{artefact.name}` holds {format_size(size)}, its limit is {format_size(limit)}.")
    passed = not over and not unknown
    yield _result(key, "within_limit", passed, ERROR if over else WARN, over + unknown, {"percent": round(used, 1)})


def of_references(system: System, artefact: Artefact, before: Artefact | None) -> Iterator[dg.AssetCheckResult]:
    """`complete` and `nothing_shrunk`. before: the last complete one."""
    key = [system.name, "references"]
    complete = artefact.verdict == "complete"
    words = [] if complete else [plain(artefact.evidence.get("message") or str(artefact.reason))]
    yield _result(key, "complete", complete, ERROR, words, {})
    shrunk = list(_shrunk(system, before, artefact)) if complete and before else []
    yield _result(key, "nothing_shrunk", complete and not shrunk, ERROR if shrunk else WARN, shrunk + words, {})


def _shrunk(system: System, before: Artefact, now: Artefact) -> Iterator[str]:
    """The references that name far fewer keys; the diff's guard judges whole stores by the same limits."""
    guards = system.guards
    keys = {(source["table"], source["form"]): source["keys"] for source in before.evidence["sources"]}
    for source in now.evidence["sources"]:
        had = keys.get((source["table"], source["form"]), 0)
        lost = had - source["keys"]
        if had >= guards.small_population and 100 * lost > had * guards.max_reference_shrink_percent:
            yield f"`{source['table']}: {source['form']}` named {had:,} keys and now {source['keys']:,}."


def of_diff(system: System, facts: Mapping[str, Any]) -> Iterator[dg.AssetCheckResult]:
    """All of `diff_specs`. facts: `Report.facts`."""
    key = [system.name, "orphan_diff"]
    refusing = [guard for guard in facts["guards"] if guard["status"] == "refuse"]
    words = [f"`{guard['name']}`: {plain(guard['message'])}" for guard in refusing]
    if facts["verdict"] != "complete" and not words:
        words = [f"{facts['verdict']} ({facts['reason']}): {plain(facts['message'] or '')}"]
    numbers = {"guards": len(facts["guards"]), "refusing": len(refusing)}
    yield _result(key, "plausible", facts["verdict"] == "complete", ERROR, words, numbers)

    bad = [s for s in facts["sources"] if s["unresolvable"]]
    words = [f"`{s['reference']}`: {s['unresolvable']:,} of {s['rows']:,} rows." for s in bad]
    count = sum(s["unresolvable"] for s in bad)
    yield _result(key, "references_resolve", not bad, WARN, words, {"unresolvable": count})

    missing = facts["summary"]["orphaned_records"]
    known = missing is not None
    sample = [(row["source"].partition(":")[0], row["row_id"], row["key"]) for row in facts["rows"]["missing"]]
    shown: dict[str, Any] = {"rows": missing} if known else {}
    if sample:
        shown["sample"] = table(("table", "row", "key"), sample)
    words = [] if known else ["Not checked: a store or the database could not be read."]
    yield _result(key, "no_missing_objects", missing == 0, WARN, words, shown)

    for check in facts["checks"]:
        yield _row_check(key, check)


def _row_check(key: Sequence[str], check: Mapping[str, Any]) -> dg.AssetCheckResult:
    count, sample = check["count"], check["sample"]
    severity = ERROR if check["severity"] == "error" and count else WARN
    shown: dict[str, Any] = {} if count is None else {"rows": count}
    if sample:
        columns = list(sample[0])[:SAMPLE_COLUMNS]
        shown["sample"] = table(columns, [tuple(str(row[name]) for name in columns) for row in sample])
    words = [plain(check["message"])] if check["message"] else []
    return _result(key, check["name"], count == 0, severity, words, shown)


def _result(
    key: Sequence[str],
    name: str,
    passed: bool,
    severity: dg.AssetCheckSeverity,
    words: Sequence[str],
    numbers: Mapping[str, Any],
) -> dg.AssetCheckResult:
    text = markdown([f"- {word}" for word in words])
    return dg.AssetCheckResult(
        asset_key=list(key),
        check_name=name,
        passed=passed,
        severity=severity,
        metadata={**numbers, **({"why": dg.MetadataValue.md(text)} if words else {})},
    )
