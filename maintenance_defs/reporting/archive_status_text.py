"""The state of an archive in words; it only words what archive_status.py says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from maintenance_defs.core.quantities import format_size
from maintenance_defs.reporting.archive_iceberg import iceberg_lines
from maintenance_defs.reporting.text import Table, count, shown, text_table

STATES = {
    "planned": "begun",
    "exported": "exported, not proven yet",
    "verified": "proven, not catalogued yet",
    "catalogued": "archived; still in the table",
    "removing": "on its way out of the table",
    "detached": "archived; detached",
    "removed": "archived",
    "expired": "expired: deleted from the archive",
    "returned": "put back into the table",
}
VALUES = {
    "planned": "begun: still in their rows, whole",
    "proven": "proven; the next run looks whether their rows were slimmed",
    "slimmed": "archived: a summary is in the row",
    "restored": "put back into their rows, and still archived",
    "expiring": "about to be deleted: nobody reads them any more",
    "expired": "expired: deleted from the archive",
}
NEXT = {
    "export": "is exported by a run",
    "leave": "leaves with the next plan",
    "drop": "can be dropped",
    "expire": "expires",
}


def status_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """One archive: its months, what waits, what stopped."""
    totals = facts["totals"]
    yield f"{facts['system']}/{facts['archive']}: {facts['describe']}"
    yield f"  Table {facts['table']}: hot for {facts['hot']}, kept {facts['keep']}; {facts['mode']}."
    if facts["paused"]:
        yield f"  PAUSED: {facts['paused']}"
    if not facts["enabled"]:
        yield "  NOT ENABLED: the declaration or its variable says so; nothing will be done."
    if facts["database"]:
        yield f"  THE DATABASE COULD NOT BE ASKED, so this is what was recorded: {facts['database']}"
    for relation in facts["pending_detaches"]:
        yield f"  DETACH PENDING: {relation} has begun to leave. Until it is finished the table does not show its rows"
        yield "  and refuses inserts into its month. Nothing is lost. Finish it:"
        yield f"    maintain plan {facts['system']} {facts['archive']}, then maintain apply"
    if facts["units"]:
        share = f", {_percent(totals['ratio'])} of what it was in the table" if totals["ratio"] is not None else ""
        yield (
            f"  In the archive: {count(totals['rows'], 'row')} in {count(totals['files'], 'file')} "
            f"({format_size(totals['size_bytes'])}{share})."
        )
        yield from (f"  {line}" for line in _units(facts))
    else:
        yield "  Nothing is archived yet."
    if facts.get("iceberg"):
        again = f"maintain archive publish {facts['system']} {facts['archive']}"
        yield from (f"  {line}" for line in iceberg_lines(facts["iceberg"], again))
    yield from (f"  {line}" for line in _waiting(facts))
    yield from (f"  {line}" for line in _stopped(facts))
    for copy in facts["copies"]:
        yield f"  Restored: {copy['month']} in {copy['table']} ({format_size(copy['size_bytes'])}) since"
        yield f"    {copy['restored_at']}. Nothing deletes such a copy. Once nobody needs it: {copy['drop']}"


def column_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """One archived column."""
    yield f"{facts['system']}/{facts['archive']}: {facts['describe']}"
    yield (
        f"  Column {facts['column']} of {facts['table']}: hot for {facts['hot']}, kept {facts['keep']}; "
        f"{facts['mode']}."
    )
    if facts["paused"]:
        yield f"  PAUSED: {facts['paused']}"
    if not facts["enabled"]:
        yield "  NOT ENABLED: the declaration or its variable says so; nothing will be done."
    if not facts["states"]:
        yield "  Nothing is archived yet."
        return
    yield (
        f"  In the archive: {count(facts['values'], 'value')}, {format_size(facts['size_bytes'])}; in the table they "
        f"were {format_size(facts['value_bytes'])}."
    )
    for state, number in facts["states"].items():
        yield f"  {number:,} {VALUES[state]}"


def run_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What `archive run` came to."""
    yield f"{facts['system']}/{facts['archive']}: {_done(facts)}"
    if facts["archived"]:
        yield from (f"  {line}" for line in _units({"units": facts["archived"]}))
        yield f"  Nothing has left the table. Next: maintain plan {facts['system']} {facts['archive']}"
    elif facts["already"] and not facts["stopped"] and not facts["failed"]:
        yield "  Nothing had to be done."
        for unit in facts["already"] if facts["month"] else ():
            what = f"left the table at {unit['left_at']}; the archive" if unit["left_at"] else "is archived; its table"
            yield f"  {unit['month']} {what} is where its rows are read."
    elif facts["month"] and not facts["failed"]:
        yield from _no_such_month(facts)
    yield from (f"  {line}" for line in _stopped({"units": facts["stopped"]}))
    if facts["failed"] and not facts["stopped"]:
        yield f"  STOPPED: {shown(facts['failed'])}"


