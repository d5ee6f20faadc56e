"""How months, plans and executions of an archive look in the UI."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from maintenance_defs.archive.cycle import Cycle
from maintenance_defs.archive.gate import Execution
from maintenance_defs.archive.units.months import MonthState
from maintenance_defs.archive.units.versions import JOINED
from maintenance_defs.components import metadata
from maintenance_defs.components.metadata import AMBER, GREEN, GREY, RED, plain, table
from maintenance_defs.components.retention_metadata import colour, ledger_table, short
from maintenance_defs.control.home import Home
from maintenance_defs.control.retention import PlanRow
from maintenance_defs.control.retention.ledger import SUCCESS
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_instant, format_size
from maintenance_defs.reporting.text import count

ACTS = {
    "archive": "archive", "expire_rows": "delete, over time", "drop": "drop, detached", "expire_file": "delete file",
    "archive_value": "archive", "expire_value": "delete, over time",
}  # fmt: skip
STAYS = ("hot", "held", "waits")


def of_month(system: System, name: str, month: MonthState, home: Home, nothing_new: bool) -> dict[str, Any]:
    """One month, as it is recorded: size before and after, and where its rows are."""
    words = [f"**{count(month.rows, 'row')}** in {count(len(month.files), 'file')}, {format_size(month.size_bytes)}."]
    if nothing_new:
        words.append("**Nothing was exported**; the month was archived earlier.")
    words += [f"- {plain(said)}" for said in month.words()]
    apart = sum(g["rows"] for unit in month.units for g in unit.groups or [] if not g["kept"])
    if apart:
        words.append(f"- {count(apart, 'row')} of it not archived: over their time.")
    bars = [("in PostgreSQL", month.heap_bytes, GREY), ("as Parquet", month.size_bytes, GREEN)]
    ratio = {"ratio": round(month.size_bytes / month.heap_bytes, 3)} if month.heap_bytes and month.files else {}
    before = {"heap_bytes": month.heap_bytes} if month.heap_bytes else {}
    live = home.control.archive.files(system.name, name)
    return {
        **metadata.told([short(words)], [bar for bar in bars if bar[1]], format_size),
        "dagster/partition_row_count": month.rows,
        "dagster/row_count": sum(file.rows for file in live),
        "state": ", ".join(dict.fromkeys(unit.state for unit in month.units)),
        "rows": month.rows,
        "files": len(month.files),
        "size_bytes": month.size_bytes,
        **before,
        **ratio,
        "seconds": month.seconds,
        **({"dagster/column_schema": schema} if (schema := _column_schema(system, name, month, home)) else {}),
        **({"objects": table(("whose", "rows", "size", "object"), _objects(month))} if month.files else {}),
    }


def of_plans(plans: Sequence[tuple[PlanRow, str]], home: Home) -> dict[str, Any]:
    """What would leave the table, and what the archive: the page that a person approves from.

    plans: the removal with what comes next, then the expiry.
    """
    (removal, next_step), (expiry, then) = plans
    facts = removal.totals
    totals = facts["totals"]
    words = [f"**{amount(removal)}**."]
    words += [f"**{amount(expiry)}**."] if expiry.units else []
    stays = [(why, totals[f"{why}_rows"]) for why in STAYS] + [("undated", totals["undated_rows"])]
    words += [f"{count(n, 'row')} {'stays' if n == 1 else 'stay'}: {why}." for why, n in stays if n]
    words += [f"- missing: {plain(table)}; apply the migration first" for table in facts["lacking"]]
    words += [f"- shorter than before: {plain(said)}" for said in (*facts["shortened"], *expiry.totals["shortened"])]
    words += [f"- not understood, kept longer: {plain(i['organisation'])} {plain(i['said'])}" for i in facts["invalid"]]
    bars = [("leave", totals["archive_rows"], AMBER), ("delete, over time", totals["expire_rows_rows"], RED)]
    bars += [(why, n, GREEN) for why, n in stays]
    lines = [*facts["lines"], *expiry.totals["lines"]]
    shown = [(line["label"], line["organisation"] or "all", ACTS[line["act"]], f"{line['rows']:,}") for line in lines]
    of_values = facts.get("of") == "values"
    listed, header = ("values", ("column", "whose", "what", "values")) if of_values else (
        "months", ("month", "whose", "what", "rows")
    )  # fmt: skip
    asked = {
        "expiry_count": expiry.units, "expiry_digest": expiry.short_digest, "expiry_plan": expiry.id,
        "expiry_next": then,
    } if expiry.units else {}  # fmt: skip
    return {
        **metadata.told([short(words)], [bar for bar in bars if bar[1]], lambda number: f"{number:,}"),
        "count": removal.units,
        "digest": removal.short_digest,
        "plan": removal.id,
        "next": next_step,
        **asked,
        **({listed: table(header, shown)} if shown else {}),
        "rows": removal.rows,
        "as_of": format_instant(removal.as_of.replace(microsecond=0)),
        "expires_at": format_instant(removal.expires_at.replace(microsecond=0)),
    }


def amount(plan: PlanRow) -> str:
    """'3 units: 4 rows would leave the table for the archive, 1 row over its time would be deleted from the table'"""
    totals = plan.totals["totals"]
    thing, place = ("value", "their rows") if plan.totals.get("of") == "values" else ("row", "the table")
    said = [
        (totals["archive_rows"], f"would leave {place} for the archive"),
        (totals["expire_rows_rows"], "over time would be deleted from the table"),
        (totals["drop_rows"], "of detached months would be dropped"),
        (totals["expire_file_rows"], "over time would be deleted from the archive"),
    ]
    parts = [f"{count(rows, thing)} {what}" for rows, what in said if rows]
    if plan.totals.get("only") == "expiry" and not plan.units:
        return f"No archived {thing} is over its time"
    if not plan.units:
        return f"Nothing would leave {place}"
    return f"{count(plan.units, 'unit')}: {', '.join(parts) or 'an empty month'}"


def of_waiting(cycle: Cycle) -> dict[str, Any]:
    """A cycle that carried out nothing: it waits for something, or there was nothing to do."""
    return {
        "summary": dg.MetadataValue.md(metadata.markdown([plain(cycle.message)])),
        "state": cycle.stopped or "",
        "plan": cycle.plan.id,
        "succeeded": 0,
    }


def of_cycle(cycle: Cycle, home: Home) -> dict[str, Any]:
    """Outcomes of each act, what did not go as planned and how to try again, the first lines of the ledger."""
    done = cycle.execution
    if done is None:
        return of_waiting(cycle)
    steps = sum(done.counts.values())
    words = [f"**{succeeded(done):,} of {count(steps, 'step')}** did what was planned ({done.state})."]
    words += [plain(done.message)] if done.message else []
    bars = [(outcome.replace("_", " "), number, colour(outcome)) for outcome, number in done.counts.items()]
    outcomes = [
        (ACTS[act], outcome.replace("_", " "), f"{number:,}")
        for act, found in sorted(done.by_act.items())
        for outcome, number in sorted(found.items())
    ]
    problems = [(f"{p['label']} {p['organisation']}", p["outcome"], p["detail"] or "") for p in done.problems]
    given = home.control.retention.approval_of(done.plan.id)
    retry = {"retry": f"maintain apply {done.plan.short_digest}"} if done.state != "done" else {}
    return {
        **metadata.told([short(words)], bars, lambda number: f"{number:,}"),
        "state": done.state,
        "succeeded": succeeded(done),
        "outcomes": table(("what", "outcome", "steps"), outcomes),
        **({"not_done": table(("what", "outcome", "why"), problems)} if problems else {}),
        **retry,
        "ledger": ledger_table(home, done.plan, steps),
        **({"approved_by": f"{given.actor}: {given.reason}"} if given else {}),
        "plan": done.plan.id,
        "seconds": done.seconds,
        "all_of_it": f"maintain report {done.plan.system} --plan {done.plan.short_digest}",
    }


def succeeded(done: Execution) -> int:
    return sum(number for outcome, number in done.counts.items() if outcome in SUCCESS)


def _objects(month: MonthState) -> list[tuple[str, ...]]:
    return [(file.label, f"{file.rows:,}", format_size(file.size_bytes), file.key) for file in month.files]


def _column_schema(system: System, name: str, month: MonthState, home: Home) -> dg.TableSchema | None:
    """The columns of the month's newest files, by their types in PostgreSQL."""
    version = max((file.schema_version for file in month.files), default=None)
    if version is None:
        return None
    columns: Sequence[Mapping[str, Any]] = home.control.archive.schemas(system.name, name)[version]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column["name"],
                column.get("type_name", "text"),
                description=f"Of {column[JOINED]}, joined when the rows were exported." if JOINED in column else None,
                constraints=dg.TableColumnConstraints(nullable=not column.get("not_null", False)),
            )
            for column in columns
        ]
    )
