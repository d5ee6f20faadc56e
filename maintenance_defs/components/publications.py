"""What a reconciliation tells the application, as assets: each writes one table of ours in the system's database."""

from typing import Any

import dagster as dg

from maintenance_defs.components.steps import TAG, alone, told
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.retention.publishing import publish

STATES = ("ok", "broken", "unknown")


def publication_assets(system: System) -> list[dg.AssetsDefinition]:
    """One asset for each of the system's publications."""
    return [_publication(system, name) for name in system.publishes]


def _publication(system: System, name: str) -> dg.AssetsDefinition:
    one = system.publishes[name]
    spec = dg.AssetSpec(
        [system.name, name],
        skippable=True,
        deps=[[system.name, "orphan_diff"]],
        description=f"{one.describe}\n\nWritten into `{one.table}` after each complete reconciliation. Rows are added "
        f"and brought up to date, none is removed; nothing is written while a reconciliation is not complete.",
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name},
        kinds={kind for kind in system.kinds if kind in ("postgres", "sqlite")} | {"table"},
    )

    @dg.multi_asset(name=f"{system.name}__{name}", specs=[spec], pool=f"db_{system.name}")
    def publication(context: dg.AssetExecutionContext, home: dg.ResourceParam[Home]) -> Any:
        with told(), alone(context, system, home):
            found = publish(system, home, only=name)[name]
        context.log.info(found.words())
        if found.message is not None:  # a table that is not there yet is no failure of the reconciliation
            yield dg.AssetObservation([system.name, name], metadata={"why": dg.MetadataValue.text(found.message)})
            return
        counts = {state: found.counts.get(state, 0) for state in STATES}
        yield dg.MaterializeResult(metadata={"dagster/row_count": sum(counts.values()), **counts})

    return publication
