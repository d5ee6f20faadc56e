"""One declared system as three assets with their checks, and the job that runs them in order."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from maintenance_defs.components import checks, metadata
from maintenance_defs.components.declared import Declared, Example
from maintenance_defs.components.words import describe_diff, describe_inventory, describe_references
from maintenance_defs.control.artefacts import Artefact
from maintenance_defs.control.home import Home
from maintenance_defs.core.declaration import System
from maintenance_defs.core.errors import Busy, MaintenanceError, Refused
from maintenance_defs.core.quantities import parse_instant
from maintenance_defs.reconcile.inventory import take_inventory
from maintenance_defs.reconcile.orphan_diff import take_orphan_diff
from maintenance_defs.reconcile.references import take_references
from maintenance_defs.reporting.report import Report

TAG = "maintenance/system"
BUSY_SECONDS = 3600  # a step waits so long for another process that reconciles the same system
RETRIES, RETRY_SECONDS = 2, 30  # of what may be over soon; longer outages are the next run's business
DATABASE_KINDS = frozenset({"postgres", "postgresql", "sqlite", "mysql", "mariadb", "mssql", "oracle"})
MAX_KINDS = 3  # Dagster's own limit
Steps = Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]


class Reconcile(dg.Config):
    """Nothing needs to be filled in: the run is judged as of now."""

    as_of: str | None = Field(
        default=None,
        description="Judge as of this instant, such as 2024-01-15T03:00:00Z; never later than now. "
        "What was written after it is young. Given to inventory, it holds for the whole run.",
    )

    def instant(self) -> datetime | None:
        """Raises Refused for what is no instant."""
        try:
            return parse_instant(self.as_of) if self.as_of else None
        except ValueError:
            # Not repeated: the launchpad takes {env: NAME}, and the log would show what stands in that variable.
            raise Refused(
                "as_of_unreadable",
                "as_of is not an instant. Nothing was read. Write it with its zone, such as '2024-01-15T03:00:00Z'.",
            ) from None


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
    """The assets, checks and job of one system. folder: where its queries' SQL files are."""
    assets = [_inventory(system), _references(system, folder), _orphan_diff(system)]
    job = dg.define_asset_job(
        job_name(system.name),
        selection=[asset.key for asset in assets],
        description=f"Reconcile {system.name}: list its stores, then read its database, then compare. Reads only.",
        tags={TAG: system.name},
    )
    return dg.Definitions(assets=assets, jobs=[job])


def job_name(system: str, run: str = "reconciliation") -> str:
    """What schedules and sensors start."""
    return f"{system}_{run}"


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
        with _told(), _alone(context, system, home):
            for store in system.stores:
                found.append(take_inventory(system, store, home, run_id=context.run.run_id, as_of=config.instant()))
                _log(context, found[-1])
        listed = any(artefact.verdict == "complete" for artefact in found)
        if listed:
            yield dg.MaterializeResult(metadata=metadata.of_inventories(found))
        yield from checks.of_inventories(system, found)  # after: a check is about the materialisation before it
        if not listed:
            raise _failed(found)

    return inventory


def _references(system: System, folder: Path) -> dg.AssetsDefinition:
    kinds = ["parquet", *(kind for kind in system.kinds if kind in DATABASE_KINDS)]

    @dg.multi_asset(
        name=f"{system.name}__references",
        # After inventory: a snapshot must begin when the listings have ended (I4).
        specs=[_spec(system, "references", describe_references(system), kinds, ["inventory"])],
        check_specs=checks.references_specs(system),
        pool=f"db_{system.name}",
    )
    def references(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Steps:
        before = home.control.latest(system.name, "references", verdict="complete")
        with _told(), _alone(context, system, home):
            as_of = config.instant() or _instant_of_run(system, home, context.run.run_id)
            found = take_references(system, home, folder=folder, run_id=context.run.run_id, as_of=as_of)
        _log(context, found)
        complete = found.verdict == "complete"
        if complete:
            yield dg.MaterializeResult(metadata=metadata.of_references(system, found))
        yield from checks.of_references(system, found, before)
        if not complete:
            raise _failed([found])

    return references


def _orphan_diff(system: System) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{system.name}__orphan_diff",
        specs=[_spec(system, "orphan_diff", describe_diff(system), ["parquet", "duckdb"], ["inventory", "references"])],
        check_specs=checks.diff_specs(system),
        pool=f"store_{system.name}",  # it asks the stores again for what seems to be missing
    )
    def orphan_diff(context: dg.AssetExecutionContext, config: Reconcile, home: dg.ResourceParam[Home]) -> Steps:
        with _told(), _alone(context, system, home):
            found = take_orphan_diff(system, home, run_id=context.run.run_id, as_of=config.instant())
            facts = Report.load(system, home, found).facts
        _log(context, found)
        compared = found.uri is not None  # if not, there is no answer; never yesterday's again (M01)
        if compared:
            yield dg.MaterializeResult(metadata=metadata.of_diff(found, facts))
        yield from checks.of_diff(system, facts)
        if not compared:
            raise _failed([found])

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


@contextmanager
def _alone(context: dg.AssetExecutionContext, system: System, home: Home) -> Iterator[None]:
    """Not while another process works on the system; said before it waits (M04)."""
    with ExitStack() as held:
        try:
            held.enter_context(home.control.alone(system.name))
        except Busy:
            context.log.info(f"{system.name} is being reconciled by another process: waiting for it.")
            held.enter_context(home.control.alone(system.name, BUSY_SECONDS))
        yield


@contextmanager
def _told() -> Iterator[None]:
    """Our own errors end the step with their text; only what may be over soon is tried again."""
    try:
        yield
    except MaintenanceError as error:
        if error.transient:
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from error
        raise dg.Failure(str(error), allow_retries=False) from None


def _failed(artefacts: Sequence[Artefact]) -> dg.Failure | dg.RetryRequested:
    """Why there is nothing to materialise; a request to try again where all of it may be over soon."""
    message = "\n".join(str(a.evidence.get("message") or a.reason) for a in artefacts)
    if all(a.evidence.get("transient") for a in artefacts):
        retry = dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS)
        retry.__cause__ = MaintenanceError(message)  # else the page only says that it was tried often enough
        return retry
    return dg.Failure(message, allow_retries=False)
