"""How plans, approvals and executions look in the UI."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import dagster as dg
import pyarrow.parquet as pq

from maintenance_defs.components import metadata
from maintenance_defs.components.metadata import AMBER, GREEN, RED, TABLE_ROWS, day, plain, table
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import Approval, PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_instant, format_size
from maintenance_defs.reporting.retention_text import RULES, cascade_words, cost_words, only_words
from maintenance_defs.reporting.text import count
from maintenance_defs.retention.burning_in import burn_ins
from maintenance_defs.retention.choosing import STEPS_FILE
from maintenance_defs.retention.cycle import Cycle
from maintenance_defs.retention.gate import Execution

NARROW = 40  # characters of what a line is about
WORDS = 420  # characters of a summary that leave room for its chart


def of_plan(system: System, plan: PlanRow, artefact: Artefact, home: Home, next_step: str) -> dict[str, Any]:
    """What would go and what stays: the page that a person approves from."""
    facts = plan.totals
    words = [f"**{amount(plan)}** would go: {plain(facts['describe'])}." if plan.units else "**Nothing would go.**"]
    words += [f"Planned was only {plain(only_words(plan.groups, facts['group_column']))}."] if plan.groups else []
    kept = sum(facts["kept"].values())
    words += [f"{count(kept, 'item stays', 'items stay')}."] if kept else []
    words += [f"- by the database itself: {plain(said)}" for said in cascade_words(facts["cascades"])]
    words += [f"- {plain(cost_words(cost))}" for cost in facts.get("costs", ())]
    words += [f"- **limit**: {plain(said)}" for said in facts["limits_exceeded"]]
    words += [f"- {plain(flag)}" for flag in facts["flags"]]
    words += [f"- missing: {plain(column)}; apply the migration first" for column in facts["lacking"]]
    bars = [("go", plan.units, RED)]
    bars += [(RULES.get(rule, rule), n, GREEN) for rule, n in facts["kept"].items()]
    timings = ", ".join(f"{name} {value}" for name, value in facts["timings"].items() if name != "enabled")
    return {
        **metadata.told([short(words)], [bar for bar in bars if bar[1]], lambda number: f"{number:,}"),
        "dagster/row_count": artefact.row_count,
        "count": plan.units,
        "digest": plan.short_digest,
        "plan": plan.id,
        "next": next_step,
        "size_bytes": plan.size_bytes,
        "items": table(("what", "size", "dated", "act"), _first_steps(artefact, home), artefact.row_count),
        **(
            {"kept": table(("why", "items"), [(RULES.get(r, r), f"{n:,}") for r, n in facts["kept"].items()])}
            if kept
            else {}
        ),
        "as_of": format_instant(plan.as_of.replace(microsecond=0)) + (f" ({timings})" if timings else ""),
        "expires_at": format_instant(plan.expires_at.replace(microsecond=0)),
        "burn_in": next(one.words() for one in burn_ins(system, home, datetime.now(UTC)) if one.policy == plan.policy),
        **metadata.places([artefact]),
    }


def amount(plan: PlanRow) -> str:
    """'4 units: 4 objects, 4 rows, 1.2 MB'."""
    parts = [count(n, what) for n, what in ((plan.objects, "object"), (plan.rows, "row")) if n]
    parts += [format_size(plan.size_bytes)] if plan.objects else []
    return f"{count(plan.units, 'unit')}: {', '.join(parts)}"


def of_approval(plan: PlanRow, approval: Approval, standing: bool) -> dict[str, Any]:
    """Who said yes to what. The truth is the control database's row."""
    words = [f"**{plain(approval.actor)}** approved {count(approval.count, 'unit')} of plan `{plan.short_digest}`."]
    if not approval.complete:
        words.append("A second person must approve the same before it may be executed.")
    if standing:
        words.append("Later plans of this policy may act by themselves until its declaration changes.")
    if approval.accept_limits:
        words.append("Its limits were looked at and accepted, once.")
    return {
        "summary": dg.MetadataValue.md(metadata.markdown(words)),
        "plan": plan.id,
        "digest": plan.short_digest,
        "count": approval.count,
        "actor": approval.actor,
        "reason": approval.reason,
        "approved_at": format_instant(approval.approved_at.replace(microsecond=0)),
        "expires_at": format_instant(approval.expires_at.replace(microsecond=0)),
    }


