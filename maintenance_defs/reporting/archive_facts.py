"""What is known of an archive's plan and of a run that carried one out, as JSON of a stable shape.

Belongs here: reading. Not here: words (archive_text.py), how far its units came (archive_status.py), deciding
(archive/).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from maintenance_defs.archive.gate import Execution
from maintenance_defs.archive.plans.recording import ITEMS_FILE, read_items
from maintenance_defs.control.archive import UnitRow
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.core.archive import Archive, ColumnArchive
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.core.retention_rules import enabled_by
from maintenance_defs.reconcile.calculator import calculator, literal
from maintenance_defs.reporting.retention_facts import approval_facts, plan_summary

KIND = "archive"


def is_archive(plan: PlanRow) -> bool:
    """Whether the plan is of an archive, not of a policy."""
    return plan.totals.get("kind") == KIND


def plan_facts(
    home: Home, plan: PlanRow, archive: Archive | ColumnArchive | None = None, *, items: bool = True
) -> dict[str, Any]:
    """Everything a person decides by.

    archive: as it is declared now; says how long a month that left can be put back.
    items: with the lines of what would be done.
    """
    told = plan.totals
    paused = home.control.retention.paused(plan.system, plan.policy)
    return {
        **plan_summary(plan),
        "describe": told.get("describe"),
        "mode": told.get("mode"),
        "source": told.get("source"),
        "totals": told.get("totals", {}),
        "lines": [_line(item) for item in read_items(home, plan)] if items else [],
        "stays": [_stay(one) for one in told.get("stays", [])],
        "invalid": sorted(told.get("invalid", []), key=lambda one: one["organisation"]),
        "shortened": told.get("shortened", []),
        "undo_window": _undo_window(archive),
        "only": told.get("only"),
        "lacking": told.get("lacking", []),
        "limits_exceeded": told.get("limits_exceeded", []),
        "second_person": bool(told.get("second_person")),
        "paused": paused.words() if paused else None,
        "enabled": archive is not None and enabled_by(archive.enabled, archive.enabled_env, home.environment),
        "approval": approval_facts(home.control.retention.approval_of(plan.id)),
    }


def _undo_window(archive: Archive | ColumnArchive | None) -> str | None:
    """Of a detached month; a value goes back by itself, at any time."""
    return format_duration(archive.undo_window) if isinstance(archive, Archive) and archive.undo_window else None


def _line(item: dict[str, Any]) -> dict[str, Any]:
    """One line of a plan: what would be done with the rows of one organisation."""
    return {
        "unit": item["unit"],
        "act": item["act"],
        "month": item["label"],
        "lower": format_instant(item["lower"]),
        "upper": format_instant(item["upper"]),
        "relation": item["relation"],
        "organisation": item["organisation"] or None,
        "rows": item["rows"],
        "size_bytes": item["size_bytes"],
        "key": item["key"],
        "reason": item["reason"],
    }


def _stay(one: dict[str, Any]) -> dict[str, Any]:
    """One line of what stays: hot, held, or waits."""
    return {
        "why": one["why"],
        "month": one["label"],
        "lower": one["lower"],
        "upper": one["upper"],
        "relation": one["relation"],
        "organisation": one["organisation"] or None,
        "rows": one["rows"],
        "reason": one["reason"],
    }


def execution_facts(done: Execution, home: Home) -> dict[str, Any]:
    """What a run did. done: by act and outcome, of the plan as a whole, as the ledger has it."""
    return {
        **plan_summary(done.plan),
        "state": done.state,
        "outcomes": done.counts,
        "done": _done(home, done.plan),
        "can_be_put_back": sorted({unit.label for unit in _detached(home, done)}),
        "problems": [
            {
                "act": problem["act"],
                "month": problem["label"],
                "organisation": problem["organisation"] or None,
                "outcome": problem["outcome"],
                "detail": problem["detail"],
            }
            for problem in done.problems
        ],
        "message": done.message,
        "seconds": done.seconds,
    }


def _detached(home: Home, done: Execution) -> Iterator[UnitRow]:
    """Units that this plan took out of their table and that are not dropped yet."""
    for unit in home.control.archive.units(done.plan.system, done.plan.policy, ("detached",)):
        if done.counts and unit.left_at is not None and unit.left_at >= done.plan.created_at:
            yield unit


def _done(home: Home, plan: PlanRow) -> list[dict[str, Any]]:
    """act, outcome, lines, rows; the last outcome of each line counts."""
    last: dict[tuple[int, int], tuple[str, str, int]] = {}
    for batch in home.control.retention.acts(plan.id):
        for act in batch.select(["unit", "step", "act", "outcome", "evidence"]).to_pylist():
            rows = json.loads(act["evidence"]).get("rows", 0)
            last[act["unit"], act["step"]] = (act["act"], act["outcome"] or "open", rows)
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for act, outcome, rows in last.values():
        lines, so_far = found.get((act, outcome), (0, 0))
        found[act, outcome] = (lines + 1, so_far + rows)
    return [{"act": act, "outcome": outcome, "lines": lines, "rows": rows}
            for (act, outcome), (lines, rows) in found.items()]  # fmt: skip


@contextmanager
def plan_files(home: Home, plan: PlanRow, archive: Archive | ColumnArchive) -> Iterator[duckdb.DuckDBPyConnection]:
    """The lines of an archive's plan in the shape in which policies' are reviewed (views `steps` and `kept`).

    Rows are named by the table and their month, as on the ledger; they are as old as its end.
    """
    artefact = home.control.get(plan.artefact_id)
    file = home.artefacts.local(artefact.uri or "", artefact.digest) / ITEMS_FILE
    with TemporaryDirectory(prefix="maintain-") as spill, calculator(Path(spill)) as con:
        con.execute(
            f"""CREATE TEMP VIEW steps AS
            SELECT unit, (row_number() OVER ())::INTEGER AS position, act,
                CASE WHEN key IS NOT NULL THEN {literal(archive.store)} END AS store, key,
                nullif(size_bytes, 0) AS size_bytes, upper AS modified_at,
                CASE WHEN key IS NULL THEN {literal(archive.table)} END AS table_name,
                CASE WHEN key IS NULL THEN label END AS row_id, NULL::VARCHAR AS detail,
                concat_ws(', ', nullif(organisation, ''), rows || ' rows') || ': ' || reason AS reason
            FROM read_parquet({literal(file)})"""
        )
        con.execute("CREATE TEMP VIEW kept AS SELECT '' AS item, '' AS rule, '' AS reason WHERE false")
        yield con
