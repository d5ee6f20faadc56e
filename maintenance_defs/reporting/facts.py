"""From the evidence of artefacts to the report's one JSON shape (docs/report.md). Reads no item files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import Store, System
from maintenance_defs.core.presets import preset_at
from maintenance_defs.core.quantities import format_instant, monthly_cost
from maintenance_defs.core.schemas import OBJECT_ITEMS, ROW_ITEMS
from maintenance_defs.growth.rates import trend

VERSION = 1  # of the shape; grows when a field changes its meaning or goes

# Neither matched nor an orphan: somebody may have to decide.
UNDECIDED = tuple(item for item in OBJECT_ITEMS if item not in ("orphan_candidate", "out_of_scope"))


def gather(system: System, home: Home, diff: Artefact) -> dict[str, Any]:
    """Everything but samples of items. Raises ArtefactError when an input is not recorded any more."""
    references, inventories = inputs(system, home, diff)
    stores = [
        _store(
            home, name, declared, diff, inventories.get(name),
            referenced=name in system.referenced_stores, window=system.growth.window,
        )
        for name, declared in system.stores.items()
    ]  # fmt: skip
    evidence = diff.evidence
    facts = {
        "version": VERSION,
        "system": system.name,
        "description": system.description,
        "run_id": diff.run_id,
        "artefact": diff.id,
        "as_of": format_instant(diff.as_of),
        "verdict": diff.verdict,
        "reason": diff.reason,
        "message": evidence.get("message"),
        "preset": _preset(system, home, diff),
        "database": _database(references),
        "stores": stores,
        "rows": _rows(evidence.get("rows")),
        "sources": _sources(system, references),
        "guards": [
            {name: guard.get(name) for name in ("name", "status", "store", "measured", "limit", "concerns", "message")}
            for guard in evidence.get("guards", ())
        ],
        "checks": _checks(system, references, diff),
        "queries": _queries(system, references),
        "near_misses": [],
        "undeclared": references.evidence.get("undeclared", []) if references is not None else [],
        "unread": references.evidence.get("unread", []) if references is not None else [],
    }
    facts["not_checked"] = list(_gaps(system, facts, references))
    facts["summary"] = _summary(facts)
    return facts


def _preset(system: System, home: Home, diff: Artefact) -> dict[str, Any] | None:
    """Which one holds as of the diff; null where none is declared, or the variable names none: the verdict says so."""
    try:
        found = preset_at(system, home.environment, diff.as_of)
    except ValueError:
        return None
    return found.facts() if found is not None else None


def inputs(system: System, home: Home, diff: Artefact) -> tuple[Artefact | None, dict[str, Artefact]]:
    """The references and the inventory of every store that this diff rests on.

    A step that failed left an artefact of the same run, but is no input: its message is wanted here.
    """
    given = [home.control.get(id_) for id_ in diff.inputs]
    references = next((a for a in given if a.kind == "references"), None) or _of_run(home, diff, "references", "")
    if references is not None:
        given += [home.control.get(id_) for id_ in references.inputs]
    inventories = {a.name: a for a in reversed(given) if a.kind == "inventory"}
    for name in system.stores:
        failed = _of_run(home, diff, "inventory", name)
        if failed is not None and (name not in inventories or failed.verdict != "complete"):
            inventories[name] = failed
    return references, inventories


def _of_run(home: Home, diff: Artefact, kind: str, name: str) -> Artefact | None:
    return next((a for a in home.control.history(diff.system, kind, name) if a.run_id == diff.run_id), None)


def _instant(artefact: Artefact | None, name: str) -> str | None:
    return None if artefact is None else format_instant(getattr(artefact, name))


def _step(artefact: Artefact | None) -> dict[str, Any]:
    """What became of one step."""
    if artefact is None:
        return {
            "artefact": None, "verdict": "incomplete", "reason": "not_run", "message": "This step has not been run.",
            "started_at": None, "ended_at": None,
        }  # fmt: skip
    return {
        "artefact": artefact.id,
        "verdict": artefact.verdict,
        "reason": artefact.reason,
        "message": artefact.evidence.get("message"),
        "started_at": _instant(artefact, "started_at"),
        "ended_at": _instant(artefact, "ended_at"),
    }


def _store(
    home: Home, name: str, declared: Store, diff: Artefact, inventory: Artefact | None, *, referenced: bool,
    window: timedelta,
) -> dict[str, Any]:  # fmt: skip
    listed = inventory.evidence if inventory is not None else {}
    compared = diff.evidence.get("stores", {}).get(name)
    totals = listed.get("totals", {})
    noncurrent = listed.get("noncurrent")
    facts: dict[str, Any] = {
        "name": name,
        "kind": listed.get("kind"),
        "location": listed.get("display_url") or declared.url_env,
        "bucket": listed.get("bucket"),
        "referenced": referenced,
        "inventory": _step(inventory),
        "objects": totals.get("objects", 0),
        "size_bytes": totals.get("size_bytes", 0),
        "limit_bytes": declared.limit,
        "growth": trend(home, inventory, declared.limit, window),
        "cost": None,
        "scopes": [_scope(scope) for scope in listed.get("scopes", ())],
        "incomplete_uploads": len(listed.get("incomplete_uploads", ())),
        "noncurrent": noncurrent and {"count": noncurrent[0], "size_bytes": noncurrent[1]},
        "in_flight_seconds": declared.in_flight.total_seconds(),
        "verdict": None,
        "reason": None,
        "message": None,
        "cutoff": None,
        "cutoff_reason": None,
        "in_scope": 0,
        "matched": 0,
        "orphan_percent": 0.0,
        "items": [],
        "orphans": [],
    }
    if compared is not None:
        facts |= {key: compared.get(key) for key in ("verdict", "reason", "message", "cutoff", "cutoff_reason")}
        counts, sizes = compared.get("counts", {}), compared.get("size_bytes", {})
        facts["in_scope"] = compared.get("in_scope_objects", 0)
        facts["matched"] = compared.get("matched", 0)
        facts["items"] = [
            {"item": item, "count": counts[item], "size_bytes": sizes.get(item, 0)}
            for item in ("matched", *OBJECT_ITEMS)
            if counts.get(item)
        ]
        if facts["in_scope"]:  # an empty bucket has no ratio
            facts["orphan_percent"] = round(100 * counts.get("orphan_candidate", 0) / facts["in_scope"], 4)
    if declared.price_per_gb_month is not None and inventory is not None and inventory.verdict == "complete":
        facts["cost"] = _cost(facts, declared.price_per_gb_month)
    return facts


def _cost(store: dict[str, Any], price: float) -> dict[str, Any]:
    """What storing all of it, and its orphans, costs a month; orphans: null where they are not known."""
    orphaned = sum(item["size_bytes"] for item in store["items"] if item["item"] == "orphan_candidate")
    return {
        "price_per_gb_month": price,
        "per_month": monthly_cost(store["size_bytes"], price),
        "orphans_per_month": monthly_cost(orphaned, price) if store["verdict"] == "complete" else None,
    }


def _scope(scope: dict[str, Any]) -> dict[str, Any]:
    names = ("prefix", "class", "objects", "size_bytes", "unrecognised", "older_30d", "older_90d")
    average = scope["size_bytes"] // scope["objects"] if scope["objects"] else 0
    return {name: scope[name] for name in names} | {"average_bytes": average}


def _database(references: Artefact | None) -> dict[str, Any]:
    found = references.evidence.get("database", {}) if references is not None else {}
    return _step(references) | {
        "location": found.get("display_url"),
        "version": found.get("version"),
        "taken_at": found.get("taken_at"),
        "oldest_transaction_at": found.get("oldest_transaction_at"),
        "is_replica": found.get("is_replica"),
        "replayed_at": found.get("replayed_at"),
    }


def _rows(rows: dict[str, Any] | None) -> dict[str, Any]:
    counts = (rows or {}).get("counts", {})
    return {
        "verdict": (rows or {}).get("verdict"),
        "checked": (rows or {}).get("checked"),
        "items": [{"item": item, "count": counts[item]} for item in ROW_ITEMS if counts.get(item)],
        "missing": [],
    }


def _sources(system: System, references: Artefact | None) -> list[dict[str, Any]]:
    if references is None or references.verdict != "complete":
        return []
    numbers = ("rows", "keys", "no_key", "dirty", "unresolvable", "external")
    return [
        {
            "reference": str(reference),
            "stores": list(reference.store),
            "protects_only": reference.protects_only,
            "releases_reference": reference.releases_reference,
            "missing_table": bool(found.get("missing_table")),
        }
        | {name: found.get(name, 0) for name in numbers}
        for reference, found in zip(system.references, references.evidence["sources"], strict=True)
    ]


def _checks(system: System, references: Artefact | None, diff: Artefact) -> list[dict[str, Any]]:
    read = references.evidence.get("checks", {}) if references is not None else {}
    found = read | diff.evidence.get("checks", {})
    return [
        {
            "name": name,
            "describe": check.describe,
            "severity": found.get(name, {}).get("severity", check.severity),
            "count": found.get(name, {}).get("count"),
            "sample": found.get(name, {}).get("sample", []),
            "message": found.get(name, {}).get("message"),
        }
        for name, check in system.checks.items()
    ]


def _queries(system: System, references: Artefact | None) -> list[dict[str, Any]]:
    found = references.evidence.get("queries", {}) if references is not None else {}
    return [
        {
            "name": name,
            "describe": query.describe,
            "columns": found.get(name, {}).get("columns", []),
            "rows": found.get(name, {}).get("rows", []),
            "message": found.get(name, {}).get("message") if name in found else "Not read.",
        }
        for name, query in system.queries.items()
    ]


def _gaps(system: System, facts: dict[str, Any], references: Artefact | None) -> Iterator[dict[str, Any]]:
    """What has no answer, and which side of the comparison that concerns."""
    for store in facts["stores"]:
        both = ["objects", "rows"] if store["name"] in system.referenced_stores else []
        if store["inventory"]["verdict"] != "complete":
            yield _gap(f"store {store['name']} ({store['location']})", store["inventory"], both)
        elif store["referenced"] and store["verdict"] is not None and store["cutoff"] is None:
            yield _gap(f"store {store['name']} ({store['location']})", store, both)
    if facts["database"]["verdict"] != "complete":
        yield _gap("database", facts["database"], ["objects", "rows"])
    elif facts["verdict"] != "complete" and facts["rows"]["verdict"] is None:
        yield _gap("comparison", facts, ["objects", "rows"])
    elif facts["rows"]["verdict"] == "refused":
        why = next((guard for guard in facts["guards"] if guard["status"] == "refuse"), {"name": "store_unreachable"})
        yield _gap("rows", {"reason": why["name"], "message": why.get("message")}, ["rows"])


def _gap(what: str, why: dict[str, Any], concerns: list[str]) -> dict[str, Any]:
    return {"what": what, "reason": why["reason"], "message": why["message"] or why["reason"], "concerns": concerns}


def _summary(facts: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the last lines; null where a side was not checked: never 0 for an unread store."""
    blind = {side for gap in facts["not_checked"] for side in gap["concerns"]}
    objects = [item for store in facts["stores"] for item in store["items"]]
    rows = {item["item"]: item["count"] for item in facts["rows"]["items"]}

    def total(*names: str) -> int:
        return sum(item["count"] for item in objects if item["item"] in names)

    return {
        "objects": sum(store["objects"] for store in facts["stores"]),
        "size_bytes": sum(store["size_bytes"] for store in facts["stores"]),
        "orphaned_files": None if "objects" in blind else total("orphan_candidate"),
        "orphaned_bytes": None
        if "objects" in blind
        else sum(item["size_bytes"] for item in objects if item["item"] == "orphan_candidate"),
        "orphaned_records": None
        if "rows" in blind
        else rows.get("missing_candidate", 0) + rows.get("missing_confirmed", 0),
        "unknown_records": rows.get("missing_unknown", 0),
        "corrupt_files": total("corrupt_candidate"),
        "undecided": total(*UNDECIDED),
    }
