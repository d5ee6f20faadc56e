"""How an archive's Iceberg table stands, as JSON of a stable shape and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from maintenance_defs.archive.iceberg import Standing, compare
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import MaintenanceError
from maintenance_defs.reporting.text import count, shown

NAMED = 3  # files that a text names


def iceberg_facts(system: System, name: str, home: Home) -> dict[str, Any] | None:
    """None where the archive declares no table; `message` says why the table could not be asked."""
    declared = system.archives[name].iceberg
    if declared is None:
        return None
    try:
        return standing_facts(compare(system, name, home))
    except MaintenanceError as error:
        return {"table": declared.table, "well": None, "message": str(error)}


def standing_facts(found: Standing) -> dict[str, Any]:
    return {
        "table": found.table,
        "well": found.well,
        "message": None,
        "exists": found.exists,
        "files": found.files,
        "rows": found.rows,
        "missing": list(found.missing),
        "extra": list(found.extra),
        "other": list(found.other),
        "left_out": [{"key": one.file.key, "rows": one.file.rows, "why": one.why} for one in found.left_out],
        "in_table": list(found.in_table),
        "metadata": found.metadata,
    }


def iceberg_lines(facts: Mapping[str, Any], again: str) -> Iterator[str]:
    """again: the command that puts it right."""
    table = facts["table"]
    if facts["message"]:
        yield f"Iceberg table {table} COULD NOT BE ASKED: {shown(facts['message'])}"
        return
    if facts["well"] and not facts["exists"]:
        yield f"Iceberg table {table} is not made yet; the next run makes it. No month has left its table."
    elif facts["well"]:
        held = f"{count(facts['rows'], 'row')} in {count(facts['files'], 'file')}"
        yield f"Iceberg table {table}: {held}, as the catalogue says."
    else:
        wrong = "is not there yet" if not facts["exists"] else "IS NOT what the catalogue says"
        yield f"Iceberg table {table} {wrong}. The archive itself is right. Put it right: {again}"
        for what, words in (("missing", "not in it"), ("extra", "in it, and should not be")):
            if facts[what]:
                more = ", …" if len(facts[what]) > NAMED else ""
                yield f"  {count(len(facts[what]), 'file')} {words}: {', '.join(map(shown, facts[what][:NAMED]))}{more}"
        yield from (f"  {shown(one)}" for one in facts["other"])
    if facts["in_table"]:
        yield f"  Not in it, because their rows are still in their table: {', '.join(facts['in_table'])}."
    for one in facts["left_out"]:
        yield f"  LEFT OUT: {shown(one['key'])} ({count(one['rows'], 'row')}): {shown(one['why'])}."