def of_nothing(cycle: Cycle) -> dict[str, Any]:
    """A cycle that executed nothing: there was nothing to do, or it waits for something."""
    return {
        "summary": dg.MetadataValue.md(metadata.markdown([plain(cycle.message)])),
        "state": cycle.stopped or "",
        "plan": cycle.plan.id,
        "succeeded": 0,
    }


def of_execution(done: Execution, approval: Approval | None, home: Home) -> dict[str, Any]:
    """Outcomes, what did not go as planned, and the first lines of the ledger."""
    plan = done.plan
    steps = sum(done.counts.values())
    words = [f"**{done.succeeded:,} of {count(steps, 'step')}** did what was planned ({done.state})."]
    if done.restored:
        words.append(f"{count(done.restored, 'object')} came back: a row named it meanwhile.")
    if done.message:
        words.append(plain(done.message))
    bars = [(name.replace("_", " "), number, colour(name)) for name, number in done.counts.items()]
    outcomes = [
        (kind, outcome.replace("_", " "), f"{number:,}")
        for kind, found in sorted(done.by_kind.items())
        for outcome, number in sorted(found.items())
    ]
    problems = [(problem["key"] or f"{problem['table_name']} {problem['row_id']}", problem["outcome"],
                 problem["detail"] or "") for problem in done.problems]  # fmt: skip
    return {
        **metadata.told([short(words)], bars, lambda number: f"{number:,}"),
        "state": done.state,
        "succeeded": done.succeeded,
        "outcomes": table(("what", "outcome", "steps"), outcomes),
        **({"not_done": table(("what", "outcome", "why"), problems)} if problems else {}),
        "ledger": ledger_table(home, plan, steps),
        **({"approved_by": f"{approval.actor}: {approval.reason}"} if approval else {}),
        "plan": plan.id,
        "seconds": done.seconds,
        "undo": f"maintain restore {plan.system} {plan.short_digest}",
        "all_of_it": f"maintain report {plan.system} --plan {plan.short_digest}",
    }


def ledger_table(home: Home, plan: PlanRow, steps: int) -> dg.TableMetadataValue:
    lines = (line for batch in home.control.retention.acts(plan.id) for line in batch.to_pylist())
    first = [
        (
            f"{line['seq']}",
            _narrow(line["key"] or f"{(line['table'] or '').rpartition('.')[2]} {line['row_id']}"),
            line["outcome"] or "not known",
            f"{line['ended_at']:%H:%M:%S}" if line["ended_at"] else "",
        )
        for line in islice(lines, TABLE_ROWS)
    ]
    return table(("no", "what", "outcome", "at"), first, max(steps, len(first)))


def _first_steps(artefact: Artefact, home: Home) -> list[tuple[str, ...]]:
    """What stands first in the plan's own file: an object by its key, a row by table and id."""
    if not artefact.row_count or not artefact.uri:
        return []
    folder = home.artefacts.local(artefact.uri)
    columns = ["act", "key", "size_bytes", "modified_at", "table_name", "row_id"]
    batches = pq.ParquetFile(folder / STEPS_FILE).iter_batches(TABLE_ROWS, columns=columns)
    found: Iterable[dict[str, Any]] = next(batches).to_pylist()
    return [
        (
            _narrow(step["key"] or f"{step['table_name'].rpartition('.')[2]} {step['row_id']}"),
            format_size(step["size_bytes"]) if step["size_bytes"] is not None else "",
            day(step["modified_at"].isoformat()) if step["modified_at"] else "",
            step["act"].replace("_", " "),
        )
        for step in found
    ]


def _narrow(text: str) -> str:
    """Beside three other columns: the end tells most, the beginning where it lies."""
    return text if len(text) <= NARROW else f"{text[:12]}…{text[-(NARROW - 13) :]}"


def colour(outcome: str) -> str:
    if outcome in SUCCESS:
        return GREEN
    return RED if outcome in ("failed", "unknown") else AMBER


def short(words: Sequence[str]) -> str:
    """Words that leave room for the chart; the files and the command hold the rest."""
    text = "\n".join(words)
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"
