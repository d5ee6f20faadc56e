"""What the stores of a system hold, by scope, as their newest listings saw them; how that changed; what is new."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import OWN_PREFIX, Store, System
from maintenance_defs.core.errors import ArtefactError
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.growth.rates import DAY, change, day_before, days_to_limit, first_in_window
from maintenance_defs.reconcile.calculator import calculator, instant, literal
from maintenance_defs.reconcile.inventory import FILE

# Of each scope (-1: in none of them), then of the whole store (NULL): what was written since; the oldest's age.
_NEW = """
WITH placed AS (
    SELECT size_bytes, modified_at, CASE {prefixes} ELSE -1 END AS scope FROM read_parquet({path})
    WHERE NOT starts_with(key, {own}) AND NOT coalesce(mark = 'directory_marker', false) AND modified_at < {at}
), dated AS (
    SELECT scope, size_bytes, modified_at, CASE scope {cases} ELSE {whole} END AS since FROM placed
    UNION ALL SELECT NULL, size_bytes, modified_at, {whole} FROM placed
)
SELECT scope, count(*) FILTER (modified_at >= since),
    coalesce(sum(size_bytes) FILTER (modified_at >= since), 0)::BIGINT,
    epoch({at} - min(modified_at))
FROM dated GROUP BY scope
"""


def measure_stores(system: System, home: Home, at: datetime) -> tuple[list[dict[str, Any]], list[Artefact]]:
    """One entry a store, in order of declaration, and the listings that they rest on.

    A store whose newest listing is not complete has nothing but `verdict`, `reason`, `message` and, as a memory,
    `last_complete` (K14).
    """
    entries, inputs = [], []
    for name, declared in system.stores.items():
        listing = home.control.newest_until(system.name, "inventory", name, at)
        entry: dict[str, Any] = {
            "store": name, "verdict": "incomplete", "reason": "not_run", "message": "It has not been listed yet.",
            "as_of": None, "objects": None, "size_bytes": None, "limit_bytes": declared.limit, "change": None,
            "day": None, "days_to_limit": None, "new": None, "scopes": [], "last_complete": None,
        }  # fmt: skip
        if listing is not None:
            entry |= {"verdict": listing.verdict, "reason": listing.reason, "message": listing.evidence.get("message")}
            entry["as_of"] = format_instant(listing.as_of)
            if listing.verdict == "complete":
                inputs.append(listing)
                entry |= _listed(system, home, declared, listing)
            else:
                entry["last_complete"] = _memory(home, listing)
        entries.append(entry)
    return entries, inputs


def _memory(home: Home, listing: Artefact) -> dict[str, Any] | None:
    last = home.control.latest(listing.system, "inventory", listing.name, verdict="complete")
    if last is None or last.as_of > listing.as_of:
        return None
    return {"as_of": format_instant(last.as_of), **_counted(last.evidence["totals"])}


def _counted(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("objects", "size_bytes")}


def _listed(system: System, home: Home, declared: Store, listing: Artefact) -> dict[str, Any]:
    window = system.growth.window
    first, yesterday = first_in_window(home, listing, window), day_before(home, listing)
    totals = listing.evidence["totals"]
    spans = {scope.prefix: _span(system, listing.name, scope.prefix) for scope in declared.scopes}
    new, message = {}, None
    if declared.age_by == "modified":  # else a time in the store says nothing about when it came
        try:
            new = _written(home, listing, declared, spans, _span(system, listing.name, ""))
        except ArtefactError as error:
            message = str(error)
    seen = _since(listing, first, None)
    per_day = None if seen is None else seen.get("bytes_per_day")
    return {
        **_counted(totals),
        "message": message,
        "change": seen,
        "day": _since(listing, yesterday, None),
        "days_to_limit": days_to_limit(totals["size_bytes"], per_day, declared.limit),
        "new": new.get(None),
        "scopes": [
            {
                "prefix": scope["prefix"],
                "class": scope["class"],
                **_counted(scope),
                "change": _since(listing, first, scope["prefix"]),
                "day": _since(listing, yesterday, scope["prefix"]),
                "new": new.get(scope["prefix"]),
            }
            for scope in listing.evidence["scopes"]
        ],
    }


def _span(system: System, store: str, prefix: str) -> timedelta:
    """Over how long what is new is counted: not longer than it is kept."""
    kept = [
        one.kept_for
        for one in system.growth.projections.values()
        if (one.store, one.prefix) == (store, prefix) and one.kept_for is not None
    ]
    return min([system.growth.window, *kept])


def _since(now: Artefact, before: Artefact | None, prefix: str | None) -> dict[str, Any] | None:
    """The change of the store, or of one scope; None where that was not declared then."""
    if before is None:
        return None
    then, here = _part(before, prefix), _part(now, prefix)
    return change(here, then, now.as_of - before.as_of) if then is not None and here is not None else None


def _part(listing: Artefact, prefix: str | None) -> dict[str, Any] | None:
    if prefix is None:
        return dict(listing.evidence["totals"])
    return next((scope for scope in listing.evidence["scopes"] if scope["prefix"] == prefix), None)


def _written(
    home: Home, listing: Artefact, declared: Store, spans: dict[str, timedelta], whole: timedelta
) -> dict[str | None, dict[str, Any]]:
    """Prefix, or None for the store -> objects and size_bytes written within `days` and there still."""
    at = listing.as_of
    prefixes = [scope.prefix for scope in declared.scopes]
    path = home.artefacts.local(listing.uri or "", listing.digest) / FILE
    sql = _NEW.format(
        path=literal(path),
        own=literal(OWN_PREFIX),
        at=instant(at),
        whole=instant(at - whole),
        prefixes=" ".join(f"WHEN starts_with(key, {literal(p)}) THEN {n}" for n, p in enumerate(prefixes)),
        cases=" ".join(f"WHEN {n} THEN {instant(at - spans[p])}" for n, p in enumerate(prefixes)),
    )
    with TemporaryDirectory() as spool, calculator(Path(spool)) as con:
        rows = con.execute(sql).fetchall()
    found: dict[str | None, dict[str, Any]] = {}
    for scope, objects, size_bytes, seconds in rows:
        if scope == -1:
            continue
        prefix = None if scope is None else prefixes[scope]
        days = min(timedelta(seconds=seconds), whole if prefix is None else spans[prefix])
        if days >= DAY:
            found[prefix] = {"objects": objects, "size_bytes": size_bytes, "days": round(days / DAY, 3)}
    return found
