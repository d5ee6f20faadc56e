"""One declared system as assets with their checks: three that look, three for every policy; and their jobs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from maintenance_defs.components import checks, metadata, watching
from maintenance_defs.components.archive_assets import archive_assets, archive_jobs, archive_names
from maintenance_defs.components.archive_upkeep import upkeep_assets, upkeep_jobs
from maintenance_defs.components.declared import Declared, Example
from maintenance_defs.components.growth import growth_asset, growth_job
from maintenance_defs.components.pages import page_assets, page_jobs
from maintenance_defs.components.publications import publication_assets
from maintenance_defs.components.retention_assets import drill_selection, policy_assets, policy_job, without_drill
from maintenance_defs.components.retention_checks import drill_check
from maintenance_defs.components.steps import TAG, Reconcile, Steps, alone, failed, job_name, told
from maintenance_defs.components.words import describe_diff, describe_inventory, describe_references
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references
from maintenance_defs.reporting.report import Report

DATABASE_KINDS = frozenset({"postgres", "postgresql", "sqlite", "mysql", "mariadb", "mssql", "oracle"})
MAX_KINDS = 3  # Dagster's own limit


class SystemExample(Example):
    attributes = """\
  name: shop                              # small letters, digits, _
  description: Product pictures of the shop.
  owners: ["team:shop"]
  database: {url_env: SHOP_DATABASE_URL}  # the NAME of a variable; secrets never stand here
  stores:
    media:
      url_env: SHOP_MEDIA_URL             # s3://bucket, az://account/container, gs://bucket, or a folder
      scopes:                             # exclusive: only this system writes there
        - {prefix: images/, class: product, exclusive: true, patterns: ["images/{product}/{file}"]}
  references:                             # every way in which a row names an object; docs/declare.md
    - {table: public.product_image, id: id, store: media, object: {column: storage_key}}
"""


@dg.scaffold_with(SystemExample)
class MaintainedSystem(Declared[System]):
    """A database and its object stores, compared both ways: inventory, references, orphan_diff."""

    model = System

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return system_definitions(self.declared, self.folder)


def system_definitions(system: System, folder: Path) -> dg.Definitions:
    """The assets, checks and jobs of one system. folder: where its queries' SQL files are."""
    assets = [_inventory(system), _references(system, folder), _orphan_diff(system), *publication_assets(system)]
    selection = dg.AssetSelection.assets(*(asset.key for asset in assets))
    job = dg.define_asset_job(
        job_name(system.name),
        selection=without_drill(system, selection),
        description=f"Reconcile {system.name}: list its stores, then read its database, then compare. "
        + (f"Then write {', '.join(system.publishes)}." if system.publishes else "Reads only."),
        tags={TAG: system.name},
    )
    jobs = [job, *(policy_job(system, name) for name in system.retention), *archive_jobs(system), *upkeep_jobs(system)]
    policies = [asset for name in system.retention for asset in policy_assets(system, name)]
    growth = growth_asset(system)
    policies += [*page_assets(system), growth]
    jobs += [*page_jobs(system), growth_job(system, growth)]
    policies += [asset for name in archive_names(system) for asset in archive_assets(system, name)]
    policies += [asset for name in system.archives for asset in upkeep_assets(system, name)]
    drill = drill_check(system)
    if drill is None:
        return dg.Definitions(assets=[*assets, *policies], jobs=jobs)
    jobs.append(
        dg.define_asset_job(
            job_name(system.name, "restore_drill"),
            selection=drill_selection(system),
            description=f"Can what was quarantined from {system.name} be given back? Restores a canary of our own.",
            tags={TAG: system.name},
        )
    )
    return dg.Definitions(assets=[*assets, *policies], asset_checks=[drill], jobs=jobs)


def _spec(system: System, name: str, description: str, kinds: Sequence[str], deps: Sequence[str] = ()) -> dg.AssetSpec:
    return dg.AssetSpec(
        [system.name, name],
        deps=[[system.name, dep] for dep in deps],
        description=description,
        group_name=system.name,
        owners=list(system.owners),
        tags={TAG: system.name},
        kinds=set(kinds[:MAX_KINDS]),
        metadata={"dagster/column_schema": metadata.COLUMN_SCHEMAS[name]},
    )


