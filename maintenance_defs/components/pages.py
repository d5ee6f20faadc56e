"""What a day, a week and a month were like, as assets with a partition for each (S1-29, S1-30, S1-31, S1-43)."""

from datetime import UTC, date, datetime

import dagster as dg

from maintenance_defs.components import metadata
from maintenance_defs.components.metadata import plain, table
from maintenance_defs.components.steps import TAG, job_name, told
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.periods import FORMAT, Kind, Period
from maintenance_defs.core.quantities import format_cost, format_size
from maintenance_defs.core.triggers import REPORTS
from maintenance_defs.declarations import deployment_root, schedules_of
from maintenance_defs.reporting.pages import page_facts
from maintenance_defs.reporting.pages_text import page_lines
from maintenance_defs.reporting.runs import RECONCILIATION

FIRST: dict[Kind, str] = {"day": "2025-01-01", "week": "2025-01-06", "month": "2025-01"}  # Dagster wants a first one
WORDS = 900  # characters of the page; the command tells the rest
TELLS: dict[Kind, str] = {
    "day": "how often it ran of how often it was due, what failed, its last success, size and orphans now",
    "week": "how often it ran, what its queries answered, how size and cost changed, how long its database took, and "
    "whether its checks held",
    "month": "how often it was reconciled, the size and cost of its stores, how long reading its database took, acts "
    "by hand, and how often its checks failed",
}


def page_assets(system: System) -> list[dg.AssetsDefinition]:
    """`daily_report`, `weekly_report` and `monthly_report`: they read the control database only."""
    return [_asset(system, name, kind) for name, kind in REPORTS.items()]


def page_jobs(system: System) -> list[object]:
    """One job a page, of one partition."""
    return [
        dg.define_asset_job(
            job_name(system.name, name),
            selection=dg.AssetSelection.assets(dg.AssetKey([system.name, name])),
            description=f"Tell what is on record of {system.name} in one {kind}. Reads our own tables only.",
            tags={TAG: system.name},
        )
        for name, kind in REPORTS.items()
    ]


def partition_before(name: str, tick: datetime) -> str:
    """The partition of the day, week or month that ended before the tick's own began, by the tick's own zone."""
    kind = REPORTS[name]
    return Period.before(kind, date(tick.year, tick.month, tick.day)).since.strftime(FORMAT[kind])


def _partitions(kind: Kind) -> dg.TimeWindowPartitionsDefinition:
    """With the one that is not over: what is known of it so far."""
    if kind == "day":
        return dg.DailyPartitionsDefinition(start_date=FIRST[kind], fmt=FORMAT[kind], end_offset=1)
    if kind == "week":
        return dg.WeeklyPartitionsDefinition(start_date=FIRST[kind], fmt=FORMAT[kind], day_offset=1, end_offset=1)
    return dg.MonthlyPartitionsDefinition(start_date=FIRST[kind], fmt=FORMAT[kind], end_offset=1)


def _asset(system: System, name: str, kind: Kind) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        [system.name, name],
        description=f"What is on record of {system.name} in a {kind}: {TELLS[kind]}. The same as "
        f"`maintain report {system.name} --{kind}`.",
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name},
    )

    @dg.multi_asset(name=f"{system.name}__{name}", specs=[spec], partitions_def=_partitions(kind))
    def page(context: dg.AssetExecutionContext, home: dg.ResourceParam[Home]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # nothing passes by value
        with told():
            schedules = schedules_of(deployment_root(home.environment), system.name)
            period = Period.parse(kind, context.partition_key)
            facts = page_facts(system, home, period, schedules=schedules, now=datetime.now(UTC))
        lines = [plain(line.strip()) for line in page_lines(facts)]
        costs = [store["cost"] for store in facts["stores"] if store["cost"] is not None]
        stores = [
            (
                store["name"],
                format_size(store["mean_bytes"]) if store["listings"] else "not listed",
                f"{store['listings']:,}",
                "" if store["cost"] is None else format_cost(store["cost"]),
            )
            for store in facts["stores"]
        ]
        reading, orphans = facts["reading"], facts["orphans"]
        [reconciled] = [one for one in facts["runs"] if one["name"] == RECONCILIATION]
        percent = reconciled["success_percent"]
        return dg.MaterializeResult(
            metadata={
                "summary": dg.MetadataValue.md(metadata.markdown([f"- {line}" for line in lines])[:WORDS]),
                "stores": table(("store", "mean size", "listings", "cost"), stores),
                "runs_failed": sum(one["failed"] for one in facts["runs"]),
                **({"success_percent": percent} if percent is not None else {}),
                **({"orphans": orphans["last"]} if orphans else {}),
                "by_hand": facts["plans"]["by_hand"],
                "executed": facts["plans"]["executed"],
                **({"cost": round(sum(costs), 2)} if costs else {}),
                **({"reading_seconds": reading["median_seconds"]} if reading else {}),
                "checks_failed": sum(check["failed"] > 0 for check in facts["checks"]),
                "all_of_it": f"maintain report {system.name} --{kind} {period.label}",
            }
        )

    return page