def _done(facts: Mapping[str, Any]) -> str:
    parts = [
        f"{count(len(facts[what]), 'month')} {words}"
        for what, words in (("archived", "archived now"), ("already", "archived before"), ("stopped", "stopped"))
        if facts[what]
    ]
    return (", ".join(parts) or "no month was archived") + "."


def _no_such_month(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["waiting"]:
        yield f"  {facts['month']} is hot until {_day(facts['waiting'][0]['cold_at'])}. Nothing was done."
    else:
        yield f"  {facts['month']} is no cold month with rows in the table. Nothing was done."


def _units(facts: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for unit in facts["units"]:
        rows.append(
            (
                unit["month"] + (f" part {unit['part']}" if unit["part"] else ""),
                _state(unit),
                "" if unit["rows"] is None else f"{unit['rows']:,}",
                "" if unit["heap_bytes"] is None else format_size(unit["heap_bytes"]),
                format_size(unit["size_bytes"]) if unit["files"] else "",
                _percent(unit["ratio"]),
                _next(unit),
            )
        )
    headers = ("month", "state", "rows", "in the table", "in the archive", "ratio", "next")
    yield from text_table(Table(headers, rows, frozenset(range(2, 6)))).split("\n")


def _day(instant: str) -> str:
    """`2025-12-31`, where it is the day's first instant; else the instant."""
    return instant.removesuffix("T00:00:00Z")


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * ratio:.3g} %"


def _state(unit: Mapping[str, Any]) -> str:
    if unit["state"] == "removed" and not unit["files"]:
        return "gone, its time was over" if unit["rows"] else "gone; it was empty"
    said = STATES[unit["state"]]
    if unit["state"] == "catalogued" and not unit["files"]:
        said = "its time is over; still in the table" if unit["rows"] else "empty; still in the table"
    return f"{said} (being worked on)" if unit["at_work"] else said


def _next(unit: Mapping[str, Any]) -> str:
    if unit["another_database"]:
        return "another database's: never touched from here"
    if unit["message"]:
        return "STOPPED, see below"
    if unit["next"] is None:
        return "kept forever" if unit["state"] == "removed" and unit["files"] else ""
    said = NEXT[unit["next"]]
    if unit["next"] in ("export", "leave"):
        return said
    who = f" first for {shown(unit['next_organisation'])}" if unit["next_organisation"] else ""
    return f"{said}{who} from {_day(unit['next_at'])} on" if unit["next_at"] else f"{said} as its organisations say"


def _waiting(facts: Mapping[str, Any]) -> Iterator[str]:
    cold = [one for one in facts["waiting"] if one["cold"]]
    hot = [one for one in facts["waiting"] if not one["cold"]]
    if cold:
        months = ", ".join(f"{one['month']} (about {count(one['rows_estimate'] or 0, 'row')})" for one in cold)
        yield f"Cold and not exported yet: {months}."
        yield f"  maintain archive run {facts['system']} {facts['archive']}"
    if hot:
        yield "Hot: " + ", ".join(f"{one['month']} until {_day(one['cold_at'])}" for one in hot) + "."


def _stopped(facts: Mapping[str, Any]) -> Iterator[str]:
    for unit in facts["units"]:
        if unit["message"]:
            yield f"STOPPED: {unit['month']} since {unit['since']}: {shown(unit['message'])}"
            yield f"  Try again: {unit['retry']}"
