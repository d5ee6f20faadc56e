"""From a measurement to the JSON shape of `maintain growth` (docs/growth.md). Reads no store and no source database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import UnknownName
from maintenance_defs.core.growth import (
    Flow,
    Measured,
    Projected,
    Projection,
    Range,
    kept,
    project,
    total,
    total_savings,
)
from maintenance_defs.core.quantities import format_instant
from maintenance_defs.growth.measure import KIND
from maintenance_defs.growth.rates import level

VERSION = 1


def last_measurement(system: System, home: Home) -> Artefact:
    """The one recorded last. Raises UnknownName where there is none."""
    found = home.control.latest(system.name, KIND)
    if found is None:
        raise UnknownName(
            "not_measured", f"growth of {system.name} was never measured. Run: maintain growth {system.name}"
        )
    return found


def growth_facts(system: System, home: Home, found: Artefact, before: datetime | None = None) -> dict[str, Any]:
    """Plain JSON values. before: also the measurement of this instant or the last one ahead of it, as `before`.

    Raises UnknownName where `before` lies ahead of every measurement that could be made.
    """
    evidence = found.evidence
    projected = project(system.growth, _measured(system, evidence))
    flows = {one.name: one.flow for one in projected}
    expected = {one.name: one.expected for one in projected}
    declared = system.growth.projections
    return {
        "version": VERSION,
        "system": system.name,
        "artefact": found.id,
        "run_id": found.run_id,
        "as_of": format_instant(found.as_of),
        "verdict": found.verdict,
        "reason": found.reason,
        "message": evidence.get("message"),
        "window_days": evidence["window_days"],
        "warn_percent": system.growth.warn_percent,
        "fail_percent": system.growth.fail_percent,
        "floor_bytes": system.growth.floor,
        "database": evidence["database"],
        "stores": [store | {"level": _level(store, system)} for store in evidence["stores"]],
        "tables": evidence["tables"],
        "projections": [_projection(one) for one in projected],
        "projected_per_month": _range(total(flows, declared)) if declared else None,
        "expected_per_month": _range(total(expected, declared)) if declared else None,
        "savings": [
            {"name": name, "describe": saving.describe, "per_month": _range(saving.saves.to("month"))}
            for name, saving in system.growth.savings.items()
        ],
        "savings_per_month": _range(total_savings(system.growth)) if system.growth.savings else None,
        "before": None if before is None else _before(system, home, found, before),
    }


def _level(store: Mapping[str, Any], system: System) -> str:
    return level(store["day"], system.growth) if store["verdict"] == "complete" else "unknown"


def _measured(system: System, evidence: Mapping[str, Any]) -> dict[str, Measured]:
    """Of each projection that names a store or a table: what was seen of it, where something was."""
    stores = {store["store"]: store for store in evidence["stores"] if store["verdict"] == "complete"}
    tables = {name: table for table in evidence["tables"] for name in table["declared"]}
    found = {}
    for name, one in system.growth.projections.items():
        entry = _place(one, stores) if one.store is not None else tables.get(one.table or "")
        seen = None if entry is None else _seen(one, entry)
        if seen is not None:
            found[name] = seen
    return found


def _place(one: Projection, stores: Mapping[str, Any]) -> dict[str, Any] | None:
    store: dict[str, Any] | None = stores.get(one.store or "")
    if store is None or not one.prefix:
        return store
    return next((scope for scope in store["scopes"] if scope["prefix"] == one.prefix), None)


def _seen(one: Projection, entry: Mapping[str, Any]) -> Measured | None:
    """What is new, where times tell; else the change between two listings or measurements."""
    new, changed = entry["new"], entry["change"]
    if new is not None:
        size = new["columns"].get(one.column) if one.column else new["size_bytes"]
        count = new.get("objects", new.get("rows"))
        if size is not None:
            how = f"new in {new['days']:.3g} d, and there still"
            return Measured(size / new["days"], count / new["days"], how)
    if changed is None or one.column or "bytes_per_day" not in changed:
        return None
    count = changed.get("objects_per_day", changed.get("rows_per_day"))
    return Measured(changed["bytes_per_day"], count, f"the change in {changed['days']:.3g} d")


def _projection(one: Projected) -> dict[str, Any]:
    declared = one.declared
    size = declared.each_bytes
    lasts = declared.each if isinstance(declared.each, timedelta) else None
    seen = one.measured
    return {
        "name": one.name,
        "describe": declared.describe,
        "part_of": declared.part_of,
        "records": declared.records and _flow(declared.records),
        "each_bytes": size and _range(size),
        "each_seconds": lasts.total_seconds() if lasts is not None else None,
        "bytes_per_minute": declared.per_minute,
        "product": declared.product and _flow(declared.product),
        "stated": declared.grows and _flow(declared.grows),
        "projected": _flow(one.flow),
        "measured": None
        if seen is None
        else {
            "bytes_per_day": round(seen.bytes_per_day),
            "records_per_day": None if seen.records_per_day is None else round(seen.records_per_day, 3),
            "how": seen.how,
        },
        "expected": _flow(one.expected),
        "kept_for_days": declared.kept_for / timedelta(days=1) if declared.kept_for else None,
        "projected_kept_bytes": _kept(one.flow, declared.kept_for),
        "kept_bytes": _kept(one.expected, declared.kept_for),
        "risk": one.risk,
        "expected_risk": one.expected_risk,
    }


def _kept(flow: Flow, age: timedelta | None) -> dict[str, int] | None:
    found = kept(flow, age)
    return None if found is None else _range(found)


def _range(found: Range) -> dict[str, int]:
    return {"low": round(found.low), "high": round(found.high)}


def _flow(flow: Flow) -> dict[str, Any]:
    """In each unit that people ask for; a month has 30 days."""
    return {
        "declared_per": flow.per,
        "per_day": _range(flow.to("day")),
        "per_week": _range(flow.to("week")),
        "per_month": _range(flow.to("month")),
    }


def _before(system: System, home: Home, now: Artefact, instant: datetime) -> dict[str, Any]:
    """Sizes and rates then and now, of each store and table that both measurements know."""
    then = home.control.newest_until(system.name, KIND, "", instant)
    if then is None:
        raise UnknownName(
            "not_measured",
            f"growth of {system.name} was not measured by {format_instant(instant)}: there is nothing to compare with.",
        )
    pairs = [
        *_pairs("store", then.evidence["stores"], now.evidence["stores"]),
        *_pairs("table", then.evidence["tables"], now.evidence["tables"]),
    ]
    return {"artefact": then.id, "as_of": format_instant(then.as_of), "compared": pairs}


def _pairs(kind: str, then: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    old = {entry[kind]: entry for entry in then}
    return [
        {"kind": kind, "name": entry[kind], "before": _state(old[entry[kind]]), "now": _state(entry)}
        for entry in now
        if entry[kind] in old
    ]


def _state(entry: Mapping[str, Any]) -> dict[str, Any]:
    changed = entry["change"] or {}
    return {"size_bytes": entry["size_bytes"], "bytes_per_day": changed.get("bytes_per_day")}
