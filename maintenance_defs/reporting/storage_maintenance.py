"""The storage maintenance report, byte for byte as its users know it (S2-13, A2-1).

The seed shows a clean database side and three orphans. What it does not show is worded in the same
way; what could not be decided is never counted as fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from maintenance_defs.core.quantities import format_cost
from maintenance_defs.reporting.text import count, shown

# Objects that are neither named by a row nor orphans, and how the report words them.
UNDECIDED = {
    "ambiguous": "near miss of a record",
    "unrecognised": "matches no pattern",
    "directory_marker": "folder marker",
    "in_progress": "upload has not ended",
    "unaddressable": "name is not UTF-8",
    "corrupt_candidate": "size differs from the record",
}
APART = {
    "missing_unknown": "not checked: {} (the store would not say)",
    "row_in_progress": "not finished yet: {}",
    "object_removed": "their file was removed by a retention policy: {}",
    "external_reference": "stored elsewhere: {}",
    "unresolvable_reference": "unreadable key: {}",
    "no_key": "without key: {}",
}


def storage_maintenance(
    facts: dict[str, Any], orphans: Iterable[dict[str, Any]], missing: Iterable[dict[str, Any]]
) -> Iterator[str]:
    """The report in pieces, each with its newline.

    facts: `Report.facts`.
    orphans: key and created (YYYY-MM-DD or None), newest first, then by key.
    missing: key, in order of the key.
    """
    yield "=== Storage Maintenance Report ===\n"
    yield f"Timestamp: {facts['as_of']}\n\n"
    yield "=== DB → Storage Check ===\n"
    yield from _records(facts, missing)
    yield "\n=== Storage → DB Check ===\n"
    yield from _files(facts, orphans)
    tripped = [guard for guard in facts["guards"] if guard["status"] == "refuse"]
    if tripped:
        yield "\n=== Refused ===\n"
        yield from (f"❌ {guard['name']}: {guard['message']}\n" for guard in tripped)
    summary = facts["summary"]
    yield "\n=== Summary ===\n"
    yield f"Orphaned files: {_number(summary['orphaned_files'])}\n"
    yield f"Orphaned records: {_number(summary['orphaned_records'])}"
    yield f", not checked: {summary['unknown_records']}\n" if summary["unknown_records"] else "\n"
    costs = [store["cost"]["orphans_per_month"] for store in facts["stores"] if store["cost"]]
    if costs:
        known = sum(costs) if None not in costs else None
        yield f"Cost of orphaned files per month: {'not checked' if known is None else format_cost(known)}\n"


def _number(value: int | None) -> str:
    return "not checked" if value is None else str(value)


def _records(facts: dict[str, Any], missing: Iterable[dict[str, Any]]) -> Iterator[str]:
    found, checked = facts["summary"]["orphaned_records"], facts["rows"]["checked"]
    if found is None:
        yield from _gaps(facts, "rows")
        return
    counts = {item["item"]: item["count"] for item in facts["rows"]["items"]}
    unsure = ("missing_unknown", "row_in_progress", "object_removed")
    sure = checked - sum(counts.get(item, 0) for item in unsure)
    if found:
        yield f"⚠️  Found {found} {'orphaned record' if found == 1 else 'orphaned records'}:\n"
        yield from (f"  - Asset record exists but file missing: {shown(row['key'])}\n" for row in missing)
    elif sure < checked:
        yield f"⚠️  {sure} of {checked} DB records have corresponding files\n"
    elif checked == 1:
        yield "✅ All 1 DB record has a corresponding file\n"
    else:
        yield f"✅ All {checked} DB records have corresponding files\n"
    yield from (f"  {words.format(counts[item])}\n" for item, words in APART.items() if counts.get(item))


def _files(facts: dict[str, Any], orphans: Iterable[dict[str, Any]]) -> Iterator[str]:
    found = facts["summary"]["orphaned_files"]
    if found is None:
        yield from _gaps(facts, "objects")
        return
    stores = [store for store in facts["stores"] if store["referenced"]]
    checked = sum(store["in_scope"] for store in stores)
    young: dict[str, int] = {}
    protected: dict[str, int] = {}
    for store in stores:
        for item in store["items"]:
            if item["item"] == "young" and item["count"]:
                age = f"{store['in_flight_seconds'] / 60:g} min"
                young[age] = young.get(age, 0) + item["count"]
            elif item["item"] in UNDECIDED and item["count"]:
                why = UNDECIDED[item["item"]]
                protected[why] = protected.get(why, 0) + item["count"]
    if found:
        yield f"⚠️  Found {found} {'orphaned file' if found == 1 else 'orphaned files'}:\n"
        yield from (f"  - {shown(orphan['key'])} (created: {orphan['created']})\n" for orphan in orphans)
    elif young or protected:
        yield f"✅ No orphaned file among {count(checked, 'file')}\n"
    elif checked == 1:
        yield "✅ All 1 file has a DB record\n"
    else:
        yield f"✅ All {checked} files have DB records\n"
    yield from (f"  in flight: {number} (younger than {age})\n" for age, number in young.items())
    yield from (f"  protected: {number} ({why})\n" for why, number in protected.items())


def _gaps(facts: dict[str, Any], side: str) -> Iterator[str]:
    """Why one side has no answer; never nothing."""
    gaps = [gap for gap in facts["not_checked"] if side in gap["concerns"]]
    for gap in gaps or [{"what": facts["system"], "message": facts["message"] or facts["reason"]}]:
        yield f"❌ NOT CHECKED: {gap['what']}: {gap['message']}\n"
