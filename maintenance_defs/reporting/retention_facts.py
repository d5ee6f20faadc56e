"""What is known of a plan, its execution, the ledger and one key's history, as JSON of a stable shape.

Belongs here: reading. Not here: words (retention_text.py), deciding (retention/).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import ACTS, Approval, Entry, PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.policy import Move, Policy
from maintenance_defs.core.quantities import format_duration, format_instant
from maintenance_defs.reconcile.calculator import calculator, literal, written_instant
from maintenance_defs.retention.gate import Execution
from maintenance_defs.retention.review import plan_files

SAMPLE = 10  # units, acts or entries on a screen; the rest is in the files
PROBLEMS = 20
OPEN = ("planned", "approved", "partial", "executing")


def plan_facts(home: Home, plan: PlanRow, policy: Policy | None = None, *, items: int = SAMPLE) -> dict[str, Any]:
    """Everything a person decides by.

    policy: as it is declared now; says what becomes of the objects.
    items: so many units are told with their steps.
    """
    totals = plan.totals
    with plan_files(home, plan) as con:
        steps = _rows(
            con,
            f"""SELECT unit, act, store, key, size_bytes, {written_instant("modified_at")} AS modified_at,
                table_name AS "table", row_id, detail, reason
            FROM steps WHERE unit < {items:d} ORDER BY unit, position, store, key, table_name, row_id""",
        )
        acts = _rows(
            con,
            'SELECT act, store, table_name AS "table", count(*) AS count, coalesce(sum(size_bytes), 0)::BIGINT '
            "AS size_bytes FROM steps GROUP BY ALL ORDER BY act, store, table_name",
        )
        kept = _rows(
            con,
            """SELECT rule, count(*) AS count, min(item) AS example, arg_min(reason, item) AS reason
            FROM (SELECT item, min(rule) AS rule, arg_min(reason, rule) AS reason FROM kept GROUP BY item)
            GROUP BY rule ORDER BY count DESC, rule""",
        )
    paused = home.control.retention.paused(plan.system, plan.policy)
    return {
        **plan_summary(plan),
        "describe": totals.get("describe"),
        "mode": totals.get("mode"),
        "timings": totals.get("timings", {}),
        "preset": totals.get("preset"),
        "groups": list(plan.groups),
        "group_column": totals.get("group_column"),
        "population": totals.get("population", {}),
        "acts": acts,
        "quarantine_for": format_duration(policy.quarantine_for) if policy else None,
        "moves_to": policy.act.objects.move_to if policy and isinstance(policy.act.objects, Move) else None,
        "kept": kept,
        "costs": totals.get("costs", []),
        "cascades": totals.get("cascades", {}),
        "guards": totals.get("guards", []),
        "limits_exceeded": totals.get("limits_exceeded", []),
        "cutoffs": totals.get("cutoffs", {}),
        "flags": totals.get("flags", []),
        "lacking": totals.get("lacking", []),
        "second_person": bool(totals.get("second_person")),
        "paused": paused.words() if paused else None,
        "approval": approval_facts(home.control.retention.approval_of(plan.id)),
        "items": steps,
    }


def plan_summary(plan: PlanRow) -> dict[str, Any]:
    """A plan in a list."""
    return {
        "plan": plan.id,
        "kind": plan.totals.get("kind", "policy"),
        "system": plan.system,
        "policy": plan.policy,
        "state": plan.state,
        "digest": plan.digest,
        "short_digest": plan.short_digest,
        "as_of": format_instant(plan.as_of),
        "created_at": _second(plan.created_at),
        "expires_at": _second(plan.expires_at),
        "finished_at": plan.finished_at and _second(plan.finished_at),
        "units": plan.units,
        "objects": plan.objects,
        "rows": plan.rows,
        "size_bytes": plan.size_bytes,
        "outcomes": plan.totals.get("outcomes"),
        "message": plan.message,
    }


def approval_facts(approval: Approval | None) -> dict[str, Any] | None:
    if approval is None:
        return None
    return {
        "actor": approval.actor,
        "second_actor": approval.second_actor,
        "reason": approval.reason,
        "approved_at": _second(approval.approved_at),
        "expires_at": _second(approval.expires_at),
        "count": approval.count,
        "all_units": approval.units is None,
        "accept_limits": approval.accept_limits,
        "standing": approval.standing_id is not None,
        "complete": approval.complete,
    }


def execution_facts(done: Execution) -> dict[str, Any]:
    """What a run did."""
    return {
        **plan_summary(done.plan),
        "state": done.state,
        "outcomes": done.counts,
        "by_kind": done.by_kind,
        "restored_again": done.restored,
        "problems": [
            {name: problem[name] for name in ("unit", "act", "store", "key", "row_id", "outcome", "detail")}
            | {"table": problem["table_name"]}
            for problem in done.problems
        ],
        "message": done.message,
        "seconds": done.seconds,
    }


def ledger_facts(home: Home, plan: PlanRow, *, acts: int = SAMPLE) -> dict[str, Any]:
    """One plan from consent to outcomes, as the ledger has it, and whether the ledger stands as it was written."""
    state = home.control.retention
    columns = 'seq, unit, act, store, key, "table", row_id, size_bytes, actor, ' + written_instant('"at"') + ' AS "at"'
    with TemporaryDirectory(prefix="maintain-") as spill, calculator(Path(spill)) as con:
        con.register("incoming", pa.RecordBatchReader.from_batches(ACTS, state.acts(plan.id)))
        con.execute("CREATE TEMP TABLE ledger AS SELECT * FROM incoming")
        counts = _rows(
            con,
            "SELECT act, coalesce(outcome, 'open') AS outcome, count(*) AS count, "
            "coalesce(sum(size_bytes), 0)::BIGINT AS size_bytes FROM ledger GROUP BY 1, 2 ORDER BY min(seq)",
        )
        told = f"""SELECT {columns}, coalesce(outcome, 'open') AS outcome, detail, evidence ->> 'reason' AS reason
            FROM ledger {{}} ORDER BY seq LIMIT {{}}"""
        shown = _rows(con, told.format("", acts))
        good = ", ".join(literal(outcome) for outcome in SUCCESS)
        problems = _rows(con, told.format(f"WHERE coalesce(outcome, 'open') NOT IN ({good})", PROBLEMS))
    broken = state.verify_chain(plan.system)
    return {
        **plan_summary(plan),
        "approval": approval_facts(state.approval_of(plan.id)),
        "ledger": counts,
        "acts": shown,
        "problems": problems,
        "chain": None if broken is None else {"plan": broken.plan_id, "seq": broken.seq, "what": broken.what},
    }


def history_facts(home: Home, system: str, key: str) -> dict[str, Any]:
    """Everything that retention did to a key, oldest first, and the holds that cover it now."""
    state = home.control.retention
    removed = []
    for entry in state.quarantined(system, state=None, key=key):
        removed.append(entry_facts(entry) | {"approval": approval_facts(state.approval_of(entry.plan_id))})
    hold = state.covering(system).hold_on(None, key=key)
    return {"system": system, "key": key, "acts": removed, "hold": hold.words() if hold else None}


def entry_facts(entry: Entry) -> dict[str, Any]:
    """Something that was removed, and what became of it."""
    return {
        "plan": entry.plan_id,
        "policy": entry.policy,
        "store": entry.store,
        "key": entry.key,
        "table": entry.table,
        "row_id": entry.row_id,
        "size_bytes": entry.size_bytes,
        "outcome": entry.outcome,
        "state": entry.state,
        "reason": entry.evidence.get("reason"),
        "removed_at": _second(entry.removed_at),
        "purge_at": entry.purge_at and _second(entry.purge_at),
        "ended_at": entry.ended_at and _second(entry.ended_at),
    }


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = con.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _second(at: datetime) -> str:
    return format_instant(at.replace(microsecond=0))
