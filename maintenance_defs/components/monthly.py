"""What a month was like, as an asset of one partition a month (S1-31, S1-43)."""

from datetime import datetime, timedelta

import dagster as dg

from maintenance_defs.components import metadata
from maintenance_defs.components.metadata import plain, table
from maintenance_defs.components.steps import TAG, job_name, told
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.quantities import format_cost, format_size
from maintenance_defs.reporting.monthly import month_facts, month_lines, parse_month

NAME = "monthly_report"
FORMAT = "%Y-%m"
FIRST = "2025-01"  # nothing was recorded before; Dagster wants a first month
WORDS = 900  # characters of the page; the command tells the rest


def monthly_asset(system: System) -> dg.AssetsDefinition:
    """`monthly_report`: reads the control database only."""
    spec = dg.AssetSpec(
        [system.name, NAME],
        description=f"What is on record of {system.name} in a month: how often it was reconciled, the size and cost of "
        f"its stores, how long reading its database took, acts by hand, and how often its checks failed. The same as "
        f"`maintain report {system.name} --month`.",
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name},
    )

    @dg.multi_asset(
        name=f"{system.name}__{NAME}",
        specs=[spec],
        partitions_def=dg.MonthlyPartitionsDefinition(
            start_date=FIRST, fmt=FORMAT, end_offset=1
        ),  # also this one so far
    )
    def monthly_report(context: dg.AssetExecutionContext, home: dg.ResourceParam[Home]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # nothing passes by value
        with told():
            facts = month_facts(system, home, parse_month(context.partition_key))
        lines = [plain(line.strip()) for line in month_lines(facts)]
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
        reading = facts["reading"]
        return dg.MaterializeResult(
            metadata={
                "summary": dg.MetadataValue.md(metadata.markdown([f"- {line}" for line in lines])[:WORDS]),
                "stores": table(("store", "mean size", "listings", "cost"), stores),
                "by_hand": facts["plans"]["by_hand"],
                "executed": facts["plans"]["executed"],
                **({"cost": round(sum(costs), 2)} if costs else {}),
                **({"reading_seconds": reading["median_seconds"]} if reading else {}),
                "checks_failed": sum(check["failed"] > 0 for check in facts["checks"]),
                "all_of_it": f"maintain report {system.name} --month {facts['month']}",
            }
        )

    return monthly_report


def monthly_job(system: System, asset: dg.AssetsDefinition) -> object:
    """The job of one month."""
    return dg.define_asset_job(
        job_name(system.name, NAME),
        selection=dg.AssetSelection.assets(asset.key),
        description=f"Tell what is on record of {system.name} in one month. Reads our own tables only.",
        tags={TAG: system.name},
    )


def month_before(tick: datetime) -> str:
    """The partition of the month that ended before the tick's own began."""
    return (tick.replace(day=1) - timedelta(days=1)).strftime(FORMAT)