def _inventory(system: System) -> dg.AssetsDefinition:
    kinds = ["parquet", *(kind for kind in system.kinds if kind not in DATABASE_KINDS)]

    @dg.multi_asset(
        name=f"{system.name}__inventory",
        specs=[_spec(system, "inventory", describe_inventory(system), kinds)],
        check_specs=checks.inventory_specs(system),
        pool=f"store_{system.name}",
    )
    def inventory(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Steps:
        found = []
        with told(), alone(context, system, home):
            for store in system.stores:
                found.append(take_inventory(system, store, home, run_id=context.run.run_id, as_of=config.instant()))
                _log(context, found[-1])
        listed = any(artefact.verdict == "complete" for artefact in found)
        if listed:
            yield dg.MaterializeResult(metadata=metadata.of_inventories(found))
        yield from checks.of_inventories(system, found)  # after: a check is about the materialisation before it
        if not listed:
            raise failed(found)

    return inventory


def _references(system: System, folder: Path) -> dg.AssetsDefinition:
    kinds = ["parquet", *(kind for kind in system.kinds if kind in DATABASE_KINDS)]

    @dg.multi_asset(
        name=f"{system.name}__references",
        # After inventory: a snapshot must begin when the listings have ended (I4).
        specs=[_spec(system, "references", describe_references(system), kinds, ["inventory"])],
        check_specs=[*checks.references_specs(system), *watching.references_specs(system)],
        pool=f"db_{system.name}",
    )
    def references(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Steps:
        before = home.control.latest(system.name, "references", verdict="complete")
        with told(), alone(context, system, home):
            as_of = config.instant() or _instant_of_run(system, home, context.run.run_id)
            found = take_references(system, home, folder=folder, run_id=context.run.run_id, as_of=as_of)
        _log(context, found)
        complete = found.verdict == "complete"
        if complete:
            yield dg.MaterializeResult(metadata=metadata.of_references(system, found))
        yield from checks.of_references(system, found, before)
        yield from watching.of_references(system, found)
        if not complete:
            raise failed([found])

    return references


def _orphan_diff(system: System) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{system.name}__orphan_diff",
        specs=[_spec(system, "orphan_diff", describe_diff(system), ["parquet", "duckdb"], ["inventory", "references"])],
        check_specs=[*checks.diff_specs(system), *watching.diff_specs(system)],
        pool=f"store_{system.name}",  # it asks the stores again for what seems to be missing
    )
    def orphan_diff(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Steps:
        with told(), alone(context, system, home):
            found = take_orphan_diff(system, home, run_id=context.run.run_id, as_of=config.instant())
            facts = Report.load(system, home, found).facts
        _log(context, found)
        compared = found.uri is not None  # if not, there is no answer; never yesterday's again (M01)
        if compared:
            yield dg.MaterializeResult(metadata=metadata.of_diff(found, facts))
        yield from checks.of_diff(system, facts)
        yield from watching.of_diff(system, found, home, datetime.now(UTC))
        if not compared:
            raise failed([found])

    return orphan_diff


def _instant_of_run(system: System, home: Home, run_id: str) -> datetime | None:
    """The instant that this run's listings had, so that one run is judged as of one instant."""
    newest = [home.control.latest(system.name, "inventory", store) for store in system.stores]
    return min((a.as_of for a in newest if a is not None and a.run_id == run_id), default=None)


def _log(context: dg.AssetExecutionContext, artefact: Artefact) -> None:
    what = f"{artefact.kind} of {artefact.system}{f' ({artefact.name})' if artefact.name else ''}"
    if artefact.verdict == "complete":
        context.log.info(f"{what}: complete, {artefact.row_count:,} rows.")
    else:
        message = artefact.evidence.get("message") or ""
        context.log.warning(f"{what}: {artefact.verdict} ({artefact.reason}). {message}")
